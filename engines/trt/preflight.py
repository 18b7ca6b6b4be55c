"""Whether a parsed network fits at a size, asked before the build; if not, the size and the tile that would.

Reads shapes from the library's own network, so that they are those of the graph that would be built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from reference_models.errors import UserError

MAX_ELEMENTS = 2**31 - 1
"""Of one tensor. Source: TensorRT developer guide, limits of tensor volume."""

Size = tuple[int, int]
"""Height and width of the network's input."""


@dataclass(frozen=True)
class Demand:
    """What a network needs at one size."""

    elements: int
    """Of its largest tensor."""
    tensor: str
    bytes: int
    """At least: what the weighted layer with the largest input and output together reads and writes."""


def demand(trt: Any, network: Any, size: Size) -> Demand:
    """What the network needs at this size of its input. The input is dynamic again afterwards."""
    tensor = network.get_input(0)
    dynamic = tuple(tensor.shape)
    tensor.shape = with_size(dynamic, size)
    try:
        return _demand(trt, network)
    finally:
        tensor.shape = dynamic


def with_size(shape: Sequence[int], size: Size) -> tuple[int, ...]:
    """The shape of a network's input, (1, C, H, W) or a picture's (H, W, 3), at this size."""
    return (*shape[:2], *size) if len(shape) == 4 else (*size, *shape[2:])


def size_in(shape: Sequence[int]) -> Size:
    """Height and width in such a shape."""
    height, width = shape[2:] if len(shape) == 4 else shape[:2]
    return height, width


def _demand(trt: Any, network: Any) -> Demand:
    weighted = {trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION}
    largest, name, most = 0, "", 0
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        for tensor in outputs:
            elements = _elements(tensor)
            if elements > largest:
                largest, name = elements, tensor.name
        if layer.type in weighted:
            ends = [layer.get_input(0), *outputs]
            most = max(most, sum(int(_elements(t) * t.dtype.itemsize) for t in ends))
    return Demand(largest, name, most)


def _elements(tensor: Any) -> int:
    """0 where a side is not known before the run."""
    shape = tuple(tensor.shape)
    return 0 if any(side < 0 for side in shape) else prod(shape)


def check_fits(trt: Any, network: Any, size: Size, multiple: int = 1, device_bytes: int | None = None) -> Demand:
    """The demand at this size.

    Args:
        multiple: sides of the input are multiples of this.
        device_bytes: memory of the device; None where there is none, and then only tensors are checked.

    Raises:
        UserError: a tensor with too many elements, or more memory than the device has.
    """

    def fits(tried: Size) -> bool:
        needed = demand(trt, network, tried)
        return needed.elements <= MAX_ELEMENTS and (device_bytes is None or needed.bytes <= device_bytes)

    needed = demand(trt, network, size)
    if fits(size):
        return needed
    if needed.elements > MAX_ELEMENTS:
        what = f"tensor `{needed.tensor}` would have {needed.elements:,} elements"
        expected = f"at most {MAX_ELEMENTS:,} (2^31 - 1) in one tensor"
    else:
        what = f"one layer alone would need {needed.bytes / 2**20:,.0f} MiB"
        expected = f"at most the device's {(device_bytes or 0) / 2**20:,.0f} MiB"
    whole, tile = largest_size(size, multiple, fits), largest_size((max(size), max(size)), multiple, fits)
    todo = "No smaller input fits either"
    if whole and tile:
        todo = (
            f"The largest input of this shape that fits is {whole[1]}x{whole[0]}, the largest tile {tile[1]}x{tile[0]}"
        )
    raise UserError(f"network at an input of {size[1]}x{size[0]}: {what}", expected, todo)


def largest_size(size: Size, multiple: int, fits: Callable[[Size], bool]) -> Size | None:
    """The largest size of the same shape, in multiples, that fits; None where none does. Bisects: about 15 tries."""
    height, width = size

    def scaled(steps: int) -> Size:
        return steps * multiple, max(steps * width // height, 1) * multiple

    low, high = 0, height // multiple
    while low < high:
        middle = (low + high + 1) // 2
        if fits(scaled(middle)):
            low = middle
        else:
            high = middle - 1
    return scaled(low) if low else None
