"""PTX of every kernel for every target, as the CUDA 13.0 assembler takes it, with exactly the declared parameters."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from engines.plugins import ptx
from engines.plugins.last_steps import INT8, PICTURE, LastSteps
from engines.plugins.pixel_dcl import PixelInterleave
from engines.plugins.pixel_dcl_int8 import PixelDclOfInt8
from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY, PixelDclMaps
from engines.plugins.pixel_shuffle import PixelShuffleTail
from engines.plugins.ptx import (
    CAPABILITIES,
    compile_ptx,
    entry_parameters,
    jit,
    launch,
    triton_missing,
    without_scratch,
)

PTX = """
.version 8.0
.target sm_80
.visible .entry kernel(
	.param .u64 .ptr .global .align 16 kernel_param_0,
	.param .u32 kernel_param_1,
	.param .u64 .ptr .global .align 1 kernel_param_2,
	.param .u64 .ptr .global .align 1 kernel_param_3
)
{
	ld.param.u64 %rd1, [kernel_param_0];
	ld.param.u32 %r1, [kernel_param_1];
	ret;
}
"""
LEAKY = LastSteps(slope=0.2, low=0, high=1)
TO_INT8, OF_INT8 = LastSteps(slope=0.2, output=INT8, step=0.1), LastSteps(0.1, slope=0.0, output=INT8, step=0.1)
VARIANTS = {
    "shuffle fp32": PixelShuffleTail(2).variant("fp32", "fp32"),
    "shuffle fp16": PixelShuffleTail(3).variant("fp16", "fp16"),
    "shuffle int8": PixelShuffleTail(4).variant("i8", "i8"),
    "tail fp16": PixelShuffleTail(2, LEAKY, bias=True).variant("fp16", "fp16"),
    "tail of int8": PixelShuffleTail(3, LEAKY._replace(input_step=0.1)).variant("i8", "fp16"),
    "tail to int8": PixelShuffleTail(2, TO_INT8, bias=True).variant("fp16", "i8"),
    "picture": PixelShuffleTail(2, LastSteps(output=PICTURE)).variant("fp16", "u8", channels=3),
    "picture of int8": PixelShuffleTail(
        4, LastSteps(0.01, tanh=True, output=PICTURE), bias=True
    ).variant("i8", "u8", "fp16", channels=3),
    "interleave fp32": PixelInterleave().variant("fp32", "fp32"),
    "interleave fp16": PixelInterleave(LastSteps(slope=0.0)).variant("fp16", "fp16"),
    "interleave to int8": PixelInterleave(TO_INT8).variant("fp16", "i8"),
    "interleave int8": PixelInterleave(OF_INT8).variant("i8", "i8"),
    "shuffle bf16": PixelShuffleTail(2, bias=True).variant("bf16", "bf16"),
    "interleave bf16": PixelInterleave(LastSteps(slope=0.0)).variant("bf16", "bf16"),
    "maps fp16": PixelDclMaps(LastSteps(slope=0.0)).variant("fp16", "fp16", 64),
    "maps fp32": PixelDclMaps(LastSteps(slope=0.0)).variant("fp32", "fp32", 32),
    "maps of int8": PixelDclOfInt8(0.1, 0.2, 0.0).variant("fp16", 64),
    "maps to int8": PixelDclMaps(TO_INT8).variant("fp16", "i8", 48),
}  # fmt: skip
ORDINARY = {("tail fp16", 75), ("tail to int8", 90), ("picture of int8", 120), ("interleave int8", 100)}
"""The rest of the product, a minute of it, is slow."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Nothing of an earlier run may answer for this one."""
    if reason := triton_missing():
        pytest.skip(reason)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return tmp_path


def combinations():
    for name in VARIANTS:
        for capability in CAPABILITIES:
            if name.startswith("maps") and capability < LEAST_CAPABILITY:
                continue  # without tensor cores it is not offered
            marks = [] if (name, capability) in ORDINARY else [pytest.mark.slow]
            yield pytest.param(name, capability, marks=marks, id=f"{name} sm_{capability}")


