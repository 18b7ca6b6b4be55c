"""Tensors → a safetensors file, whole or not at all, the same bytes for the same tensors. Reading is in weights.py."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reference_models.errors import UserError
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import torch


def check_output(output: Path) -> None:
    what = f"`--output {output}`"
    if output.suffix.lower() != ".safetensors" or output.is_dir():
        raise UserError(f"{what}: not the name of a safetensors file", "FILE.safetensors", "Give such a name")
    if not output.parent.is_dir():
        raise UserError(f"{what}: its folder does not exist", "an existing folder", f"mkdir -p {output.parent}")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UserError(f"{what}: its folder is not writable", "a writable folder", "Choose another one")


def save_weights(output: Path, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> None:
    """Writes a network's tensors as a safetensors file; equal tensors make equal bytes. All but whole numbers, such as
    the counters of batch normalisation, become float32.

    Raises:
        UserError: it cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save

    check_output(output)
    plain = {name: tensor.detach().cpu() for name, tensor in state.items()}
    plain |= {name: tensor.float() for name, tensor in plain.items() if tensor.is_floating_point()}
    arrays = {name: np.array(tensor.numpy(), order="C") for name, tensor in plain.items()}
    write_weights(output, in_fixed_order(save(arrays, {"model": spec.name})))


def in_fixed_order(data: bytes) -> bytes:
    """The same safetensors file with a sorted header: safetensors <= 0.8 writes its metadata in random order."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the data stay aligned
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


_WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}
"""Types of the safetensors format → bytes."""


def looks_whole(path: Path) -> bool:
    """Whether a safetensors file has a header whose tensors fill, one behind the other, all bytes behind it.

    The library knows better what makes a file, but imports NumPy to open one, which takes longer than all else that
    the command line does before it refuses.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        behind = path.stat().st_size - 8 - length
        if behind < 0:
            return False
        try:
            tensors = [entry for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"]
            end = 0
            for entry in sorted(tensors, key=lambda entry: entry["data_offsets"]):
                start, stop = entry["data_offsets"]
                if start != end or stop - start != math.prod(entry["shape"]) * _WIDTHS[entry["dtype"]]:
                    return False
                end = stop
            return bool(tensors) and end == behind
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return False


def write_weights(output: Path, data: bytes) -> None:
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except OSError as error:
        raise UserError(f"`--output {output}`: {error.strerror}", "room to write", "Choose another folder") from None
    finally:
        part.unlink(missing_ok=True)
