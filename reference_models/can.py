"""CAN: the context aggregation networks of "Fast Image Processing with Fully-Convolutional Networks"."""

from __future__ import annotations

from reference_models.spec import ModelSpec

_SOURCE = (
    "Chen, Xu, Koltun: Fast Image Processing with Fully-Convolutional Networks, ICCV 2017, section 3, "
    "https://arxiv.org/abs/1709.00643; as released in https://github.com/CQFIO/FastImageProcessing (CAN24_AN)"
)

# Dilations of the 3x3 convolutions. The released CAN24_AN numbers its layers 1 to 7 and 9; there is no layer 8.
_CAN24 = (1, 2, 4, 8, 16, 32, 64, 1)
_CAN32 = (1, 2, 4, 8, 16, 32, 64, 128, 1)


def _can(name: str, width: int, dilations: tuple[int, ...], description: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="CAN",
        factory="reference_models.networks.can:Can",
        options={"width": width, "dilations": dilations},
        source=_SOURCE,
        licence="MIT",
        description=description,
        channels="BGR",
        rounding="truncate",
        receptive_field_px=1 + 2 * sum(dilations),
        statistics=("image", "frozen", "thumbnail"),
        importer="reference_models.networks.can_tensorflow:state_from_tensorflow",
    )


SPECS = (
    _can("can24", 24, _CAN24, "8 dilated 3x3 convolutions of 24 channels with adaptive normalisation, then 1x1"),
    _can("can32", 32, _CAN32, "9 dilated 3x3 convolutions of 32 channels with adaptive normalisation, then 1x1"),
)
