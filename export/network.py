"""Network: one model with its weights and statistics, as files that every engine builds from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INPUT, OUTPUT = "x", "y"
PICTURE, RESULT = "picture", "result"
"""What a graph on pictures takes and gives: uint8 (H, W, 3) RGB."""


@dataclass(frozen=True)
class Graph:
    """One ONNX file and the same network as torch parameters. All paths are absolute."""

    onnx_path: str
    sha256: str
    """Of the ONNX file; stands in every run."""
    state_path: str
    """safetensors of the torch module's parameters, for the engines that run torch."""
    factory: str
    """`package.module:Callable` of the torch module."""
    options: Mapping[str, object]
    role: str
    """Which module of the factory's it is: `published`, `folded`, `thumbnail_affines` or `styled`; `onnx` where there
    is none, only the file; `picture` where the file takes pictures and gives pictures."""
    planes: int = 3
    """Of the input."""
    output_planes: int = 3
    upscale: int = 1
    """Side of the output divided by side of the input."""

    @property
    def takes_pictures(self) -> bool:
        """Whether input and output are uint8 (H, W, 3) RGB, and not float32 (1, C, H, W)."""
        return self.role == "picture"

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the input and the output."""
        return (PICTURE, RESULT) if self.takes_pictures else (INPUT, OUTPUT)


@dataclass(frozen=True)
class Network:
    """What engines build: a main graph and, for `thumbnail` statistics, the graph that finds its scales and offsets."""

    model: str
    statistics: str | None
    """`image`, `frozen`, `thumbnail`; None where the network has no normalisation statistics."""
    main: Graph
    thumbnail: Graph | None
    """(1, C, H, W) picture → (layers, 2, width) scales and offsets to fold into `main` before it sees that picture."""
    refit_rule: tuple[tuple[str, str], ...]
    """Per layer the weight and bias of `main` that take a scale (axis 0) and an offset; empty without `thumbnail`."""
    opset: int
    export_s: float = 0.0
    """Seconds that making these files took, when they were made; they are cached."""
    precision: str = "fp32"
    """Of the main graph's interior; its input and output are FP32 in any case."""
    lowering: Mapping[str, Any] | None = None
    """How a precision other than fp32 came to be: recipe, layers, what was tried and what it gave."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Network:
        data = json.loads(text)
        thumbnail = data["thumbnail"]
        return Network(
            **{
                **data,
                "main": Graph(**data["main"]),
                "thumbnail": Graph(**thumbnail) if thumbnail else None,
                "refit_rule": tuple((weight, bias) for weight, bias in data["refit_rule"]),
            }
        )


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
