"""What every kernel of ours ends with: activation, clipping, and the value as the output stores it.

Parts of Triton kernels; fp32 in. Steps of int8 are those of ONNX's QuantizeLinear with zero point 0: the quotient of
value and step, rounded half to even, saturated.
"""
# ruff: noqa: N803  parts of kernels: Triton's constants are written in capitals

from __future__ import annotations

from typing import Any, NamedTuple

from engines.plugins.ptx import kernel_part

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rules and references are usable without
    tl = None

FLOAT, INT8, PICTURE = range(3)
"""Kinds of output."""
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "i8": 1, "u8": 1}
"""Of Triton's words for types."""
VECTOR_BYTES = 16
"""Most that one thread loads or stores in one instruction."""
_INFINITE = float("inf")


class LastSteps(NamedTuple):
    """What happens to every element, in this order: times `input_step`, plus a bias, activation, clip, to the output.

    A constant of kernels.
    """

    input_step: float = 1.0
    """int8 input: one step, in the units of bias and output."""
    tanh: bool = False
    """In place of the slope."""
    slope: float = 1.0
    """What elements below 0 are multiplied by: 1 leaves them, 0 is ReLU."""
    low: float = -_INFINITE
    high: float = _INFINITE
    output: int = FLOAT
    step: float = 1.0
    """int8 output: one step."""
    rounding: float = 0.5
    """Picture: what is added to grey levels before the fraction goes."""
    zero: float = 0.0
    """Picture: the value of grey level 0."""
    gain: float = 255.0
    """Picture: grey levels per unit."""
    biased: bool = False
    """Whether there is a bias behind `input_step`; kernels' own business, as the next."""
    moves: bool = False
    """Elements only change their places, but for a ReLU of int8."""

    def within_type(self) -> LastSteps:
        """With the bounds of the output's type."""
        if self.output == PICTURE:
            most = self.zero + 255 / self.gain
            return self._replace(low=max(self.low, self.zero), high=min(self.high, most))
        if self.output == INT8:
            return self._replace(low=max(self.low, -128 * self.step), high=min(self.high, 127 * self.step))
        return self

    def for_types(self, source: str, target: str) -> LastSteps:
        """With the bounds of the output's type, and with `moves` where these types (Triton's words) allow it: a float
        stays as it is, and int8 goes out with the step that it came in with."""
        inactive = (self.low, self.high, self.tanh) == (-_INFINITE, _INFINITE, False)
        if source != "i8":
            kept = self.output == FLOAT and self.input_step == 1.0 and self.slope == 1.0
        else:
            kept = self.input_step == (self.step if self.output == INT8 else 1.0) and self.slope in {0.0, 1.0}
        return self.within_type()._replace(moves=source == target and inactive and kept and not self.biased)

    def reference(self, value: Any, dtype: Any) -> Any:
        """The steps behind the bias, by torch's own operators.

        Args:
            value: torch tensor of float32.
            dtype: torch dtype of a float output.
        """
        import torch

        y = torch.tanh(value) if self.tanh else torch.nn.functional.leaky_relu(value, self.slope)
        y = y.clamp(self.low, self.high)
        if self.output == PICTURE:
            levels = (y - self.zero).clamp(0, 255 / self.gain) * self.gain
            return torch.floor(levels + self.rounding).to(torch.uint8)
        if self.output == INT8:
            return torch.round(y / y.new_tensor(self.step)).clamp(-128, 127).to(torch.int8)
        return y.to(dtype)


def vector(source: str, target: str, joined: int) -> int:
    """Elements that a thread takes from each of `joined` rows at once, so that what it writes is one full vector.

    Larger vectors would be loaded in one instruction too, but a thread's output would then be several vectors with
    those of its neighbours between them, or go through shared memory.
    """
    return max(1, min(VECTOR_BYTES // BYTES[source], VECTOR_BYTES // (joined * BYTES[target])))


@kernel_part
def finished(value: tl.tensor, bias: tl.tensor, place: tl.tensor, y: tl.tensor, LAST: tl.constexpr) -> tl.tensor:
    """Elements of the input → of the output at y. Where `biased`, the bias of an element is at `place`."""
    if LAST.moves:
        if LAST.slope == 0.0:
            value = tl.where(value < 0, 0, value)
    else:
        value = value.to(tl.float32)
        if LAST.input_step != 1.0:
            value = value * LAST.input_step
        if LAST.biased:
            value += tl.load(bias + place).to(tl.float32)
        if LAST.tanh:
            # Without a call of a library, exact to a few ulp where it matters: 1 - 2 / (exp(2 |v|) + 1), odd.
            size = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(value)) + 1.0)
            value = tl.where(value < 0, -size, size)
        elif LAST.slope != 1.0:
            value = tl.where(value < 0, value * LAST.slope, value)
        if LAST.low > float("-inf"):
            value = tl.maximum(value, LAST.low)
        if LAST.high < float("inf"):
            value = tl.minimum(value, LAST.high)
        if LAST.output == 2:
            if LAST.zero != 0.0:
                value = value - LAST.zero
            value = value * LAST.gain + LAST.rounding
        elif LAST.output == 1:
            # The quotient that a division would give, in three instructions instead of ten: one correction of a
            # product with the reciprocal. Source: P. Markstein, IA-64 and Elementary Functions (2000), chapter 8.
            quotient = value * (1.0 / LAST.step)
            rest = tl.fma(quotient, tl.full(value.shape, -LAST.step, tl.float32), value)
            quotient = tl.fma(rest, tl.full(value.shape, 1.0 / LAST.step, tl.float32), quotient)
            # 1.5 * 2**23 leaves a sum no bits below 1: it is rounded half to even, and its last byte is the int8. An
            # instruction that converts would run at a quarter to an eighth of the rate of additions.
            value = (quotient + 12582912.0).to(tl.int32, bitcast=True)
    return value.to(y.dtype.element_ty)
