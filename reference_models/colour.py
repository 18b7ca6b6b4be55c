"""Pictures ↔ tensors, as a network's spec says: planes, colour space, enlarging, padding. No torch here.

Input kinds: `rgb` and `bgr` are the picture's planes in [0, 1]; `luma` is BT.601 luma (MATLAB's rgb2ycbcr, 16 to 235)
over 255; `lightness` is CIE L* over 100; `noise` is standard normal, and of the picture takes only the size.
Output kinds: `rgb`, `bgr` and `luma` as above, the chroma of `luma` being that of the input picture, enlarged
bicubically; `ab` and `yuv` are colours for the input's lightness, `recoloured` R, G, B brought to it; `classes` are
scores, shown in the colours of PASCAL VOC.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference_models.pictures import Picture, check_picture
from reference_models.spec import ModelSpec

Planes = NDArray[np.float32]

_TO_LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""Luma of R, G, B in 0..255, less 16. Source: ITU-R BT.601-7, as in MATLAB's rgb2ycbcr."""
_TO_CHROMA = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
"""Cb and Cr, less 128. Source: as above."""
_FROM_YCC = np.linalg.inv(np.vstack([_TO_LUMA, _TO_CHROMA]))


def tensor_from_picture(picture: Picture, spec: ModelSpec) -> Planes:
    """A picture as the network takes it: float32 (1, C, H, W), C-contiguous.

    Enlarged by spec.pre_upscale, and padded at the right and the bottom by repeating the border to a size that the
    network takes (`spec.tensor_size`). Constant planes come last.

    Raises:
        ValueError: not a picture.
    """
    check_picture(picture)
    height, width = spec.tensor_size(picture.shape[1], picture.shape[0])
    tensor = np.empty((1, spec.input_planes, height, width), np.float32)
    count = spec.input_planes - len(spec.constant_planes)
    _INPUTS[spec.input](picture, spec, tensor[0, :count])
    for plane, value in enumerate(spec.constant_planes, count):
        tensor[0, plane] = value
    return tensor


def picture_from_tensor(
    tensor: NDArray[np.floating], spec: ModelSpec, source: Picture, size: tuple[int, int] | None = None
) -> Picture:
    """A network's output (1, C, H, W) as a picture: uint8 (H, W, 3) RGB.

    Values are clipped to the output's range, infinities too, and become floor(255 y) or floor(255 y + 0.5) as
    spec.rounding says, in float32. With these operations 255 * (k / 255) is exactly k for every k in 0..255, so
    truncating gives back what `tensor_from_picture` was given.

    Args:
        source: the input picture, before it was enlarged or padded; carries the chroma or lightness.
        size: height and width to crop to; None: those of `source`, enlarged as the network does.

    Raises:
        ValueError: another shape or type, too small, or NaN, which would turn into some grey value unseen.
    """
    if tensor.ndim != 4 or tensor.shape[:2] != (1, spec.output_planes) or tensor.dtype.kind != "f":
        wanted = f"(1, {spec.output_planes}, H, W) of floating point"
        raise ValueError(f"output is {tensor.shape} {tensor.dtype}; expected {wanted}")
    height, width = size or (source.shape[0] * spec.enlarges, source.shape[1] * spec.enlarges)
    if tensor.shape[2] < height or tensor.shape[3] < width:
        raise ValueError(f"output is {tensor.shape}; expected at least {height} rows and {width} columns")
    cropped = tensor[0, :, :height, :width]
    for plane, values in enumerate(cropped):
        if np.isnan(values.max(initial=0)):  # max hands NaN on and needs no second array
            raise ValueError(f"output holds NaN in plane {plane}; expected numbers in {list(spec.output_range)}")
    return _OUTPUTS[spec.output](cropped, spec, source)


def unit_range(tensor: NDArray[np.floating], spec: ModelSpec) -> NDArray[np.floating]:
    """Output whose black is 0 and white is 1, as metrics take it; itself where the network's range is [0, 1]."""
    low, high = spec.output_range
    return tensor if (low, high) == (0, 1) else (tensor - np.float32(low)) / np.float32(high - low)


def luma_from_picture(picture: Picture) -> Planes:
    """BT.601 luma (H, W) float32 on the scale 16 to 235, not rounded."""
    luma = np.full(picture.shape[:2], 16, np.float32)
    for plane, weight in enumerate(_TO_LUMA.astype(np.float32)):
        luma += weight * picture[..., plane]
    return luma


def _three_planes(picture: Picture, spec: ModelSpec, out: Planes) -> None:
    order = range(3) if spec.input == "rgb" else reversed(range(3))
    if spec.pre_upscale == 1:
        for plane, source in enumerate(order):
            # With dtype given, NumPy casts in small blocks; NumPy 1 would otherwise divide uint8 in float16.
            np.divide(picture[..., source], 255, out=_inner(out, picture)[plane], dtype=np.float32)
    else:
        for plane, source in enumerate(order):
            _place(_enlarged(picture[..., source].astype(np.float32), spec.pre_upscale) / np.float32(255), out[plane])
    _repeat_border(out, picture.shape[0] * spec.pre_upscale, picture.shape[1] * spec.pre_upscale)