@pytest.mark.parametrize(("name", "capability"), list(combinations()))
def test_the_assembler_takes_it_with_the_declared_parameters(name, capability, cache):
    variant = VARIANTS[name]
    kernel = compile_ptx(variant, capability)
    kinds = ["u64" if parameter in variant.pointers else "u32" for parameter in variant.parameters]
    assert [kind for kind, _ in entry_parameters(kernel.ptx)] == kinds
    assert re.search(r"\.target (\w+)", kernel.ptx)[1] == f"sm_{capability}"
    version = float(re.search(r"\.version (\d+\.\d+)", kernel.ptx)[1])
    assert version <= 9.0  # a CUDA 13.0 driver's compiler takes no newer
    assert kernel.threads == 128
    assert kernel.shared_bytes <= 48 << 10  # more would have to be asked for at every launch
    halves = "m16n8k16.row.col.f32.f16.f16.f32"
    whole = "m16n8k32.row.col.satfinite.s32.s8.s8.s32"
    single = "m16n8k8.row.col.f32.tf32.tf32.f32"
    products = {"maps of int8": whole, "maps fp16": halves, "maps to int8": halves, "maps fp32": single}
    assert products.get(name, "") in kernel.ptx
    if not shutil.which("ptxas"):
        pytest.skip("no ptxas on the PATH")
    source = cache / "kernel.ptx"
    source.write_text(kernel.ptx)
    command = ["ptxas", "-v", f"-arch=sm_{capability}", str(source), "-o", str(cache / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spilled = re.findall(r"(\d+) bytes spill stores", done.stderr)
    assert set(spilled) <= {"0"}


def test_parameters_that_nobody_reads_go():
    assert entry_parameters(PTX) == [(k, f"kernel_param_{i}") for i, k in enumerate(("u64", "u32", "u64", "u64"))]
    stripped = without_scratch(PTX, 2)
    assert entry_parameters(stripped) == [("u64", "kernel_param_0"), ("u32", "kernel_param_1")]
    assert "kernel_param_2" not in stripped
    assert without_scratch(PTX, 4) == PTX


def test_a_parameter_that_is_read_may_not_go():
    with pytest.raises(RuntimeError, match="the PTX reads kernel_param_1"):
        without_scratch(PTX, 1)


def test_what_is_no_ptx_is_said_so():
    with pytest.raises(ValueError, match=r"no \.entry"):
        entry_parameters("nothing")


def test_a_function_has_one_kernel_which_keeps_what_was_compiled():
    if reason := triton_missing():
        pytest.skip(reason)
    function = PixelShuffleTail(2).variant("fp16", "fp16").function
    assert jit(function) is jit(function)


def test_a_plan_s_kernel_assumes_nothing_of_its_sizes():
    if reason := triton_missing():
        pytest.skip(reason)
    variant = PixelShuffleTail(2).variant("fp16", "fp16")
    plain, planned = jit(variant.function), jit(variant.function, variant.scalars)
    assert [p.name for p in plain.params if p.do_not_specialize] == []
    assert [p.name for p in planned.params if p.do_not_specialize] == ["channels", "height", "width"]


@pytest.mark.parametrize("planned", [False, True])
def test_a_launch_says_which_of_them_it_wants(planned, monkeypatch):
    variant, asked = PixelShuffleTail(2).variant("fp16", "fp16"), []

    class Kernel:
        def __getitem__(self, grid):
            return lambda **given: asked.append((grid, given["height"], given["BLOCK"], given["num_warps"]))

    monkeypatch.setattr(ptx, "jit", lambda function, unassumed: (asked.append(unassumed), Kernel())[1])
    launch(variant, (3, 1), {"height": 7}, planned)
    assert asked == [("channels", "height", "width") if planned else (), ((3, 1), 7, 512, 4)]


def test_the_order_of_parameters_is_tensorrt_s():
    """Input pointers, scalars, output pointers."""
    variant = PixelShuffleTail(2, bias=True).variant("fp16", "fp16")
    assert variant.parameters == ("x", "bias", "channels", "height", "width", "y")


def test_a_launch_is_on_the_device_of_its_tensors(monkeypatch):
    """Triton takes torch's current one."""
    at, launched = ["cuda:0"], []

    @contextmanager
    def device(chosen):
        at.append(chosen)
        yield
        at.pop()

    class Kernel:
        def __getitem__(self, grid):
            return lambda **given: launched.append(at[-1])

    monkeypatch.setattr(ptx, "jit", lambda function, unassumed: Kernel())
    monkeypatch.setattr("torch.cuda.device", device)
    for tensor in (SimpleNamespace(is_cuda=True, device="cuda:1"), SimpleNamespace(is_cuda=False, device="cpu")):
        launch(PixelShuffleTail(2).variant("fp16", "fp16"), (3, 1), {"height": 7, "x": tensor})
    assert launched == ["cuda:1", "cuda:0"]
