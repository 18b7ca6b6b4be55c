"""Layers that pretend to be int8 while a network learns, so that its weights settle where rounding costs least.

What graphs of precision int8 with zero points compute (export/qdq.py, `inputs` with `shifted`: OpenVINO's): weights on
255 levels around 0, a scale per output channel, and what goes into every convolution on 256 levels between the least
and the largest value seen, 0 among them. Gradients pass through the rounding as if it were not there, and stop where a
value is clipped. All in float32: bfloat16 has fewer levels than are pretended.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 3; the ranges of activations are moving averages as there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reference_models.networks.red_net import Deconvolution

WEIGHT_PEAK = 127
LEVELS = 255
RANGE_DECAY = 0.95
"""Of the moving averages of least and largest values."""
_LEAST_WIDTH = 1e-6


class RoundedWeight(nn.Module):
    """A weight → the same on its int8 grid."""

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axis = axis
        """Of the output channels, each with a scale of its own; None: one scale."""

    def forward(self, weight: Tensor) -> Tensor:
        axis = self.axis or 0
        others = [place for place in range(weight.ndim) if place != axis]
        peaks = weight.detach().abs().amax(others)
        if self.axis is None:
            peaks = peaks.amax().expand_as(peaks)
        scale = peaks.clamp(min=_LEAST_WIDTH) / WEIGHT_PEAK
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -WEIGHT_PEAK, WEIGHT_PEAK)


class RoundedInput(nn.Module):
    """What goes into a layer → the same on 256 levels. While it trains, its range follows what it sees."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(torch.nan))
        self.register_buffer("high", torch.tensor(torch.nan))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.training or bool(self.low.isnan()):
            self._see(x.detach())
        scale = float((self.high - self.low).clamp(min=_LEAST_WIDTH)) / LEVELS
        zero = round(-float(self.low) / scale)
        return torch.fake_quantize_per_tensor_affine(x, scale, min(max(zero, 0), LEVELS), 0, LEVELS)

    @torch.no_grad()
    def _see(self, x: Tensor) -> None:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        first = bool(self.low.isnan())
        self.low.copy_(low if first else torch.lerp(low, self.low, RANGE_DECAY))
        self.high.copy_(high if first else torch.lerp(high, self.high, RANGE_DECAY))


def pretend_int8_(model: nn.Module) -> int:
    """Makes every convolution, deconvolution and matrix product of the network pretend, in place; returns how many."""
    found = list(_layers(model))
    for layer in found:
        parametrize.register_parametrization(layer, "weight", RoundedWeight(_axis(layer)))
        layer.add_module("rounded_input", RoundedInput())
        layer.register_forward_pre_hook(_round_input)
    return len(found)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors of the network itself, whether it pretends or not.

    Weights that pretended lie on their grid: whoever quantises them again, with a scale per output channel, finds them
    there. What they were before rounding says little by itself: 3 dB less than before in CAN32 after 300 steps.
    """
    found = {}
    for name, tensor in model.state_dict().items():
        layer, place, _ = name.partition(".parametrizations.weight.")
        if place:
            found[f"{layer}.weight"] = model.get_submodule(layer).weight.detach().clone()  # type: ignore[operator]
        elif "rounded_input." not in name:
            found[name] = tensor
    return found


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            yield module


def _axis(layer: nn.Module) -> int | None:
    """Of the output channels in the weight, where the graph has a scale for each: not in deconvolutions, but RED-Net's
    are exported as convolutions."""
    if isinstance(layer, Deconvolution):
        return 1
    return None if isinstance(layer, nn.ConvTranspose2d) else 0


def _round_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return layer.get_submodule("rounded_input")(inputs[0]), *inputs[1:]
