"""Planes as the registry has them, bytes and products by hand, what is replaced against the layers, wrong kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import kernel_cases
from bench.kernel_cases import CPU_SIZE, LAYERS, TYPES, KernelCase, Made, cases, fault, made
from reference_models import create_model

SMALL = cases(list(TYPES), [("small", *CPU_SIZE)])


def one(kernel: str, precision: str) -> KernelCase:
    return next(case for case in SMALL if (case.kernel, case.precision) == (kernel, precision))


# What is measured


def test_planes_are_those_of_the_networks() -> None:
    from reference_models.networks.pixel_dcn import PixelDCL

    seen = set()
    for network in {layer.network for layer in LAYERS}:
        before: Any = None
        for layer in create_model(network).modules():
            if isinstance(layer, torch.nn.PixelShuffle):
                r = layer.upscale_factor
                seen.add(("pixel_shuffle", network, before // r**2, r))
            elif isinstance(layer, PixelDCL):
                seen.add(("pixel_dcl", network, layer.conv2.out_channels, 2))
            elif isinstance(layer, torch.nn.Conv2d):
                before = layer.out_channels
    plain = {(x.kernel, x.network, x.planes, x.r) for x in LAYERS if x.kernel in {"pixel_shuffle", "pixel_dcl"}}
    assert seen == plain
    beside = {(x.kernel, x.network, x.planes, x.r) for x in LAYERS} - plain
    assert beside == {("pixel_shuffle_picture", "espcn_x3", 1, 3), ("pixel_interleave", "pixel_dcn", 16, 2)}


def test_deeper_layers_have_more_planes_and_smaller_maps() -> None:
    found = [case.output_shape for case in cases(["pixel_dcl"], [("1080p", 1920, 1080)], ["fp16"])]
    assert found == [(1, 16, 1080, 1920), (1, 32, 540, 960), (1, 64, 270, 480), (1, 128, 136, 240)]


def test_the_output_is_at_least_as_large_as_asked_for() -> None:
    """As an input of whole pixels makes it."""
    (case,) = cases(["pixel_shuffle_picture"], [("4k", 3840, 2161)], ["fp16"])
    assert (case.height, case.width, case.output_shape) == (721, 1280, (1, 1, 2163, 3840))
    assert case.title == "pixel_shuffle_picture espcn_x3 1x2163x3840 fp16"


def test_kernels_and_precisions_choose() -> None:
    sizes = [("a", 6, 6), ("b", 12, 12)]
    found = cases(["pixel_shuffle", "pixel_dcl"], sizes, ["tf32", "int8"])
    assert {(case.kernel, case.precision) for case in found} == {("pixel_shuffle", "int8"), ("pixel_dcl", "tf32")}
    assert len(found) == 2 * (2 + 4)
    assert len(SMALL) == 4 + 4 + 3 + 4 + 4 * 2


def test_bytes_and_products_by_hand() -> None:
    """Of 3 x 5 maps."""
    sides = {"height": 3, "width": 5, "resolution": "small"}
    shuffle = KernelCase("pixel_shuffle", "", "fp16", planes=4, r=3, **sides)
    assert shuffle.min_bytes == 2 * (4 * 9 * 15) * 2  # 540 elements, read and written
    picture = KernelCase("pixel_shuffle_picture", "", "fp32", planes=4, r=3, **sides)
    assert picture.min_bytes == 540 * (4 + 1)
    interleave = KernelCase("pixel_interleave", "", "bf16", planes=7, r=2, **sides)
    assert interleave.min_bytes == (4 * 7 * 15 + 7 * 60) * 2
    dcl = KernelCase("pixel_dcl", "", "tf32", planes=16, r=2, **sides)
    assert dcl.min_bytes == (2 * 16 * 15 + 2 * (16 * 16 * 2) + 16 * 60) * 4
    assert dcl.flop == 2 * (8 * 16 * 16) * 15  # 8 products of planes by planes for every pixel of the maps
    assert shuffle.flop == picture.flop == interleave.flop == 0


def test_turing_has_no_products() -> None:
    assert "below compute capability 8.0" in str(one("pixel_dcl", "fp16").why_not(75))
    assert one("pixel_dcl", "fp16").why_not(80) is None
    assert one("pixel_shuffle", "fp16").why_not(75) is None


def test_the_variant_is_the_plan_s() -> None:
    for case in SMALL:
        word = kernel_cases.WORDS[case.precision]
        assert list(case.variant.pointers.values())[:-1] == [word] * (len(case.variant.pointers) - 1)
    picture = one("pixel_shuffle_picture", "int8").variant
    last = picture.constants["LAST"]
    assert (picture.pointers["y"], last.input_step, last.low, last.high) == ("u8", 1 / 127, 0.0, 1.0)


def test_a_case_goes_into_a_job_and_back() -> None:
    assert [KernelCase(**case.to_dict()) for case in SMALL] == SMALL


# What is replaced, and what is right


@pytest.mark.parametrize("case", SMALL, ids=[case.title for case in SMALL])
def test_the_operators_that_are_replaced_compute_the_reference(case: KernelCase) -> None:
    ready = made(case, "cpu", 1)

    def kernel(*inputs: Any, planned: bool) -> Any:
        return ready.native(*inputs)

    replaced = replace(ready, kernel=kernel)
    if (case.kernel, case.precision) != ("pixel_shuffle_picture", "fp16"):  # rounded before the levels are
        assert fault(case, replaced) is None
    assert ready.native(*ready.inputs).dtype == ready.reference(*ready.inputs).dtype


def test_pixel_dcl_s_operators_are_the_layer_s_own() -> None:
    """Behind the second map, one for one."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from reference_models.networks.pixel_dcn import PixelDCL

    class Written(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), words: Any = None) -> Any:
            self.names.append(str(function))
            return function(*arguments, **(words or {}))

    torch.manual_seed(0)
    layer, a = PixelDCL(16, 16, 3, torch.relu), torch.randn(1, 16, 5, 7)
    with torch.inference_mode():
        b, weight = layer.conv1(a), layer.conv2.weight
        inputs = (a, b, weight[:, :, 1:2, ::2].contiguous(), weight[:, :, ::2, 1:2].contiguous())
        wanted = layer.from_first(a)
        assert (kernel_cases.native_dcl(*inputs) - wanted).abs().max() < 1e-5
        with Written() as own:
            kernel_cases.native_dcl(*inputs)
        with Written() as layers:
            layer.from_first(a)
    moving = {"aten.slice.Tensor", "aten.alias.default"}  # of the weights, which are cut before
    layer_names = [name for name in layers.names if name not in moving][1:]  # without conv1
    assert sorted(name for name in own.names if name not in moving) == sorted(layer_names)


