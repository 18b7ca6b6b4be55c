"""Weights on disk ↔ networks: finds, reads, checks, loads, imports. Downloads nothing, runs nothing from a file.

Input: a name from a ModelSpec or a file; output: arrays by name, a loaded network, or a safetensors file.
PyTorch is imported only to read its own file kind and to load a network.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_models import tf_checkpoint
from reference_models.cards import read_card
from reference_models.choices import callable_from_path
from reference_models.errors import UserError, nearest
from reference_models.spec import ModelSpec
from reference_models.weights_file import check_output, in_fixed_order, looks_whole, write_weights

if TYPE_CHECKING:
    import numpy as np
    import torch

Shapes = Mapping[str, tuple[int, ...]]

_FOLDER = Path(__file__).with_name("weights")
_TORCH_ENDINGS = (".pt", ".pth", ".ckpt", ".bin")
_ENDINGS = (".safetensors", *_TORCH_ENDINGS)
_KINDS = "a .safetensors file, or a PyTorch file (.pt, .pth, .ckpt, .bin) that holds tensors alone"
_SAVE_AGAIN = "Save it with safetensors.torch.save_file(model.state_dict(), FILE)"
_NUMPY_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
# What torch.load may raise on damaged files. Pickles that hold code are refused with an UnpicklingError.
_TORCH_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
    EOFError, OSError, OverflowError, MemoryError, ImportError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def resolve_weights(spec: ModelSpec, weights: str) -> Path:
    """The file that `weights` means: one that ships with the network, else a path. Reads headers only, never torch.

    Raises:
        UserError: neither a name nor a file, a folder, empty, of an unknown kind, cut off, or trained for another
            network or scale, as the card beside it says.
    """
    shipped = weights in spec.weights
    path = _FOLDER / spec.weights[weights] if shipped else Path(weights)
    what = f"`--weights {weights}` of model `{spec.name}`"
    try:
        if not path.exists():
            raise _not_found(spec, weights, what, shipped)
        _check_file(path, what)
        _check_card(path, spec, what)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what}: {reason}", _KINDS, "Check the path and its permissions") from None
    return path


def _not_found(spec: ModelSpec, weights: str, what: str, shipped: bool) -> UserError:
    if shipped:
        return UserError(
            f"{what}: {spec.weights[weights]} is not installed",
            "it in reference_models/weights",
            "Reinstall fullres",
        )
    guess = nearest(weights, spec.weights)
    known = ", ".join(spec.weights) or "no name (none ship with this model)"
    return UserError(
        f"{what}: neither a name nor an existing file",
        f"{known}, or {_KINDS}",
        f"Did you mean {guess}?" if guess else "Check the path",
    )


def _check_file(path: Path, what: str) -> None:
    """Kind and completeness, as far as the first bytes and the length tell."""
    if not path.is_file():
        raise UserError(f"{what}: a folder or device", _KINDS, "Name the file in it")
    if tf_checkpoint.checkpoint_prefix(path) != path:
        raise UserError(
            f"{what}: a TensorFlow checkpoint", _KINDS, "Convert it first with `bench weights import --from`"
        )
    if path.suffix.lower() not in _ENDINGS:
        raise UserError(f"{what}: unknown ending `{path.suffix}`", _KINDS, _SAVE_AGAIN)
    if path.stat().st_size == 0:
        raise UserError(f"{what}: the file is empty", _KINDS, "Copy it again from its source")
    if path.suffix.lower() == ".safetensors":
        _check_safetensors(path, what)
    else:
        _check_torch(path, what)


def _check_card(path: Path, spec: ModelSpec, what: str) -> None:
    """What tensors do not tell: weights for x3 would load into the same network for x2."""
    card = read_card(path)
    if card and (reason := card.why_not(spec)):
        raise UserError(f"{what}: {reason}", f"weights for {spec.title}", "Give others, or the options they are for")


def _check_safetensors(path: Path, what: str) -> None:
    if looks_whole(path):
        return
    from safetensors import SafetensorError, safe_open

    try:
        # Opening parses the header and compares it with the length of the file; no tensor is read.
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise UserError(f"{what}: {error}", "a whole safetensors file", "Copy it again from its source") from None


def _check_torch(path: Path, what: str) -> None:
    with path.open("rb") as file:
        legacy = file.read(1) == b"\x80"  # files of torch < 1.6 are bare pickles
    if not (legacy or zipfile.is_zipfile(path)):
        raise UserError(f"{what}: cut off, or not a PyTorch file", _KINDS, "Copy it again from its source")


def weights_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Name → array as stored; bfloat16, which NumPy lacks, becomes float32 without loss. No code in the file is run.

    Args:
        path: .safetensors (read without torch), or .pt, .pth, .ckpt, .bin (torch.load with weights_only). A PyTorch
            file may hold the tensors under the key `state_dict`.

    Raises:
        UserError: damaged, holds anything but tensors, or tensors of a dtype that NumPy lacks.
    """
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    try:
        stored = deserialize(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"weights `{path}`: {error}", "a whole safetensors file", "Copy it again from its source"
        ) from None
    return {name: _array(path, name, tensor) for name, tensor in stored}


