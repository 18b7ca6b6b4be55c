"""How many parameters a network has and how many multiply-accumulates it takes. Shapes alone: nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass

from reference_models.choices import callable_from_path
from reference_models.spec import ModelSpec


@dataclass(frozen=True)
class Size:
    """A network's size."""

    parameters: int
    """Of the module as it runs; running statistics of batch norms are not counted."""
    macs: int
    """Multiply-accumulates of convolutions and matrix products of one picture, those on padding included."""


def count_size(spec: ModelSpec, width: int, height: int) -> Size:
    """Size of the network for a picture of width x height that comes out.

    Counted by PyTorch's FlopCounterMode on the meta device, independently of export/work.py, which counts over ONNX.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = callable_from_path(spec.factory)(**spec.options).eval()
        picture = -(-width // spec.enlarges), -(-height // spec.enlarges)
        x = torch.empty(1, spec.input_planes, *spec.tensor_size(*picture))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(x)
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