def _luma(picture: Picture, spec: ModelSpec, out: Planes) -> None:
    luma = _enlarged(luma_from_picture(picture), spec.pre_upscale)
    _place(luma / np.float32(255), out[0])
    _repeat_border(out, *luma.shape)


def _lightness(picture: Picture, spec: ModelSpec, out: Planes) -> None:
    from reference_models.lightness import lightness_from_picture

    lightness = lightness_from_picture(picture)[0, 0]
    _place(lightness, out[0])
    _repeat_border(out, *lightness.shape)


def _noise(picture: Picture, spec: ModelSpec, out: Planes) -> None:
    out[:] = np.random.default_rng(0).standard_normal(out.shape, np.float32)


_INPUTS: dict[str, Callable[[Picture, ModelSpec, Planes], None]] = {
    "rgb": _three_planes,
    "bgr": _three_planes,
    "luma": _luma,
    "lightness": _lightness,
    "noise": _noise,
}


def _inner(out: Planes, picture: Picture) -> Planes:
    return out[:, : picture.shape[0], : picture.shape[1]]


def _place(plane: Planes, out: Planes) -> None:
    out[: plane.shape[0], : plane.shape[1]] = plane


def _repeat_border(out: Planes, height: int, width: int) -> None:
    """Fills what lies beyond `height` and `width` with the last column and then the last row."""
    out[:, :height, width:] = out[:, :height, width - 1 : width]
    out[:, height:, :] = out[:, height - 1 : height, :]


def _enlarged(plane: Planes, factor: int) -> Planes:
    if factor == 1:
        return plane
    from reference_models.resample import imresize

    return imresize(plane, plane.shape[0] * factor, plane.shape[1] * factor)


def _planes_to_rgb(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    picture = np.empty((*planes.shape[1:], 3), np.uint8)
    order = range(3) if spec.output == "rgb" else reversed(range(3))
    low, high = spec.output_range
    values = np.empty(planes.shape[1:], np.float32)  # one plane at a time: 33 MB at 4K
    for plane, target in enumerate(order):
        np.copyto(values, planes[plane], casting="same_kind")
        np.clip(values, low, high, out=values)
        if (low, high) != (0, 1):
            values -= low
            values /= high - low
        values *= 255
        picture[..., target] = _rounded(values, spec)
    return picture


def _rounded(values: Planes, spec: ModelSpec) -> Planes:
    """Numbers in 0..255 that a cast, which truncates, turns into the declared rounding; in place."""
    if spec.rounding == "nearest":
        values += 0.5
    return values


def _luma_to_rgb(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    height, width = planes.shape[1:]
    luma = np.clip(planes[0].astype(np.float32), 0, 1) * np.float32(255) - np.float32(16)
    chroma = [_chroma(source, row, spec.enlarges)[:height, :width] for row in _TO_CHROMA.astype(np.float32)]
    picture = np.empty((height, width, 3), np.uint8)
    for plane, (y, cb, cr) in enumerate(_FROM_YCC.astype(np.float32)):
        values = np.clip(y * luma + cb * chroma[0] + cr * chroma[1], 0, 255)
        picture[..., plane] = _rounded(values, spec)
    return picture


def _chroma(source: Picture, row: NDArray[np.float32], factor: int) -> Planes:
    plane = sum(weight * source[..., i].astype(np.float32) for i, weight in enumerate(row))
    return _enlarged(np.asarray(plane, np.float32), factor)


def _ab_to_rgb(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    from reference_models.lightness import picture_from_ab

    return picture_from_ab(planes[None], source)


def _recoloured(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    from reference_models.lightness import picture_from_rgb

    return picture_from_rgb(planes[None], source)


def _yuv_to_rgb(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    from reference_models.lightness import picture_from_yuv

    return picture_from_yuv(planes[None], source)


def _classes_to_rgb(planes: NDArray[np.floating], spec: ModelSpec, source: Picture) -> Picture:
    best, number = planes[0].copy(), np.zeros(planes.shape[1:], np.uint8)  # argmax(0) takes 700 MiB at 4K
    for plane in range(1, len(planes)):
        number[planes[plane] > best] = plane
        np.maximum(best, planes[plane], out=best)
    return class_colours(len(planes))[number]


_OUTPUTS: dict[str, Callable[[NDArray[np.floating], ModelSpec, Picture], Picture]] = {
    "rgb": _planes_to_rgb,
    "bgr": _planes_to_rgb,
    "luma": _luma_to_rgb,
    "ab": _ab_to_rgb,
    "yuv": _yuv_to_rgb,
    "recoloured": _recoloured,
    "classes": _classes_to_rgb,
}


def class_colours(count: int) -> Picture:
    """(count, 3) uint8: colour of every class, black for class 0.

    Source: the bits of the class number dealt out to the high bits of R, G, B in turn, as in the PASCAL VOC devkit.
    """
    colours = np.zeros((count, 3), np.uint8)
    for number in range(count):
        for bit in range(8):
            for plane in range(3):
                colours[number, plane] |= ((number >> (3 * bit + plane)) & 1) << (7 - bit)
    return colours
