"""SRCNN: the three-layer network of "Image Super-Resolution Using Deep Convolutional Networks"."""

from __future__ import annotations

from reference_models.spec import Evaluation, Figure, ModelSpec, Option

_SOURCE = (
    "Dong, Loy, He, Tang: Learning a Deep Convolutional Network for Image Super-Resolution, ECCV 2014, and Image "
    "Super-Resolution Using Deep Convolutional Networks, TPAMI 38(2), 2016, section 3, https://arxiv.org/abs/1501.00092"
)
_NOTE = "luma rounded to 8 bits before and after; input: the picture cut to a multiple of the scale, imresize bicubic"

# Mean PSNR of Set5: 9-1-5 trained on 91 pictures (ECCV 2014), 9-5-5 trained on ImageNet (TPAMI).
_SET5_DB = {
    "srcnn_915": ("ECCV 2014, table 1", {2: 36.34, 3: 32.39, 4: 30.09}),
    "srcnn_955": ("TPAMI 2016, table 2", {2: 36.66, 3: 32.75, 4: 30.49}),
}
_MAPPING = {"srcnn_915": 1, "srcnn_955": 5}
_WEIGHTS = {"srcnn_915": 8032, "srcnn_955": 57184}
_TRAINED = (("srcnn_915", 3, "replicate"), ("srcnn_955", 3, "replicate"))
"""Networks, with their choices, that weights ship for."""

_OFFERS = (
    Option("scale", 3, "how far the picture is enlarged (bicubic) before the network refines it", choices=(2, 3, 4)),
    Option(
        "border",
        "replicate",
        "what the convolutions see beyond the border: its repetition, as the published test code, or zeros",
        choices=("replicate", "zeros"),
    ),
)


def configured(name: str, scale: int, border: str) -> ModelSpec:
    """The spec of srcnn_915 or srcnn_955 for this scale and border."""
    mapping = _MAPPING[name]
    where, decibels = _SET5_DB[name]
    trained = (name, scale, border) in _TRAINED
    return ModelSpec(
        name=name,
        family="SRCNN",
        factory="reference_models.networks.srcnn:Srcnn",
        source=_SOURCE,
        licence="none stated for the published code; written from the paper",
        description=f"bicubic first, then convolutions 9-{mapping}-5 of 64 and 32 channels, on luma",
        task="super-resolution",
        options={"mapping": mapping, "border": border},
        offers=_OFFERS,
        configure="reference_models.srcnn:configured",
        input="luma",
        pre_upscale=scale,
        output="luma",
        input_planes=1,
        output_planes=1,
        receptive_field_px=9 + mapping + 5 - 2,
        evaluation=Evaluation("Y", scale, _NOTE),
        figures=(
            Figure(f"PSNR on Set5, x{scale}", decibels[scale], "dB", where),
            Figure("weights, without the 97 biases", _WEIGHTS[name], "parameters", "TPAMI 2016, section 4.3"),
        ),
        weights={"bsds": f"{name}-bsds.safetensors"} if trained else {},
    )


SPECS = tuple(configured(name, 3, "replicate") for name in _MAPPING)