def _array(path: Path, name: str, stored: Mapping[str, Any]) -> np.ndarray:
    """One tensor as the safetensors library hands it out: {dtype, shape, data}."""
    import numpy as np

    data, shape, dtype = bytes(stored["data"]), tuple(stored["shape"]), str(stored["dtype"])
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in _NUMPY_DTYPES:
        raise UserError(f"weights `{path}`: tensor `{name}` is {dtype}", "float32, float16 or bfloat16", _SAVE_AGAIN)
    return np.frombuffer(data, _NUMPY_DTYPES[dtype]).reshape(shape)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    loaded = _load_torch(path)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise UserError(f"weights `{path}`: holds a {type(loaded).__name__}", "a dictionary of tensors", _SAVE_AGAIN)
    return {name: _array_from_torch(path, name, tensor) for name, tensor in loaded.items()}


def _load_torch(path: Path) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"its pickle calls `{called[1]}`, which is code" if called else "weights-only loading refuses its pickle"
        )
    except _TORCH_ERRORS as error:
        reason = f"damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    raise UserError(f"weights `{path}`: {reason}; nothing of it was run", _KINDS, _SAVE_AGAIN)


def _array_from_torch(path: Path, name: object, tensor: object) -> np.ndarray:
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise UserError(
            f"weights `{path}`: entry `{name}` is a {type(tensor).__name__}", "tensors under names", _SAVE_AGAIN
        )
    try:
        # A few stored numbers can be declared as terabytes by a stride of 0; reject before anything copies them.
        if tensor.numel() * tensor.element_size() > path.stat().st_size:
            raise TypeError("larger than its file")
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, on the meta device, a dtype that NumPy lacks
        raise UserError(
            f"weights `{path}`: tensor `{name}` ({error})", "dense tensors of float32, float16 or bfloat16", _SAVE_AGAIN
        ) from None


def mismatch(tensors: Mapping[str, np.ndarray], shapes: Shapes, integers: Collection[str] = ()) -> str:
    """What keeps `tensors` from being exactly those of `shapes`, finite and float; empty if nothing does.

    Args:
        tensors: name → array, as found.
        shapes: name → shape, as wanted.
        integers: names among `shapes` whose tensors are integers, such as counters.
    """
    both = [name for name in shapes if name in tensors]
    misshapen = [f"{n} {tensors[n].shape} in place of {shapes[n]}" for n in both if tensors[n].shape != shapes[n]]
    typed = {n: "iu" if n in integers else "f" for n in both}
    wrong = [f"{n} {tensors[n].dtype}" for n in both if tensors[n].dtype.kind not in typed[n]]
    rest = [n for n in both if tensors[n].shape == shapes[n] and tensors[n].dtype.kind == "f"]
    groups = {
        "missing": [name for name in shapes if name not in tensors],
        "not of this model": [name for name in tensors if name not in shapes],
        "misshapen": misshapen,
        "of a wrong dtype": wrong,
        "not finite in float32": [name for name in rest if not _is_finite(tensors[name])],
    }
    return "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in groups.items() if names)


def _is_finite(array: np.ndarray) -> bool:
    import numpy as np

    with np.errstate(over="ignore"):  # float64 beyond the range of float32 becomes infinite, which is the question
        return bool(np.isfinite(array.astype(np.float32)).all())


