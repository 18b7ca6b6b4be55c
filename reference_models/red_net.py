"""RED-Net: the residual encoder-decoder networks for restoration, of 10, 20 and 30 layers."""

from __future__ import annotations

from reference_models.spec import Evaluation, ModelSpec, Option

_SOURCE = (
    "Mao, Shen, Yang: Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks with Symmetric Skip "
    "Connections, NIPS 2016, https://arxiv.org/abs/1603.09056; longer: https://arxiv.org/abs/1606.08921"
)
_NOTE = "Gaussian noise of deviation 10, 30, 50 or 70 of 255, added to grey pictures; one network for each or for all"
_DEPTHS = {"red10": 10, "red20": 20, "red30": 30}
_TRAINED = ("red10", "red30")
"""Those that weights ship for, on luma."""

_OFFERS = (Option("planes", 1, "1: luma, the picture keeps its own chroma; 3: R, G, B at once", choices=(1, 3)),)


def configured(name: str, planes: int) -> ModelSpec:
    """The spec of red10, red20 or red30 for luma or for R, G, B."""
    depth = _DEPTHS[name]
    return ModelSpec(
        name=name,
        family="RED-Net",
        factory="reference_models.networks.red_net:RedNet",
        source=_SOURCE,
        licence="none stated for the published code; written from the paper",
        description=f"{depth // 2} convolutions and {depth // 2} deconvolutions 3x3 of 64 channels, skips every two",
        task="denoising",
        options={"depth": depth, "planes": planes},
        offers=_OFFERS,
        configure="reference_models.red_net:configured",
        input="luma" if planes == 1 else "rgb",
        output="luma" if planes == 1 else "rgb",
        input_planes=planes,
        output_planes=planes,
        receptive_field_px=1 + 2 * depth,
        weights={"bsds": f"{name}-bsds.safetensors"} if planes == 1 and name in _TRAINED else {},
        evaluation=Evaluation("grey" if planes == 1 else "RGB", note=_NOTE if planes == 1 else ""),
    )


SPECS = tuple(configured(name, 1) for name in _DEPTHS)
