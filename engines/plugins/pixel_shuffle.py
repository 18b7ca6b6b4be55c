"""PixelShuffle in one pass, with what follows it: bias, activation, clipping, and the displayable picture.

The last layer of a network then writes each output element once. (N, C*r*r, H, W) of fp32, fp16, bf16 or int8 →
(N, C, H*r, W*r) of a float type, or (N, H*r, W*r, C) uint8. Order of channels as torch.nn.PixelShuffle.
"""
# ruff: noqa: N803, PLR0917  the kernel: Triton's constants are written in capitals, and it has no keyword arguments

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.plugins.ptx import Variant

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rule and reference are usable without
    tl = None

ACTIVATIONS = ("none", "relu", "leaky_relu", "tanh")
MAX_ELEMENTS = 2**31 - 2**12
"""Of one image's output: offsets are int32, and the last block may reach past the end."""


@dataclass(frozen=True)
class PixelShuffleTail:
    """What happens to every element, in this order: times `input_scale`, plus bias, activation, clip, to the output."""

    r: int
    input_scale: float = 1.0
    """int8 input: one step, in the units of bias and output."""
    bias: bool = False
    """Whether there is one: (C*r*r,) of the input's type, fp32 beside int8."""
    activation: str = "none"
    slope: float = 0.0
    """Of leaky_relu below 0."""
    low: float = float("-inf")
    high: float = float("inf")
    picture: bool = False
    """Clip to [0, 1], and write floor(255 y + rounding) as uint8 NHWC."""
    rounding: float = 0.5

    def __post_init__(self) -> None:
        if self.r < 1 or self.activation not in ACTIVATIONS:
            raise ValueError(f"r {self.r}, activation {self.activation!r}: expected r >= 1 and one of {ACTIVATIONS}")

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of an input of this shape; the sides may be symbolic."""
        n, planes, height, width = shape
        channels = planes // (self.r * self.r)
        large = (height * self.r, width * self.r)
        return (n, *large, channels) if self.picture else (n, channels, *large)

    def reference(self, x: Any, bias: Any = None, dtype: Any = None) -> Any:
        """The same by torch's own operators, in float32 until the last step.

        Args:
            x, bias: torch tensors.
            dtype: torch dtype of the output; None: the input's. Ignored for pictures.
        """
        import torch

        y = x.float() * self.input_scale
        if bias is not None:
            y = y + bias.float().view(1, -1, 1, 1)
        if self.activation == "relu":
            y = torch.relu(y)
        elif self.activation == "leaky_relu":
            y = torch.nn.functional.leaky_relu(y, self.slope)
        elif self.activation == "tanh":
            y = torch.tanh(y)
        y = torch.nn.functional.pixel_shuffle(y, self.r).clamp(self.low, self.high)
        if not self.picture:
            return y.to(dtype or x.dtype)
        return torch.floor(255 * y.clamp(0, 1) + self.rounding).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def variant(self, source: str, target: str, block: int = 1024) -> Variant:
        """The kernel for these types (Triton's words); a picture's target is `u8`."""
        beside = "fp32" if source == "i8" else source
        pointers = {"x": source, **({"bias": beside} if self.bias else {}), "y": "u8" if self.picture else target}
        constants: dict[str, Any] = {
            "R": self.r,
            "INPUT_SCALE": self.input_scale,
            "ACTIVATION": ACTIVATIONS.index(self.activation),
            "SLOPE": self.slope,
            "LOW": max(self.low, 0.0) if self.picture else self.low,
            "HIGH": min(self.high, 1.0) if self.picture else self.high,
            "PICTURE": self.picture,
            "ROUNDING": self.rounding,
            "BLOCK": block,
        }
        if not self.bias:
            constants["bias"] = None
        return Variant(pixel_shuffle, pointers, ("channels", "height", "width"), constants)


def pixel_shuffle(
    x: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    R: tl.constexpr,
    INPUT_SCALE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    PICTURE: tl.constexpr,
    ROUNDING: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Triton kernel; grid (cdiv(channels * height * width, BLOCK), N). channels, height and width are the output's."""
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = o < channels * height * width
    if PICTURE:
        c = o % channels
        column = (o // channels) % width
        row = o // channels // width
    else:
        column = o % width
        row = (o // width) % height
        c = o // width // height
    plane = (c * R + row % R) * R + column % R
    source = (plane * (height // R) + row // R) * (width // R) + column // R
    image = tl.program_id(1).to(tl.int64) * channels * height * width
    value = tl.load(x + image + source, mask=inside, other=0).to(tl.float32) * INPUT_SCALE
    if bias is not None:
        value += tl.load(bias + plane, mask=inside, other=0).to(tl.float32)
    if ACTIVATION == 1:
        value = tl.maximum(value, 0.0)
    elif ACTIVATION == 2:
        value = tl.where(value < 0.0, value * SLOPE, value)
    elif ACTIVATION == 3:
        # tanh without a call of a library, exact to a few ulp where it matters: 1 - 2 / (exp(2 |v|) + 1), odd.
        size = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(value)) + 1.0)
        value = tl.where(value < 0.0, -size, size)
    value = tl.minimum(tl.maximum(value, LOW), HIGH)
    if PICTURE:
        value = value * 255.0 + ROUNDING
    tl.store(y + image + o, value.to(y.dtype.element_ty), mask=inside)