@pytest.mark.parametrize("case", SMALL, ids=[case.title for case in SMALL])
def test_torch_compile_takes_the_operators_in_one_piece(case: KernelCase) -> None:
    ready = made(case, "cpu", 1)
    torch._dynamo.reset()
    with torch.inference_mode():
        compiled = torch.compile(ready.native, dynamic=False, fullgraph=True, backend="eager")
        assert torch.equal(compiled(*ready.inputs), ready.native(*ready.inputs))
    torch._dynamo.reset()


def judged(case: KernelCase, change: Any, planned_too: bool = True) -> str | None:
    """The verdict on a kernel whose output is the reference's, changed."""
    ready = made(case, "cpu", 1)

    def kernel(*inputs: Any, planned: bool) -> Any:
        y = ready.reference(*inputs)
        return change(y.clone()) if planned_too or not planned else y

    return fault(case, replace(ready, kernel=kernel))


def off(amount: float, share: float = 0.0) -> Any:
    """The first elements of an output changed: one of them, or a share of all."""

    def change(y: Any) -> Any:
        flat = y.flatten()
        count = max(1, int(share * flat.numel()))
        flat[:count] = (flat[:count].float() + amount).to(y.dtype)
        return flat.view_as(y)

    return change


def test_an_output_that_is_the_reference_s_is_right() -> None:
    for case in SMALL:
        assert judged(case, lambda y: y) is None, case.title


