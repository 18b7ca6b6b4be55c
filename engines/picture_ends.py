"""Before and behind every inference on a picture: the network's tensor of it, and the picture of an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reference_models.errors import UserError
from reference_models.pictures import Picture, fit_picture
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Prepared:
    """A picture on its way through a network."""

    tensor: NDArray[np.float32]
    """(1, C, H, W), as the network takes it."""
    source: Picture
    """The picture of which colours are taken that the network does not make."""
    size: tuple[int, int] | None
    """Height and width of what comes out, where they are not those of `source` enlarged."""


def prepared(picture: Picture, spec: ModelSpec) -> Prepared:
    """
    Raises:
        UserError: a size that a network of the user's own does not take.
        ValueError: not a picture.
    """
    from reference_models.colour import tensor_from_picture

    size = None
    if spec.input == "noise":  # of the picture only the size counts, and it is that of what comes out
        size = picture.shape[0], picture.shape[1]
        picture = fit_picture(picture, -(-size[1] // spec.upscale), -(-size[0] // spec.upscale))
    tensor = tensor_from_picture(picture, spec)
    if spec.onnx:
        from export.own_onnx import check_size

        check_size(spec, *tensor.shape[2:])
    return Prepared(tensor, picture, size)


def finished(y: NDArray[np.floating], given: Prepared, spec: ModelSpec) -> Picture:
    """uint8 (H, W, 3) RGB of the raw output (1, C, H, W).

    Raises:
        ValueError: another shape than the network's, or NaN.
    """
    from reference_models.colour import picture_from_tensor

    return picture_from_tensor(y, spec, given.source, given.size)


def checked_picture(picture: Any) -> Picture:
    """The same, if it is a picture.

    Raises:
        UserError: it is none; says how to make one of what was given, where that can be told.
    """
    import numpy as np

    if not isinstance(picture, np.ndarray):
        kind = f"{type(picture).__module__}.{type(picture).__qualname__}"
        raise UserError(f"picture: got a {kind}", _WANTED, "Convert it: numpy.asarray(picture), for a PIL image of RGB")
    if picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
        return picture
    raise UserError(f"picture: got {picture.shape} {picture.dtype}", _WANTED, _cure(picture))


_WANTED = "(H, W, 3) uint8 RGB with at least one pixel, a numpy.ndarray"


def _cure(picture: NDArray[Any]) -> str:
    import numpy as np

    shape = picture.shape
    if picture.size == 0:
        return "Leave empty pictures out"
    if picture.ndim == 4:
        return "Call it once per picture: for p in pictures: session(p)"
    if picture.ndim == 2 or (picture.ndim == 3 and shape[2] == 1):
        return "Repeat the grey plane: numpy.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)"
    if picture.ndim == 3 and shape[2] == 4:
        return "Drop the alpha plane: picture[..., :3]"
    if picture.ndim == 3 and shape[0] == 3:
        return "Put the planes last: picture.transpose(1, 2, 0)"
    if picture.dtype.kind == "f":
        return "Values in [0, 1]: (picture * 255).round().astype(numpy.uint8)"
    if picture.dtype == np.uint16:
        return "Of 16 bits: ((picture.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8)"
    return "Convert it"
