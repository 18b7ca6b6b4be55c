"""PixelDCN: pixel deconvolutional networks, a U-Net for segmentation and a decoder for generation; and their layers.

`PixelDCL`, `IPixelDCL` and `IPixelCL` can be had from here; asking for one imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reference_models.spec import Evaluation, ModelSpec, Option

if TYPE_CHECKING:
    from reference_models.networks.pixel_dcn import IPixelCL, IPixelDCL, PixelDCL

__all__ = ["SPECS", "IPixelCL", "IPixelDCL", "PixelDCL", "configured", "configured_vae"]

_SOURCE = "Gao, Yuan, Wang, Ji: Pixel Deconvolutional Networks, 2017, https://arxiv.org/abs/1705.06820"
_RELEASE = "https://github.com/HongyangGao/PixelDCN"

_UPSAMPLING = Option(
    "upsampling",
    "pixel_dcl",
    "layer that doubles the size; ipixel_cl, which keeps it, stands behind a repetition of pixels",
    choices=("deconvolution", "pixel_dcl", "ipixel_dcl", "ipixel_cl"),
)
_UNET_OFFERS = (
    _UPSAMPLING,
    Option("convolution", "conv", "layer behind each concatenation in the decoder", choices=("conv", "ipixel_cl")),
    Option("depth", 5, "levels, the bottom one included", low=2, high=7),
    Option("width", 16, "planes of the first level, doubled at every next one", low=1, high=256),
    Option("classes", 21, "classes to score, background included", low=2, high=256),
)
_TRAINED: dict[str, Any] = {
    "upsampling": "pixel_dcl", "convolution": "conv", "depth": 5, "width": 16, "classes": 21,
}  # fmt: skip
"""The U-Net's defaults, which weights ship for."""
_VAE_OFFERS = (_UPSAMPLING, Option("latent", 64, "planes of the latent map", low=1, high=1024))

Interval = tuple[int, int]
"""First and last row (or column) of a map."""

_READ: dict[str, Callable[[int, int], Interval]] = {
    "conv": lambda low, high: (low - 1, high + 1),
    "pool": lambda low, high: (2 * low, 2 * high + 1),
    "deconvolution": lambda low, high: ((low + 1) // 2 - 1, high // 2),
    "pixel_dcl": lambda low, high: ((low + 1) // 2 - 3, high // 2 + 2),
    "ipixel_dcl": lambda low, high: (low // 2 - 3, high // 2 + 3),
    "ipixel_cl": lambda low, high: (low // 2, high // 2 + 1),
    "ipixel_cl keeping the size": lambda low, high: (low // 2 * 2, high // 2 * 2 + 2),
}
"""What a layer of 3x3 kernels reads for an interval of its output, the widest over the other axis; beyond the borders
too. Pixel layers read unlike spans for even and odd entries, so nothing simpler than an interval will do."""


def _read(layers: tuple[str, ...], wanted: Interval) -> Interval:
    """What is read of the first layer's input for this interval of the last one's output."""
    for layer in reversed(layers):
        wanted = _READ[layer](*wanted)
    return wanted


def _read_by_unet(upsampling: str, convolution: str, levels: int, wanted: Interval) -> Interval:
    """What a U-Net with this many poolings reads of its input for an interval of its output."""
    if levels == 0:
        return _read(("conv", "conv"), wanted)
    decoder = "conv" if convolution == "conv" else "ipixel_cl keeping the size"
    skipped = _read((decoder, "conv"), wanted)
    below = _read_by_unet(upsampling, convolution, levels - 1, _read((upsampling,), skipped))
    pooled = _read(("pool",), below)
    return _read(("conv", "conv"), (min(skipped[0], pooled[0]), max(skipped[1], pooled[1])))


def _halo(reads: Callable[[Interval], Interval], period: int, upscale: int = 1) -> int:
    """Widest reach on either side of the input pixel over which an output pixel lies, over all pixels of a period."""
    spans = ((pixel // upscale, *reads((pixel, pixel))) for pixel in range(period))
    return max(max(own - low, high - own) for own, low, high in spans)


def configured(name: str, *, upsampling: str, convolution: str, depth: int, width: int, classes: int) -> ModelSpec:
    """The spec of pixel_dcn with these layers and sizes."""
    choices = {
        "upsampling": upsampling, "convolution": convolution, "depth": depth, "width": width, "classes": classes,
    }  # fmt: skip
    halo = _halo(lambda wanted: _read_by_unet(upsampling, convolution, depth - 1, wanted), 2 ** (depth - 1))
    return ModelSpec(
        name=name,
        family="PixelDCN",
        factory="reference_models.networks.pixel_dcn_nets:PixelDcn",
        source=f"{_SOURCE}, segmentation; network.py and main.py of {_RELEASE}",
        licence="MIT",
        description="U-Net for segmentation with pixel deconvolution in place of deconvolution",
        task="segmentation",
        options=choices,
        offers=_UNET_OFFERS,
        configure="reference_models.pixel_dcn:configured",
        input="rgb",
        output="classes",
        output_planes=classes,
        size_multiple=2 ** (depth - 1),
        receptive_field_px=1 + 2 * halo,
        statistics=("image", "frozen"),
        evaluation=Evaluation("none", note="pixel accuracy and mean IoU over the classes, PASCAL VOC 2012 and MSCOCO"),
        weights={"scenes": "pixel_dcn-scenes.safetensors"} if choices == _TRAINED else {},
    )


def configured_vae(name: str, upsampling: str, latent: int) -> ModelSpec:
    """The spec of pixel_vae with this up-sampling layer and this many latent planes."""
    layers = ("conv", *[upsampling] * 4, "conv")
    return ModelSpec(
        name=name,
        family="PixelDCN",
        factory="reference_models.networks.pixel_dcn_nets:PixelVaeDecoder",
        source=f"{_SOURCE}, image generation; depth and widths are ours",
        licence="written from the paper; layers as in the published code (MIT)",
        description="decoder of a variational autoencoder: noise to a picture of 16 times its size",
        task="generation",
        options={"upsampling": upsampling, "latent": latent},
        offers=_VAE_OFFERS,
        configure="reference_models.pixel_dcn:configured_vae",
        input="noise",
        input_planes=latent,
        upscale=16,
        receptive_field_px=1 + 2 * _halo(lambda wanted: _read(layers, wanted), 16, upscale=16),
        evaluation=Evaluation("none", note="faces of CelebA at 64x64, judged by eye: no ground truth belongs to noise"),
    )


SPECS = (
    configured("pixel_dcn", **_TRAINED),
    configured_vae("pixel_vae", "pixel_dcl", 64),
)


def __getattr__(name: str) -> Any:
    if name not in {"PixelDCL", "IPixelDCL", "IPixelCL"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reference_models.networks import pixel_dcn

    return getattr(pixel_dcn, name)
