"""Dark-channel dehazing: in clear air something near every pixel is dark in some colour; what is not there is haze."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.operator import Operator, unit_from_picture
from reference_models.pictures import Picture

Plane = NDArray[np.float32]
_BRIGHTEST = 0.001
"""Share of the pixels, the haziest, among which the air's light is looked for. Source: section 4.3 of the paper."""


def dehaze(
    picture: Picture, *, patch_px: int, haze_removed: float, least: float, radius_px: int, smoothness: float
) -> NDArray[np.float32]:
    """The picture as it would be in clear air, (H, W, 3) float32 near [0, 1].

    Args:
        patch_px: side of the square in which something is taken to be dark.
        haze_removed: omega; 1 would leave no haze, and the picture without depth.
        least: transmission that no pixel is taken to be below.
        radius_px: of the guided filter, which moves the edges of the transmission to those of the picture.
        smoothness: of the guided filter: variance of the picture below which it smooths.

    Source: He, Sun, Tang, section 4. Their soft matting is replaced by their later filter: Guided Image Filtering, ECCV
        2010, which that paper shows for this very use.
    """
    from scipy.ndimage import minimum_filter

    values = unit_from_picture(picture)
    light = air_light(values, minimum_filter(values.min(2), patch_px))
    hazy = 1 - np.float32(haze_removed) * minimum_filter((values / light).min(2), patch_px)
    transmission = guided(values, hazy, 2 * radius_px + 1, smoothness)
    made = (values - light) / np.maximum(transmission, np.float32(least))[..., None] + light
    return made.astype(np.float32, copy=False)


def air_light(values: NDArray[np.float32], dark: Plane) -> NDArray[np.float32]:
    """R, G, B of the brightest of those pixels whose dark channel is highest; at least 1/255 each."""
    count = max(1, int(dark.size * _BRIGHTEST))
    haziest = values.reshape(-1, 3)[np.argpartition(dark, dark.size - count, axis=None)[-count:]]
    brightest: NDArray[np.float32] = haziest[haziest.sum(1).argmax()]
    return np.maximum(brightest, np.float32(1 / 255))


def guided(guide: NDArray[np.float32], values: Plane, side_px: int, smoothness: float) -> Plane:
    """Values (H, W), smoothed where the guide (H, W, 3) is smooth: in each square a linear function of its colours.

    Source: He, Sun, Tang: Guided Image Filtering, ECCV 2010, section 3.4.
    """

    from scipy.ndimage import uniform_filter

    def mean(plane: Plane) -> Plane:
        out: Plane = uniform_filter(plane.astype(np.float64), side_px, mode="nearest").astype(np.float32)
        return out

    colours = np.ascontiguousarray(guide.transpose(2, 0, 1))
    means, average = np.stack([mean(c) for c in colours]), mean(values)
    covariance = np.empty((*values.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            covariance[..., i, j] = covariance[..., j, i] = mean(colours[i] * colours[j]) - means[i] * means[j]
        covariance[..., i, i] += np.float32(smoothness)
    joint = np.stack([mean(c * values) - m * average for c, m in zip(colours, means, strict=True)], axis=-1)
    slopes = np.linalg.solve(covariance, joint[..., None])[..., 0].transpose(2, 0, 1)
    offset = mean(average - (slopes * means).sum(0))
    for slope, colour in zip(slopes, colours, strict=True):
        offset += mean(slope) * colour
    return offset


OPERATOR = Operator(
    name="dark_channel",
    title="Dark-channel dehazing",
    source="He, Sun, Tang: Single Image Haze Removal Using Dark Channel Prior, CVPR 2009, "
    "https://doi.org/10.1109/CVPR.2009.5206515",
    parameters={"patch_px": 15, "haze_removed": 0.95, "least": 0.1, "radius_px": 60, "smoothness": 1e-3},
    compute=dehaze,
)
