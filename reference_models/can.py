"""CAN: the context aggregation networks of "Fast Image Processing with Fully-Convolutional Networks"."""

from __future__ import annotations

from dataclasses import replace

from reference_models.spec import Evaluation, ModelSpec, Option

_PAPER = (
    "Chen, Xu, Koltun: Fast Image Processing with Fully-Convolutional Networks, ICCV 2017, section 3, "
    "https://arxiv.org/abs/1709.00643"
)
_RELEASE = "https://github.com/CQFIO/FastImageProcessing"
_EVALUATION = Evaluation(
    channels="RGB", note="against the operator's own output, MIT-Adobe FiveK at 1080p, 2,500 test pictures"
)

OPERATORS = (
    "nonlocal_dehazing", "dark_channel", "multiscale_tone", "detail_manipulation", "l0_smoothing", "pencil", "rof",
    "rtv", "photographic_style", "tvl1",
)  # fmt: skip
"""Ten operators in the order of their planes. Source: `prepare_data` in Single_Network/combined.py of the release."""
_OPERATOR = Option("operator", "l0_smoothing", "which of its ten operators the network applies", choices=OPERATORS)

_TRAINED = {
    "can24": ("l0_smoothing", "rof", "dark_channel", "multiscale_tone", "pencil"),
    "can32": ("l0_smoothing", "rof", "dark_channel", "multiscale_tone", "pencil"),
}
"""Operators whose trained weights ship, the default first."""

_PARAMETER = Option("parameter", 0.5, "value of the extra input plane: the operator's strength", low=0.01, high=1.0)
"""The release sweeps k / 200 for k = 2 to 200 (`hyper_parameter` in Parameterized_Network/parameterized.py); it names
no default, so ours is the middle."""

_DEPTH = Option(
    "depth", 10, "layers as the paper counts them: d - 1 of 3x3, the last one 1x1", low=3, high=16
)  # dilation 8192 at depth 16, more than a picture's side
_WIDTH = Option("width", 32, "channels of every hidden layer", low=4, high=512)
_NORMALISATION = Option(
    "normalisation", "adaptive", "what stands between convolution and leaky ReLU", choices=("adaptive", "batch", "none")
)


def context_dilations(depth: int) -> tuple[int, ...]:
    """Dilations of the depth - 1 layers of 3x3: 1, 2, 4, … 2^(depth - 3), then 1.

    Layer s has dilation 2^(s - 1) for 1 <= s <= depth - 2; layer depth - 1 has none; layer depth, the last, is 1x1. So
    CAN32 has depth 10 and CAN24 depth 9, where the release leaves out its layer 8 and calls the next one 9.

    Source: section 3 of the paper.
    """
    return (*(2**s for s in range(depth - 2)), 1)


def _can(name: str, width: int, dilations: tuple[int, ...], description: str, released: str = "") -> ModelSpec:
    return ModelSpec(
        name=name,
        family="CAN",
        factory="reference_models.networks.can:Can",
        options={"width": width, "dilations": dilations},
        source=f"{_PAPER}; as released in {_RELEASE} ({released})" if released else f"{_PAPER}; form as in {_RELEASE}",
        licence="MIT",
        description=description,
        input="bgr",
        output="bgr",
        rounding="truncate",
        receptive_field_px=1 + 2 * sum(dilations),
        statistics=("image", "frozen", "thumbnail"),
        evaluation=_EVALUATION,
        importer="reference_models.networks.can_tensorflow:state_from_tensorflow",
        weights={operator: f"{name}-{operator}.safetensors" for operator in _TRAINED.get(name, ())},
    )


def _with_normalisation(spec: ModelSpec, normalisation: int | float | str) -> ModelSpec:
    """The spec of an adaptive CAN with another normalisation, or with none."""
    if normalisation == "batch":
        return replace(spec, options={**spec.options, "normalisation": "batch"})
    if normalisation == "none":
        return replace(
            spec,
            factory="reference_models.networks.can:CanWithoutNorm",
            statistics=(),
            importer="reference_models.networks.can_tensorflow:state_without_norm_from_tensorflow",
        )
    return spec


def _with_constant_planes(spec: ModelSpec, values: tuple[float, ...]) -> ModelSpec:
    planes = 3 + len(values)
    return replace(spec, options={**spec.options, "planes": planes}, input_planes=planes, constant_planes=values)


def configure_can(name: str, depth: int, width: int, normalisation: str) -> ModelSpec:
    """CAN of any depth and width: the paper's study of both, and of the normalisation."""
    dilations = context_dilations(depth)
    norm = f"with {normalisation} normalisation" if normalisation != "none" else "without normalisation"
    description = f"{depth - 1} dilated 3x3 convolutions of {width} channels {norm}, then 1x1"
    return replace(
        _with_normalisation(_can(name, width, dilations, description), normalisation),
        offers=(_DEPTH, _WIDTH, _NORMALISATION),
        configure="reference_models.can:configure_can",
    )


def configure_multi(name: str, operator: str) -> ModelSpec:
    """CAN32 for ten operators: after B, G, R ten constant planes, 1 in that of the operator and 0 elsewhere."""
    spec = _can(
        name, 32, _CAN32, "CAN32 for ten operators in one network: ten constant planes choose", "Single_Network"
    )
    return replace(
        _with_constant_planes(spec, tuple(float(operator == other) for other in OPERATORS)),
        offers=(_OPERATOR,),
        configure="reference_models.can:configure_multi",
    )


def configure_param(name: str, parameter: float) -> ModelSpec:
    """CAN32 for an operator with a parameter: after B, G, R one plane that holds its value as it is."""
    spec = _can(name, 32, _CAN32, "CAN32 with the operator's parameter as a fourth plane", "Parameterized_Network")
    return replace(
        _with_constant_planes(spec, (parameter,)),
        offers=(_PARAMETER,),
        configure="reference_models.can:configure_param",
    )


_CAN24, _CAN32 = context_dilations(9), context_dilations(10)
_NOT_DILATED = (1,) * len(_CAN32)

SPECS = (
    _can(
        "can24",
        24,
        _CAN24,
        "8 dilated 3x3 convolutions of 24 channels with adaptive normalisation, then 1x1",
        "CAN24_AN",
    ),
    _can(
        "can32",
        32,
        _CAN32,
        "9 dilated 3x3 convolutions of 32 channels with adaptive normalisation, then 1x1",
        "CAN24_AN and Single_Network",
    ),
    configure_can("can", 10, 32, "adaptive"),
    _with_normalisation(_can("can32_bn", 32, _CAN32, "CAN32 with batch normalisation in place of adaptive"), "batch"),
    _can("can32_plain_conv", 32, _NOT_DILATED, "CAN32 without dilation: it sees 19 pixels in place of 513"),
    _with_normalisation(_can("can32_no_norm", 32, _CAN32, "CAN32 without normalisation"), "none"),
    configure_multi("can32_multi", "l0_smoothing"),
    configure_param("can32_param", 0.5),
)
