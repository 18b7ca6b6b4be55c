"""The end of every kernel through Triton's interpreter: int8 as ONNX rounds it; and when elements only move."""

from __future__ import annotations

import pytest

from engines.plugins.last_steps import FLOAT, INT8, PICTURE, LastSteps, vector

INTERPRET = """
import torch, triton.language as tl
from engines.plugins.last_steps import INT8, LastSteps, finished
from engines.plugins.ptx import Variant, launch

def copy(x, size, y, LAST: tl.constexpr):
    o = tl.program_id(0) * 256 + tl.arange(0, 256)
    value = finished(tl.load(x + o, mask=o < size, other=0), None, 0, y, LAST)
    tl.store(y + o, value, mask=o < size)

torch.manual_seed(0)
for step in (0.5, 0.02, 0.0123, 3.7e-4):
    step = float(torch.tensor(step))
    steps = LastSteps(slope=0.5, output=INT8, step=step)
    # Middles of steps and their neighbours, what saturates, and values of every size.
    middles = (torch.arange(-140, 140) + 0.5) * step
    near = [torch.nextafter(middles, torch.tensor(s * 1e9)) for s in (-1, 1)]
    beyond = torch.tensor([float("inf"), float("-inf"), 1e30, -1e30, 0.0, -0.0])
    x = torch.cat([middles, *near, beyond, torch.randn(2000) * step * 60])
    wanted = steps.reference(x, torch.float32)
    y = torch.zeros_like(wanted)
    variant = Variant(copy, {"x": "fp32", "y": "i8"}, ("size",), {"LAST": steps.for_types("fp32", "i8")})
    launch(variant, (-(-len(x) // 256),), {"x": x, "size": len(x), "y": y})
    assert torch.equal(y, wanted), step
    assert y.min() < -69 and y.max() == 127
print("all equal")
"""


def test_int8_is_the_quotient_rounded_half_to_even_and_saturated(all_equal):
    all_equal(INTERPRET)


def test_the_reference_is_onnx_s_quantiser():
    import numpy as np
    import torch
    from onnx.reference import ReferenceEvaluator

    model = """<ir_version: 10, opset_import: ["": 20]> g (float[N] x, float s, int8 z) => (int8[N] y)
    { y = QuantizeLinear(x, s, z) }"""
    from onnx import parser

    session = ReferenceEvaluator(parser.parse_model(model))
    x = np.concatenate([(np.arange(-140, 140) + 0.5) * 0.5, np.random.default_rng(0).standard_normal(1000) * 30])
    x = x.astype(np.float32)
    wanted = session.run(None, {"x": x, "s": np.float32(0.5), "z": np.int8(0)})[0]
    got = LastSteps(output=INT8, step=0.5).reference(torch.from_numpy(x), torch.float32).numpy()
    assert np.array_equal(got, wanted)


@pytest.mark.parametrize(
    ("steps", "source", "target", "moves"),
    [
        (LastSteps(), "fp16", "fp16", True),
        (LastSteps(), "i8", "i8", True),
        (LastSteps(), "fp16", "fp32", False),
        (LastSteps(slope=0.0), "fp16", "fp16", False),
        (LastSteps(0.1, slope=0.0, output=INT8, step=0.1), "i8", "i8", True),
        (LastSteps(0.1, slope=0.5, output=INT8, step=0.1), "i8", "i8", False),
        (LastSteps(0.1, output=INT8, step=0.2), "i8", "i8", False),
        (LastSteps(0.1, high=1.0, output=INT8, step=0.1), "i8", "i8", False),
        (LastSteps(0.1, tanh=True, output=INT8, step=0.1), "i8", "i8", False),
        (LastSteps(output=INT8, step=1.0), "fp32", "i8", False),
        (LastSteps(output=INT8, step=1.0, biased=True, input_step=1.0), "i8", "i8", False),
    ],
)
def test_elements_only_move_where_nothing_is_computed(steps, source, target, moves):
    assert steps.for_types(source, target).moves is moves


def test_bounds_are_those_of_the_output_s_type_too():
    assert LastSteps(low=-2, high=0.5, output=PICTURE).within_type()[3:5] == (0, 0.5)
    signed = LastSteps(low=-2, output=PICTURE, zero=-1.0, gain=127.5)
    assert signed.within_type()[3:5] == (-1, 1)
    assert LastSteps(high=3, output=INT8, step=0.5).within_type()[3:5] == (-64, 3)
    assert LastSteps(low=-2, output=FLOAT).within_type()[3:5] == (-2, float("inf"))


def test_a_thread_takes_what_makes_one_full_vector_of_the_output():
    assert [vector("fp32", "fp32", r) for r in (2, 4)] == [2, 1]
    assert [vector("fp16", "fp16", r) for r in (2, 4)] == [4, 2]
    assert [vector("i8", "i8", r) for r in (2, 4)] == [8, 4]
    assert [vector("fp16", "i8", 2), vector("fp32", "i8", 2)] == [8, 4]  # 16 bytes of the input are the most
