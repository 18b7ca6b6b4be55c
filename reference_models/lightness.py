"""Pictures ↔ the planes of colorization networks: lightness in; a*b*, UV or RGB out, all of them in [0, 1]. No torch.

A network's sigmoid reaches 0 to 1, so every kind of colour plane has a linear map to a range of its own. The networks
say nothing about light and dark: the lightness, or luma, of the picture that comes out is that of the picture given.
Strips of rows are converted one at a time, so that a 4K picture needs tens of MB beside itself, not gigabytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from reference_models.pictures import Picture

Planes = NDArray[np.float32]

AB_RANGE = (-100.0, 100.0)
"""What 0 and 1 mean in planes of a* and b*. Source: colorize.lua of the release, 100 * (2 y - 1)."""
UV_RANGES = ((-0.436, 0.436), (-0.615, 0.615))
"""What 0 and 1 mean in planes of U and V: all that RGB in [0, 1] can have (BT.601). The paper states none."""

_STRIP_ROWS = 128


def lightness_from_picture(picture: Picture) -> Planes:
    """CIE 1976 lightness L* / 100 of sRGB, white point D65: float32 (1, 1, H, W) in [0, 1].

    The released code feeds luma less the mean of its training set; here the mean is the network's own affair.

    Args:
        picture: uint8 (H, W, 3) RGB.
    """
    lightness = np.empty((1, 1, *picture.shape[:2]), np.float32)
    for rows in _strips(picture):
        lightness[0, 0, rows] = _lab_from_rgb(picture[rows])[..., 0] / 100
    return np.clip(lightness, 0, 1, out=lightness)


def ab_from_picture(picture: Picture) -> Planes:
    """a* and b* of a picture as the network gives them: float32 (1, 2, H, W), clipped to [0, 1].

    What training aims at. Only b* of the most saturated blues, down to -108, lies outside.
    """
    planes = np.empty((1, 2, *picture.shape[:2]), np.float32)
    for rows in _strips(picture):
        planes[0, :, rows] = _to_unit(_lab_from_rgb(picture[rows])[..., 1:], AB_RANGE).transpose(2, 0, 1)
    return np.clip(planes, 0, 1, out=planes)


def uv_from_picture(picture: Picture) -> Planes:
    """U and V (BT.601) of a picture as the network gives them: float32 (1, 2, H, W) in [0, 1]."""
    planes = np.empty((1, 2, *picture.shape[:2]), np.float32)
    for rows in _strips(picture):
        yuv = _yuv_from_rgb(_unit(picture[rows]))
        for plane, limits in enumerate(UV_RANGES):
            planes[0, plane, rows] = _to_unit(yuv[..., 1 + plane], limits)
    return np.clip(planes, 0, 1, out=planes)


def picture_from_ab(ab: NDArray[np.floating], picture: Picture) -> Picture:
    """The colours a*b* with the lightness of a picture: uint8 (h, w, 3) RGB.

    Colours outside of sRGB are clipped plane by plane. The released code goes on to replace the result's luma by the
    picture's, which matters where colours were clipped; with the lightness kept that is left out.

    Args:
        ab: (1, 2, h, w), values are clipped to [0, 1].
        picture: uint8 (H, W, 3) RGB with H >= h and W >= w; its upper left part is taken.

    Raises:
        ValueError: another number of planes, or a picture smaller than them.
    """

    def coloured(rows: Picture, planes: Planes) -> NDArray[np.floating]:
        lab = np.empty((*planes.shape[1:], 3), np.float32)
        lab[..., 0] = _lab_from_rgb(rows)[..., 0]
        lab[..., 1:] = _from_unit(planes, AB_RANGE).transpose(1, 2, 0)
        return _rgb_from_lab(lab)

    return _painted(ab, picture, 2, coloured)


def picture_from_yuv(uv: NDArray[np.floating], picture: Picture) -> Picture:
    """The colours U and V with the luma Y (BT.601) of a picture: uint8 (h, w, 3) RGB, clipped plane by plane.

    Arguments and errors as `picture_from_ab`.
    """

    def coloured(rows: Picture, planes: Planes) -> NDArray[np.floating]:
        yuv = _yuv_from_rgb(_unit(rows))
        for plane, limits in enumerate(UV_RANGES):
            yuv[..., 1 + plane] = _from_unit(planes[plane], limits)
        return _rgb_from_yuv(yuv)

    return _painted(uv, picture, 2, coloured)


def picture_from_rgb(rgb: NDArray[np.floating], picture: Picture) -> Picture:
    """The colours of an RGB prediction with the luma Y of a picture: uint8 (h, w, 3) RGB, clipped plane by plane.

    As the released code ends: the chroma U, V is the prediction's, Y is the picture's.

    Args:
        rgb: (1, 3, h, w), values are clipped to [0, 1].
        picture: as for `picture_from_ab`, whose errors are those of this function.
    """

    def coloured(rows: Picture, planes: Planes) -> NDArray[np.floating]:
        yuv = _yuv_from_rgb(planes.transpose(1, 2, 0))
        yuv[..., 0] = _yuv_from_rgb(_unit(rows))[..., 0]
        return _rgb_from_yuv(yuv)

    return _painted(rgb, picture, 3, coloured)


def _painted(
    planes: NDArray[np.floating],
    picture: Picture,
    count: int,
    coloured: Callable[[Picture, Planes], NDArray[np.floating]],
) -> Picture:
    """Every strip of a picture given its colours; values in [0, 1] become floor(255 y + 0.5)."""
    if planes.ndim != 4 or planes.shape[:2] != (1, count):
        raise ValueError(f"colours are {planes.shape}; expected (1, {count}, H, W)")
    height, width = planes.shape[2:]
    if picture.shape[0] < height or picture.shape[1] < width:
        raise ValueError(f"the picture is {picture.shape}, smaller than its {height}x{width} colours")
    painted = np.empty((height, width, 3), np.uint8)
    for rows in _strips(painted):
        strip = np.clip(planes[0, :, rows].astype(np.float32), 0, 1)
        painted[rows] = np.clip(coloured(picture[rows, :width], strip), 0, 1) * 255 + 0.5
    return painted


def _strips(picture: Picture) -> Iterator[slice]:
    for top in range(0, len(picture), _STRIP_ROWS):
        yield slice(top, min(top + _STRIP_ROWS, len(picture)))


def _unit(picture: Picture) -> Planes:
    return picture.astype(np.float32) / np.float32(255)


def _to_unit(values: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.floating]:
    low, high = limits
    return (values - low) / (high - low)


def _from_unit(values: Planes, limits: tuple[float, float]) -> Planes:
    low, high = limits
    return values * np.float32(high - low) + np.float32(low)


# scikit-image is imported where it is used: it takes a second, and only colorization needs it.


def _lab_from_rgb(picture: Picture) -> NDArray[np.floating]:
    from skimage.color import rgb2lab

    return rgb2lab(_unit(picture))


def _rgb_from_lab(lab: Planes) -> NDArray[np.floating]:
    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours outside of XYZ: that they are clipped, as is wanted here
        return lab2rgb(lab)


def _yuv_from_rgb(rgb: Planes) -> NDArray[np.floating]:
    from skimage.color import rgb2yuv

    return rgb2yuv(rgb)


def _rgb_from_yuv(yuv: NDArray[np.floating]) -> NDArray[np.floating]:
    from skimage.color import yuv2rgb

    return yuv2rgb(yuv)