@pytest.mark.parametrize("kernel", ["pixel_shuffle", "pixel_interleave"])
def test_a_permutation_has_no_tolerance(kernel: str) -> None:
    assert "1 of " in str(judged(one(kernel, "fp32"), off(1e-3)))


def test_a_picture_may_be_one_level_off_here_and_there() -> None:
    case = one("pixel_shuffle_picture", "fp32")

    def lower(by: int, share: float) -> Any:
        def change(y: Any) -> Any:
            flat = y.flatten().short()
            count = max(1, int(share * flat.numel()))
            flat[:count] += torch.where(flat[:count] > 99, -by, by)
            return flat.to(torch.uint8).view_as(y)

        return change

    assert judged(case, lower(1, 0.01)) is None
    assert "2 levels off" in str(judged(case, lower(2, 0.01)))
    assert "1 levels off" in str(judged(case, lower(1, 0.05)))


def test_sums_of_products_have_a_tolerance_and_moved_maps_none() -> None:
    case = one("pixel_dcl", "tf32")

    def at(row: int, column: int, amount: float) -> Any:
        def change(y: Any) -> Any:
            y[0, 0, row, column] += amount
            return y

        return change

    assert judged(case, at(0, 1, 5e-3)) is None
    assert "off at most; allowed 0.01" in str(judged(case, at(0, 1, 2e-2)))
    assert "only moved" in str(judged(case, at(0, 0, 5e-3)))
    assert "only moved" in str(judged(case, at(1, 1, 5e-3)))


@pytest.mark.parametrize("precision", TYPES["pixel_dcl"])
def test_a_wrong_tap_is_beyond_the_tolerance(precision: str) -> None:
    case = one("pixel_dcl", precision)
    ready = made(case, "cpu", 1)

    def swapped(a: Any, b: Any, row: Any, column: Any, planned: bool) -> Any:
        return ready.reference(a, b, row.flip(3), column)

    assert "off at most" in str(fault(case, replace(ready, kernel=swapped)))


def test_another_shape_or_type_is_wrong() -> None:
    case = one("pixel_shuffle", "fp16")
    assert "instead of" in str(judged(case, lambda y: y.float()))
    assert "instead of" in str(judged(case, lambda y: y[:, :, 1:]))


def test_the_kernel_as_in_a_plan_is_looked_at_too() -> None:
    case, seen = one("pixel_shuffle", "fp32"), []
    ready = made(case, "cpu", 1)

    def kernel(x: Any, planned: bool) -> Any:
        seen.append(planned)
        y = ready.reference(x)
        return y + 1 if planned else y

    assert str(fault(case, replace(ready, kernel=kernel))).endswith("all are only moved, as in a plan")
    assert fault(case, replace(ready, kernel=kernel), as_in_plan=False) is None
    assert seen == [False, True, False]


def test_the_kernel_runs_before_its_reference_which_is_full_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that the reference has freed must not pass for an output."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    did: list[Any] = []
    case = one("pixel_shuffle", "fp32")
    ready = made(case, "cpu", 1)

    def kernel(x: Any, planned: bool) -> Any:
        did.append("kernel")
        return ready.native(x)

    def reference(x: Any) -> Any:
        did.append(torch.backends.cudnn.allow_tf32)
        return ready.native(x)

    assert fault(case, Made(ready.inputs, kernel, ready.native, reference)) is None
    assert did == ["kernel", "kernel", False]
    assert torch.backends.cudnn.allow_tf32


def test_no_two_cases_have_the_same_inputs() -> None:
    case = one("pixel_interleave", "fp32")
    (first, *_), (second, *_) = made(case, "cpu", 1).inputs, made(case, "cpu", 2).inputs
    assert not torch.equal(first, second)
    assert torch.equal(first, made(case, "cpu", 1).inputs[0])
