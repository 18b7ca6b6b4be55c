"""Colorization: the network of "Let there be Color!", which gives a grey photograph its colours."""

from __future__ import annotations

from typing import Any

from reference_models.spec import Evaluation, ModelSpec, Option

_SOURCE = (
    "Iizuka, Simo-Serra, Ishikawa: Let there be Color!: Joint End-to-end Learning of Global and Local Image Priors for "
    "Automatic Image Colorization with Simultaneous Classification, SIGGRAPH 2016 (ACM TOG 35(4), 110), section 3 and "
    "table 1, https://doi.org/10.1145/2897824.2925974; https://github.com/satoshiiizuka/siggraph2016_colorization"
)

# Per space: the kind of the output planes, and their number.
_OUTPUTS: dict[str, tuple[Any, int]] = {"lab": ("ab", 2), "rgb": ("recoloured", 3), "yuv": ("yuv", 2)}

_OFFERS = (
    Option(
        "space",
        "lab",
        "colour space of the output: lab gives a*b* and yuv gives UV for the input's lightness, rgb gives R, G, B",
        ("lab", "rgb", "yuv"),
    ),
    Option(
        "classifier",
        "yes",
        "whether weights hold the scene classifier that training used; the deployed graph is the same without it",
        ("yes", "no"),
    ),
    Option(
        "batch_norm",
        "folded",
        "into convolutions and full connections, as deployed, or kept, as trained",
        ("folded", "kept"),
    ),
)


def configure(name: str, space: str, classifier: str, batch_norm: str) -> ModelSpec:
    """The spec of one choice; `classifier` is yes or no, `batch_norm` folded or kept."""
    norms = {"batch_norm": True} if batch_norm == "kept" else {}
    output, planes = _OUTPUTS[space]
    return ModelSpec(
        name=name,
        family="Let there be Color!",
        factory="reference_models.networks.colorization:Colorization",
        options={"space": space, "classifier": classifier == "yes", **norms},
        source=_SOURCE,
        licence="the released code and weights are CC BY-NC-SA 4.0, not for commercial use; none of them ship here",
        description="local features fused with 256 global ones of the picture at 224x224; lightness in, colour out",
        task="colorization",
        offers=_OFFERS,
        configure="reference_models.colorization:configure",
        input="lightness",
        output=output,
        input_planes=1,
        output_planes=planes,
        size_multiple=8,
        receptive_field_px=None,
        whole_picture="the global branch sees the whole picture",
        style=True,
        evaluation=Evaluation(
            channels="none",
            note="no PSNR in the paper: a user study asks if pictures look natural. Input: the photograph's lightness",
        ),
        importer="reference_models.networks.colorization:state_from_trained",
    )


SPECS = (configure("colorization", "lab", "yes", "folded"),)
