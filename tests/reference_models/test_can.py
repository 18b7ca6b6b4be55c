"""What the CAN specs declare: the published architectures, and every declaration measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reference_models import create_model, get, model_from_spec
from reference_models.can import SPECS, context_dilations
from reference_models.choices import callable_from_path
from reference_models.errors import UserError
from reference_models.networks.can import BatchNorm
from reference_models.networks.statistics import fold_

CAN32 = (32, [1, 2, 4, 8, 16, 32, 64, 128, 1])
# Section 3 and appendix of the paper (CAN32: depth 10) and CAN24_AN/demo.py of its release, which has no layer 8.
PUBLISHED = {
    "can24": (24, [1, 2, 4, 8, 16, 32, 64, 1]),
    "can32": CAN32,
    "can": CAN32,
    "can32_bn": CAN32,
    "can32_plain_conv": (32, [1] * 9),
    "can32_no_norm": CAN32,
    "can32_multi": CAN32,
    "can32_param": CAN32,
}
PLANES = {"can32_multi": 13, "can32_param": 4}
# `prepare_data` in Single_Network/combined.py of the release: its names, in its order, and our words for them.
OPERATORS = [
    ("Nonlocal_dehazing", "nonlocal_dehazing"),
    ("Dark_channel_dehazing", "dark_channel"),
    ("Multiscale_tone_manipulation", "multiscale_tone"),
    ("Detail_manipulation", "detail_manipulation"),
    ("L0_smoothing", "l0_smoothing"),
    ("Pencil_drawing", "pencil"),
    ("Rudin_Osher_Fatemi", "rof"),
    ("Relative_total_variation", "rtv"),
    ("Photographic_style", "photographic_style"),
    ("TV_L1", "tvl1"),
]
SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def one_hot(operator):
    return get("can32_multi", {"operator": operator}).constant_planes


def test_every_published_network_is_declared():
    assert [spec.name for spec in SPECS] == list(PUBLISHED)


@SPEC
def test_layers_are_those_published(spec):
    width, dilations = PUBLISHED[spec.name]
    can = create_model(spec.name)
    assert [conv.dilation for conv in can.convs] == [(d, d) for d in dilations]
    assert [conv.padding for conv in can.convs] == [(d, d) for d in dilations]
    assert {conv.kernel_size for conv in can.convs} == {(3, 3)}
    assert {conv.stride for conv in can.convs} == {(1, 1)}
    assert {conv.padding_mode for conv in can.convs} == {"zeros"}
    assert [conv.bias is not None for conv in can.convs] == [spec.name == "can32_no_norm"] * len(dilations)
    planes = PLANES.get(spec.name, 3)
    assert [(conv.in_channels, conv.out_channels) for conv in can.convs] == [(planes, width)] + [(width, width)] * (
        len(dilations) - 1
    )
    assert (can.last.in_channels, can.last.out_channels, can.last.kernel_size) == (width, 3, (1, 1))
    assert can.last.bias is not None
    assert (spec.input_planes, spec.output_planes) == (planes, 3)


@SPEC
def test_number_of_parameters(spec):
    width, dilations = PUBLISHED[spec.name]
    layers = len(dilations)
    convs = 9 * PLANES.get(spec.name, 3) * width + (layers - 1) * 9 * width**2
    # A beta (or, without normalisation, a bias) per channel; the adaptive one has two scales more in every layer.
    scales = 0 if spec.name in {"can32_bn", "can32_no_norm"} else 2
    assert sum(p.numel() for p in create_model(spec.name).parameters()) == (
        convs + layers * (width + scales) + 3 * width + 3
    )


def test_the_sizes_that_go_with_the_names_can24_and_can32():
    counted = {name: sum(p.numel() for p in create_model(name).parameters()) for name in ("can24", "can32")}
    assert counted == {"can24": 37219, "can32": 74997}


def test_what_the_release_does_to_pictures():
    for spec in SPECS:
        assert (spec.input, spec.output, spec.rounding, spec.upscale) == ("bgr", "bgr", "truncate", 1)
        adaptive = spec.name != "can32_no_norm"
        assert spec.statistics == (("image", "frozen", "thumbnail") if adaptive else ())  # the published way first


@pytest.mark.parametrize("name", ["can24", "can32"])
def test_the_receptive_field_is_the_square_that_one_pixel_reaches(name, randomise):
    spec = get(name)
    field = spec.receptive_field_px
    # What is measured does not depend on the width.
    can = randomise(model_from_spec(replace(spec, options={**spec.options, "width": 4})))
    folded = can.folded()
    layers, width = len(folded.convs), can.last.in_channels
    affines = torch.stack([torch.ones(layers, width), torch.rand(layers, width)], 1)
    fold_(folded, affines).double()
    with torch.no_grad():
        for conv in folded.convs:  # positive weights: no path cancels another; far ones are 1e-9 of the whole
            conv.weight.abs_().div_(conv.weight.sum((1, 2, 3), keepdim=True))
    before = torch.rand(1, 3, field + 8, field + 6, dtype=torch.float64)
    y, x = field // 2 + 5, field // 2 + 2
    after = before.clone()
    after[0, 1, y, x] += 1
    with torch.inference_mode():
        changed = (folded(after) != folded(before)).any(1)[0].nonzero()
    halo = spec.halo_px
    assert changed.amin(0).tolist() == [y - halo, x - halo]
    assert changed.amax(0).tolist() == [y + halo, x + halo]
    assert changed.shape[0] == field**2


CHOSEN = [get("can", {"depth": d}) for d in (3, 7)]


@pytest.mark.parametrize("spec", [*SPECS, *CHOSEN], ids=lambda spec: spec.title.replace(" ", "_"))
def test_gradients_of_one_output_reach_as_far_as_declared(spec):
    """In one column, which zeros left and right do not change; every spec, where the square above is for two."""
    model = model_from_spec(replace(spec, options={**spec.options, "width": 4}))
    folded = (model.folded() if spec.statistics else model).double()
    with torch.no_grad():
        for conv in folded.convs:
            conv.weight.fill_(1 / conv.weight[0].numel())
        folded.last.weight.fill_(1)
    height = spec.receptive_field_px + 8
    x = torch.ones(1, spec.input_planes, height, 1, dtype=torch.float64, requires_grad=True)
    folded(x)[0, 0, height // 2, 0].backward()
    reached = x.grad.any(1).any(2)[0].nonzero().flatten().tolist()
    assert (reached[0], reached[-1]) == (height // 2 - spec.halo_px, height // 2 + spec.halo_px)


@SPEC
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (23, 41)])
def test_size_multiple_and_upscale_hold_at_sizes_that_are_no_round_numbers(spec, height, width):
    height, width = height * spec.size_multiple, width * spec.size_multiple
    with torch.inference_mode():
        y = create_model(spec.name)(torch.rand(1, spec.input_planes, height, width))
    assert y.shape == (1, 3, height * spec.upscale, width * spec.upscale)
    assert y.dtype == torch.float32


# Depth, width and normalisation


def test_depth_counts_every_layer_the_last_1x1_included():
    assert context_dilations(3) == (1, 1)
    assert context_dilations(9) == (1, 2, 4, 8, 16, 32, 64, 1)  # CAN24
    assert context_dilations(10) == (1, 2, 4, 8, 16, 32, 64, 128, 1)  # CAN32


def test_a_depth_and_a_width_of_ones_own():
    spec = get("can", {"depth": "7", "width": "24"})
    assert (spec.title, spec.receptive_field_px) == ("can depth=7 width=24", 65)
    can = create_model("can", depth=7, width=24)
    assert [conv.dilation[0] for conv in can.convs] == [1, 2, 4, 8, 16, 1]
    assert sum(p.numel() for p in can.parameters()) == 27 * 24 + 5 * 9 * 24**2 + 6 * 26 + 75


@pytest.mark.parametrize(("depth", "width", "name"), [(9, 24, "can24"), (10, 32, "can32")])
def test_the_published_networks_are_choices_among_all(depth, width, name):
    spec, published = get("can", {"depth": depth, "width": width}), get(name)
    for field in ("factory", "options", "receptive_field_px", "statistics", "importer"):
        assert getattr(spec, field) == getattr(published, field), field


@pytest.mark.parametrize(("normalisation", "name"), [("batch", "can32_bn"), ("none", "can32_no_norm")])
def test_the_ablations_are_choices_of_normalisation(normalisation, name):
    spec, ablation = get("can", {"normalisation": normalisation}), get(name)
    for field in ("factory", "options", "receptive_field_px", "statistics", "importer"):
        assert getattr(spec, field) == getattr(ablation, field), field
    kinds = {type(norm) for norm in getattr(model_from_spec(spec), "norms", ())}
    assert kinds == ({BatchNorm} if normalisation == "batch" else set())


@pytest.mark.parametrize("spec", [s for s in SPECS if s.offers], ids=lambda spec: spec.name)
def test_the_defaults_are_the_declared_spec_itself(spec):
    values = {option.name: option.default for option in spec.offers}
    assert callable_from_path(spec.configure)(spec.name, **values) == spec
    assert get(spec.name, values) is get(spec.name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("can", {"depth": 2}),
        ("can", {"width": 3}),
        ("can", {"normalisation": "layer"}),
        ("can32_multi", {"operator": "L0"}),
        ("can32_param", {"parameter": 0}),
        ("can32_param", {"parameter": 1.01}),
        ("can32", {"depth": 7}),
    ],
)
def test_what_is_not_offered_is_refused(name, options):
    with pytest.raises(UserError):
        get(name, options)


# Constant planes


@pytest.mark.parametrize(("plane", "operator"), [(i, word) for i, (_, word) in enumerate(OPERATORS)])
def test_the_ten_planes_are_one_hot_in_the_released_order(plane, operator):
    assert one_hot(operator) == tuple(float(plane == k) for k in range(10))


def test_the_operator_is_l0_smoothing_unless_another_is_chosen():
    assert get("can32_multi").constant_planes == one_hot("l0_smoothing") == (0, 0, 0, 0, 1, 0, 0, 0, 0, 0)
    assert get("can32_multi", {"operator": "rtv"}).title == "can32_multi operator=rtv"


@pytest.mark.parametrize("value", [0.01, 0.25, 1.0])
def test_the_parameter_is_the_value_of_the_fourth_plane(value):
    assert get("can32_param", {"parameter": value}).constant_planes == (value,)
