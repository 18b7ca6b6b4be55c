"""ESPCN: the efficient sub-pixel network of "Real-Time Single Image and Video Super-Resolution …" (CVPR 2016)."""

from __future__ import annotations

from reference_models.spec import Evaluation, Figure, ModelSpec, Option

_SOURCE = (
    "Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert, Wang: Real-Time Single Image and Video Super-Resolution "
    "Using an Efficient Sub-Pixel Convolutional Neural Network, CVPR 2016, sections 2 and 3.2, "
    "https://arxiv.org/abs/1609.05158"
)
# Trained on ImageNet, tanh.
_FIGURES = {
    3: (
        Figure("PSNR on Set5, x3, tanh", 33.13, "dB", "table 2"),
        Figure("PSNR on Set14, x3, tanh", 29.49, "dB", "table 2"),
        Figure("time for one 1080p video frame, x3, on a K2 GPU", 0.038, "s", "section 3.5"),
    ),
    4: (
        Figure("PSNR on Set5, x4, tanh", 30.90, "dB", "table 2"),
        Figure("PSNR on Set14, x4, tanh", 27.73, "dB", "table 2"),
        Figure("time for one 1080p video frame, x4, on a K2 GPU", 0.029, "s", "section 3.5"),
    ),
}
_OFFERS = (
    Option(
        "activation",
        "tanh",
        "after the first two layers: tanh, as the paper's final model, or relu, as its comparison with SRCNN",
        choices=("tanh", "relu"),
    ),
)


def configured(name: str, activation: str) -> ModelSpec:
    """The spec of espcn_x2, espcn_x3 or espcn_x4 with this activation."""
    scale = int(name.removeprefix("espcn_x"))
    return ModelSpec(
        name=name,
        family="ESPCN",
        factory="reference_models.networks.espcn:Espcn",
        source=_SOURCE,
        licence="no code published; written from the paper",
        description=f"convolutions 5-3-3 of 64, 32, {scale**2} channels at low resolution, then PixelShuffle, on luma",
        task="super-resolution",
        options={"scale": scale, "activation": activation},
        offers=_OFFERS,
        configure="reference_models.espcn:configured",
        input="luma",
        output="luma",
        input_planes=1,
        output_planes=1,
        upscale=scale,
        receptive_field_px=5 + 3 + 3 - 2,
        evaluation=Evaluation(
            "Y", scale, "the paper makes its input by Gaussian blur and sub-sampling, and does not state the border"
        ),
        figures=_FIGURES.get(scale, ()) if activation == "tanh" else (),
        weights={"bsds": f"{name}-bsds.safetensors"} if activation == "tanh" else {},
    )


SPECS = tuple(configured(f"espcn_x{scale}", "tanh") for scale in (2, 3, 4))
