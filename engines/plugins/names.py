"""Names of our plugins and of the ONNX nodes that ask for them, and what each of the family of tails is.

No operator of ONNX may have such a name: TensorRT's parser looks for operators without looking at the domain. A name
stands for one function of standard operators, so that what operators differ in makes another name; what numbers differ
in is an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NAMESPACE = "fullres"
PIXEL_SHUFFLE = "FullresPixelShuffle"
"""Elements of any type change their places."""
PIXEL_INTERLEAVE, PIXEL_INTERLEAVE_INT8, PIXEL_INTERLEAVE_OF_INT8 = (
    "FullresPixelInterleave",
    "FullresPixelInterleaveInt8",
    "FullresPixelInterleaveOfInt8",
)
"""Float to float, float to int8, and int8 to int8 of the same step."""
PIXEL_DCL, PIXEL_DCL_INT8, PIXEL_DCL_OF_INT8 = "FullresPixelDcl", "FullresPixelDclInt8", "FullresPixelDclOfInt8"
"""Float to float, float to int8, and products of int8 to float."""
DCL_TAPS = (((0, 0, 0, 1), (1, 0, 0, 0)), ((0, 0, 1, 0), (0, 1, 0, 0)))
"""Zeros around maps a and b (ONNX's order), for the top right and the bottom left map."""


@dataclass(frozen=True)
class Tail:
    """A shuffle with what follows it; inputs x and bias (C*r*r,), or (1,) zero for none, attributes TAIL_ATTRIBUTES."""

    output: Literal["float", "int8", "picture", "pictures"]
    """`pictures` keep the batch axis: (N, H, W, C); a `picture` is (H, W, C). Both uint8."""
    tanh: bool = False
    of_int8: bool = False
    """x is int8; the bias tells in which type is computed."""

    @property
    def name(self) -> str:
        output = {"float": "Tail", "int8": "Int8", "picture": "Picture", "pictures": "Pictures"}[self.output]
        return f"{PIXEL_SHUFFLE}{'Tanh' if self.tanh else ''}{output}{'OfInt8' if self.of_int8 else ''}"


TAIL_ATTRIBUTES = ("r", "slope", "low", "high", "taken", "given", "rounding", "zero", "gain")
"""`taken` and `given`: steps of an int8 input and output, 1 elsewhere. The rest: engines.plugins.last_steps."""
TAILS = {
    tail.name: tail
    for output in ("float", "int8", "picture", "pictures")
    for tanh in (False, True)
    for of_int8 in (False, True)
    for tail in [Tail(output, tanh, of_int8)]
}
PLUGINS = (
    *(PIXEL_SHUFFLE, *TAILS),
    *(PIXEL_INTERLEAVE, PIXEL_INTERLEAVE_INT8, PIXEL_INTERLEAVE_OF_INT8),
    *(PIXEL_DCL, PIXEL_DCL_INT8, PIXEL_DCL_OF_INT8),
)
"""In the order in which they are registered."""
