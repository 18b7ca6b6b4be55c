"""VDSR: "Accurate Image Super-Resolution Using Very Deep Convolutional Networks"."""

from __future__ import annotations

from reference_models.spec import Evaluation, Figure, ModelSpec, Option

_SOURCE = (
    "Kim, Lee, Lee: Accurate Image Super-Resolution Using Very Deep Convolutional Networks, CVPR 2016, sections 3 and "
    "4, https://arxiv.org/abs/1511.04587; without biases, as the weights released in "
    "https://github.com/twtygqyy/pytorch-vdsr"
)
_FIGURES = {
    2: (Figure("PSNR on Set5, x2", 37.53, "dB", "table 3"), Figure("PSNR on Set14, x2", 33.03, "dB", "table 3")),
    3: (Figure("PSNR on Set5, x3", 33.66, "dB", "table 3"), Figure("PSNR on Set14, x3", 29.77, "dB", "table 3")),
    4: (Figure("PSNR on Set5, x4", 31.35, "dB", "table 3"), Figure("PSNR on Set14, x4", 28.01, "dB", "table 3")),
}
_DEPTH = 20


def configured(name: str, scale: int) -> ModelSpec:
    """The spec for this scale. The network and its weights are the same for all scales."""
    return ModelSpec(
        name=name,
        family="VDSR",
        factory="reference_models.networks.vdsr:Vdsr",
        source=_SOURCE,
        licence="MIT",
        description="bicubic first, then 20 convolutions 3x3 of 64 channels that add what is missing, on luma",
        task="super-resolution",
        options={"depth": _DEPTH, "width": 64},
        offers=(Option("scale", 2, "how far the picture is enlarged (bicubic) first; one net for all", (2, 3, 4)),),
        configure="reference_models.vdsr:configured",
        input="luma",
        pre_upscale=scale,
        output="luma",
        input_planes=1,
        output_planes=1,
        receptive_field_px=1 + 2 * _DEPTH,
        evaluation=Evaluation(
            "Y", scale, "luma not rounded; input: the picture cut to a multiple of the scale, imresize"
        ),
        figures=_FIGURES[scale],
        weights={"bsds": "vdsr-bsds.safetensors"} if scale == 2 else {},  # trained for that scale alone
        importer="reference_models.networks.vdsr:state_from_released",
    )


SPECS = (configured("vdsr", 2),)
