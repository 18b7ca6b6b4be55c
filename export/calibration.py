"""Pictures → the tensors that ranges and second moments are found on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference_models.errors import UserError
from reference_models.spec import ModelSpec

CALIBRATION_SIDE = 512
"""Calibration pictures are cropped around their centre to at most this many pixels a side, those of the network's
output where it enlarges: every tensor of a picture is in memory at once."""
GAMMAS = (0.5, 2.0)
"""Each picture stands for a brighter and a darker one too. Few photographs hold few levels of light, and a network
clips what it never saw: dark-channel dehazing gained 1.7 dB by it on a picture brighter than the three."""
ENLARGED_SIDE = 1080
"""Smaller pictures also stand for ones whose shorter side has this many pixels. Large pictures are smoother, so that
what is divided by a picture's own deviation reaches further; frozen statistics made 0.1 dB at most of it
(docs/precision.md)."""
MOST_ENLARGED = 4.0
"""Times: beyond it a picture of few pixels would be one of a few blurred dots."""


def calibration_inputs(pictures: Sequence[np.ndarray], spec: ModelSpec) -> list[np.ndarray]:
    """(1, C, H, W) float32 per picture: its centre, at most CALIBRATION_SIDE pixels a side of the output, padded for
    the network.

    Raises:
        UserError: no pictures, or nothing but one colour in all of them.
    """
    from reference_models.colour import tensor_from_picture
    from reference_models.pictures import fit_picture

    if not pictures:
        raise UserError("calibration: no pictures", "at least one", "Give `--calibration DIR`")
    found = []
    longest = max(CALIBRATION_SIDE // spec.enlarges, 1)
    for picture in pictures:
        height, width = (min(side, longest) for side in picture.shape[:2])
        if spec.onnx and "height" in spec.options:  # an ONNX file of one size
            height, width = int(str(spec.options["height"])), int(str(spec.options["width"]))
            found.append(tensor_from_picture(fit_picture(picture, width, height), spec))
            continue
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        found.append(tensor_from_picture(picture[top : top + height, left : left + width], spec))
    if all(np.ptp(x, axis=(2, 3)).max() == 0 for x in found):
        raise UserError(
            f"calibration: {len(pictures)} pictures of one colour each",
            "pictures with the values that the network will see",
            "Give photographs with `--calibration DIR`",
        )
    return found


def further_inputs(pictures: Sequence[np.ndarray], spec: ModelSpec, statistics: str | None) -> list[np.ndarray]:
    """As `calibration_inputs`, of every picture once for each of GAMMAS, with `image` statistics also enlarged where it
    is small: for ranges and moments, not for judging.

    None for networks that enlarge: they take the steps that 8 bits leave in brightened shadows for detail, and ranges
    of VDSR became up to five times as wide.
    """
    if spec.enlarges > 1:
        return []
    tables = [np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8) for gamma in GAMMAS]
    further = [table[picture] for picture in pictures for table in tables]
    if statistics == "image":
        further += [_enlarged(picture) for picture in pictures if min(picture.shape[:2]) < ENLARGED_SIDE]
    return calibration_inputs(further, spec)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """What `calibration_inputs` would cut out of the enlarged picture; cut out first, so that it stays small whatever
    the picture's shape."""
    from reference_models.pictures import fit_picture

    factor = min(ENLARGED_SIDE / min(picture.shape[:2]), MOST_ENLARGED)
    height, width = (min(side, round(CALIBRATION_SIDE / factor)) for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    cut = picture[top : top + height, left : left + width]
    return fit_picture(cut, round(factor * width), round(factor * height))
