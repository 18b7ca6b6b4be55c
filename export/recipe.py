"""How a graph is brought to another precision, as data. No heavy import here: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

HALF = ("fp16", "bf16")
QUANTISED = ("int8", "int8+fp16", "fp8")
LOWERED = (*HALF, *QUANTISED, "auto")
"""Precisions that stand in the graph; fp32 and tf32 do not, and some engines make bf16 of an FP32 graph themselves."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators of the nodes that are quantised."""
MEASURED_CLIPPING = ("minmax", "mse", "percentile")
"""Those that `best` chooses from: entropy lost 4 dB more on CAN24 (docs/precision.md)."""
CLIPPING = (*MEASURED_CLIPPING, "entropy", "best")
RECOVERY = ("none", "fast")
WEIGHT_PEAK = {8: 127, 7: 64}
"""Bits of int8 weights → their largest level."""


@dataclass(frozen=True)
class Recipe:
    """Equal recipes on equal graphs and pictures give equal files; stands in every run."""

    precision: str
    """One of LOWERED."""
    placement: Literal["inputs", "integer"] = "inputs"
    """Where Q/DQ pairs stand (export/qdq.py); the engine decides."""
    shifted: bool = False
    """Whether activations are uint8 with a zero point; the engine decides."""
    clipping: str = "minmax"
    """How the range of an activation is found from its histogram; `best`: the way of MEASURED_CLIPPING with which the
    network loses least on the calibration pictures. fp8 is always `minmax`."""
    recovery: str = "fast"
    """`none`: rounded to nearest. `fast`: errors of weights cancelled, channels equalised where it helps (seconds)."""
    kept: tuple[str, ...] = ()
    """Layers that stay in float."""
    floor_db: float | None = None
    """`auto` only: PSNR against FP32 that the plan has to keep on held-back pictures."""
    weight_bits: int = 8
    """Of int8 weights: 8, levels of -127 to 127, or 7, of -64 to 64 (ONNX Runtime's `reduce_range`). The engine decides
    (export/processor.py), unless somebody asks."""

    @property
    def calibrated(self) -> bool:
        """Whether ranges of activations are found on calibration pictures."""
        return self.precision not in HALF

    def to_dict(self) -> dict[str, Any]:
        """As JSON gives it back: runs that were stored are compared with this. 8 bits are left out: earlier runs had no
        others and did not say so."""
        told = {**asdict(self), "kept": list(self.kept)}
        return {name: value for name, value in told.items() if (name, value) != ("weight_bits", 8)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Recipe:
        return Recipe(**{**data, "kept": tuple(data["kept"])})