def _first(names: Sequence[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def load_weights(model: torch.nn.Module, spec: ModelSpec, weights: str) -> None:
    """Loads into `model`, in place, under our own names or those of the release that the spec's importer knows.

    Raises:
        UserError: no such weights, a damaged file, or tensors that are not exactly those of `model`, all named in one
            error. The model is then unchanged.
    """
    import numpy as np
    import torch

    path = resolve_weights(spec, weights)
    found, asked = read_tensors(path), f"weights `{weights}` for model `{spec.name}`"
    wanted = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    tensors = _own_names(found, set(wanted), spec, asked)
    integers = [name for name, tensor in wanted.items() if not tensor.is_floating_point()]
    problem = mismatch(tensors, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, integers)
    if problem:
        raise UserError(f"{asked}: {problem}", f"exactly the {len(wanted)} tensors of this model", _advice(found, spec))
    # A copy, because arrays from files are read-only; np.ascontiguousarray would turn a scalar into a vector.
    model.load_state_dict(
        {name: torch.from_numpy(np.array(tensors[name], order="C")).to(wanted[name].dtype) for name in wanted}
    )


_STATISTICS = ".running_mean"
"""What the names of batch normalisation in training end with."""


def _has_tensorflow_names(tensors: Mapping[str, np.ndarray]) -> bool:
    return any("/" in name for name in tensors)  # TensorFlow's scopes; torch joins names with dots


def _own_names(
    tensors: dict[str, np.ndarray], wanted: Collection[str], spec: ModelSpec, asked: str
) -> dict[str, np.ndarray]:
    """The tensors under our names: as they are where all of them are ours, else as the importer makes them, where it
    knows them: names of a release, or our own as they are in training."""
    ours, in_training = set(wanted), any(name.endswith(_STATISTICS) for name in tensors)
    if spec.importer is None or ours == set(tensors) or (not ours.isdisjoint(tensors) and not in_training):
        return tensors
    if in_training and any(name.endswith(_STATISTICS) for name in ours):
        return tensors  # the network asked for is the one in training
    try:
        return _convert(tensors, spec)
    except UserError as error:
        if not in_training and not _has_tensorflow_names(tensors):
            return tensors  # nobody's names: what is missing and what is too much says more
        raise UserError(f"{asked}: {error.what}", error.expected, _advice(tensors, spec)) from None


def _convert(tensors: dict[str, np.ndarray], spec: ModelSpec) -> dict[str, np.ndarray]:
    """The spec's importer, applied to tensors under the release's names."""
    if spec.importer is None:
        raise UserError(
            f"model `{spec.name}` has no importer", "a model with a known release", "`bench models NAME` describes it"
        )
    state: dict[str, np.ndarray] = callable_from_path(spec.importer)(tensors, **spec.options)
    return state


def _advice(tensors: dict[str, np.ndarray], spec: ModelSpec) -> str:
    """What to do about tensors that do not fit: names the registered model that they do fit."""
    from reference_models import get, names

    if spec.name in names() and _fits(tensors, get(spec.name)):
        return f"These look like weights of {spec.name} with its default options. Leave the options at their defaults"
    for name in names():
        if _fits(tensors, get(name)):
            return f"These look like weights of {name}. Ask for that model, or give other weights"
    return "Give weights that were trained for this model and its options"


def _fits(tensors: dict[str, np.ndarray], spec: ModelSpec) -> bool:
    if _has_tensorflow_names(tensors):
        try:
            return spec.importer is not None and bool(_convert(tensors, spec))
        except UserError:
            return False
    import torch

    with torch.device("meta"):  # shapes without memory or initialisation
        model = callable_from_path(spec.factory)(**spec.options)
    return {n: tuple(t.shape) for n, t in model.state_dict().items()} == {n: t.shape for n, t in tensors.items()}


def import_weights(spec: ModelSpec, source: Path, output: Path) -> dict[str, int | str]:
    """Writes the network's tensors as safetensors under our names, float32 but for counters, and says what was done.

    Equal sources give equal bytes. The file's metadata: model, source (file name), sha256 (of the source's data files).

    Args:
        spec: the network; it must have an importer.
        source: TensorFlow V2 checkpoint (prefix or any of its files), or safetensors with the same names.
        output: the .safetensors file to write; replaced as a whole where it exists.

    Returns:
        tensors and parameters (numbers of them) written, dropped (tensors that inference does not use),
        sha256 of the written file, source_sha256 as in the metadata.

    Raises:
        UserError: the output cannot be written (found before reading), or the source is not of this network.
    """
    from safetensors.numpy import save

    check_output(output)
    tensors, total, source_sha256 = _read_source(source)
    try:
        state = _convert(tensors, spec)
    except UserError as error:
        asked = f"`{source}` for model `{spec.name}`"
        raise UserError(f"{asked}: {error.what}", error.expected, _advice(tensors, spec)) from None
    metadata = {"model": spec.name, "source": source.name, "sha256": source_sha256}
    data = in_fixed_order(save(state, metadata))
    write_weights(output, data)
    return {
        "tensors": len(state),
        "parameters": sum(tensor.size for tensor in state.values()),
        "dropped": total - len(state),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source_sha256": source_sha256,
    }


def _read_source(source: Path) -> tuple[dict[str, np.ndarray], int, str]:
    """Tensors without optimiser state, the number of all tensors, and the SHA-256 of the data."""
    if source.suffix.lower() == ".safetensors":
        tensors = _read_safetensors(source)
        kept = {name: tensor for name, tensor in tensors.items() if not tf_checkpoint.is_training_state(name)}
        return kept, len(tensors), weights_sha256(source)
    names = tf_checkpoint.checkpoint_names(source)
    kept = tf_checkpoint.read_checkpoint(source, lambda name: not tf_checkpoint.is_training_state(name))
    digest = hashlib.sha256()
    for path in tf_checkpoint.data_files(source):
        if path.is_file():  # a shard may hold optimiser state alone, and then be left out
            digest.update(path.read_bytes())
    return kept, len(names), digest.hexdigest()
