"""SRGAN: the generator of "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network"."""

from __future__ import annotations

from reference_models.spec import Evaluation, Figure, ModelSpec, Option

_SOURCE = (
    "Ledig, Theis, Huszar, Caballero, Cunningham, Acosta, Aitken, Tejani, Totz, Wang, Shi: Photo-Realistic Single "
    "Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017, section 2.1 and figure 4, "
    "https://arxiv.org/abs/1609.04802"
)
_FIGURES = (
    Figure("PSNR on Set5, trained for MSE (SRResNet)", 32.05, "dB", "table 2"),
    Figure("PSNR on Set14, trained for MSE (SRResNet)", 28.49, "dB", "table 2"),
    Figure("PSNR on Set5, trained with VGG54 and discriminator (SRGAN)", 29.40, "dB", "table 2"),
    Figure("PSNR on Set14, trained with VGG54 and discriminator (SRGAN)", 26.02, "dB", "table 2"),
)
_BLOCKS = 16
# Widest reach of an output pixel, at its own scale and then down: 4 px of the last 9x9, a 3x3 at twice and one at the
# input's size, which round up to 3 px together; then the 3x3 layers at the input's size, and the first 9x9.
_HALO_PX = 3 + (1 + 2 * _BLOCKS) + 4


def configured(name: str, batch_norm: str) -> ModelSpec:
    """The spec of the generator with batch normalisation `folded` into the convolutions, or `kept` as trained."""
    return ModelSpec(
        name=name,
        family="SRGAN",
        factory="reference_models.networks.srgan:SrResNet",
        source=_SOURCE,
        licence="no code published; written from the paper",
        description="SRResNet generator: 16 residual blocks of 64 channels, then twice convolution and PixelShuffle",
        task="super-resolution",
        options={"blocks": _BLOCKS, "width": 64, "batch_norm": batch_norm},
        offers=(
            Option(
                "batch_norm",
                "folded",
                "into the convolutions, as deployed, or kept, as trained",
                choices=("folded", "kept"),
            ),
        ),
        configure="reference_models.srgan:configured",
        output_range=(-1.0, 1.0),
        upscale=4,
        receptive_field_px=1 + 2 * _HALO_PX,
        evaluation=Evaluation("Y", 4, "computed with the daala package; input: imresize bicubic"),
        figures=_FIGURES,
        importer="reference_models.networks.srgan:state_from_trained",
        weights={"srresnet": f"{name}-srresnet.safetensors"} if batch_norm == "folded" else {},  # trained for mse
    )


SPECS = (configured("srgan_x4", "folded"),)
