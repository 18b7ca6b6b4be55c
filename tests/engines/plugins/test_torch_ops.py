"""Our kernels as operators of torch: on the CPU the reference, through the interpreter the kernel; in modules both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.plugins.torch_ops import operators, use_kernels
from reference_models.networks import pixel_dcn

ROOT = Path(__file__).resolve().parents[3]
INTERPRET = """
import torch
from engines.plugins import torch_ops
from engines.plugins.torch_ops import launch_dcl, launch_interleave, launch_shuffle, operators

ops = operators()
torch.manual_seed(0)
for dtype, allowed in ((torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 0.0)):
    x = torch.randn(4, 27, 3, 5).to(dtype).transpose(2, 3)  # not contiguous
    for planned in (False, True):
        assert torch.equal(launch_shuffle(x, 3, planned=planned), ops.pixel_shuffle(x, 3))
    maps = [torch.randn(1, 3, 3, 7).to(dtype) for _ in range(4)]
    off = launch_interleave(*maps, 0.0, planned=True).float() - ops.pixel_interleave(*maps, 0.0).float()
    assert off.abs().max() == 0, off
    if dtype != torch.bfloat16:  # Triton 3.9's interpreter multiplies bf16 as if it were integers
        a, b = (torch.randn(4, 18, 3, 5).to(dtype) for _ in range(2))
        row, column = (torch.randn(18, 18, *s).to(dtype) / 4 for s in ((1, 2), (2, 1)))
        off = launch_dcl(a, b, row, column, 0.25, planned=True).float() - ops.pixel_dcl(a, b, row, column, 0.25).float()
        assert off.abs().max() <= allowed, off.abs().max()
print("all equal")
"""


def test_every_operator_s_kernel_equals_its_reference(all_equal):
    all_equal(INTERPRET)


class Net(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.last = layer, torch.nn.Sequential(torch.nn.Conv2d(16, 12, 1), torch.nn.PixelShuffle(2))

    def forward(self, x):
        return self.last(self.layer(x))


@pytest.mark.parametrize("activation", [None, torch.relu, torch.tanh])
@pytest.mark.parametrize("name", ["PixelDCL", "IPixelDCL", "ResizedIPixelCL"])
@pytest.mark.parametrize("tf32", [False, True])
def test_a_module_computes_the_same_with_them(name, activation, tf32, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    torch.manual_seed(0)
    net, x = Net(getattr(pixel_dcn, name)(3, 16, 3, activation)).eval(), torch.randn(2, 3, 6, 8)
    calls = []
    operators()
    monkeypatch.setattr("engines.plugins.torch_ops.operators", lambda: Counting(calls))
    with torch.inference_mode():
        before = net(x)
        assert use_kernels(net) == ["layer", "last.1"]
        after = net(x)
    assert (before - after).abs().max() < 1e-5
    # Full fp32 has no tensor cores, and the other layers no mask.
    assert ("pixel_dcl" in calls) == (tf32 and name == "PixelDCL")
    assert ("pixel_interleave" in calls) == (not (tf32 and name == "PixelDCL"))


class Counting:
    """The operators; `calls` gets the name of each that is used."""

    def __init__(self, calls):
        self._calls, self._ops = calls, torch.ops.fullres

    def __getattr__(self, name):
        def call(*arguments, **words):
            self._calls.append(name)
            return getattr(self._ops, name)(*arguments, **words)

        return call


@pytest.mark.parametrize("tf32", [False, True])
def test_a_module_with_them_is_compiled_in_one_piece(tf32, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    torch.manual_seed(0)
    net, x = Net(pixel_dcn.PixelDCL(3, 16, 3, torch.relu)).eval(), torch.randn(1, 3, 6, 8)
    seen = []

    def backend(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    with torch.inference_mode():
        before = net(x)
        use_kernels(net)
        after = torch.compile(net, dynamic=False, fullgraph=True, backend=backend)(x)
    torch._dynamo.reset()
    assert (before - after).abs().max() < 1e-5
    assert "fullres.pixel_shuffle" in seen
    assert ("fullres.pixel_dcl" if tf32 else "fullres.pixel_interleave") in seen


def test_shapes_are_known_without_computing():
    """Which is what torch.compile asks for."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(2, 27, 3, 5, dtype=torch.float16)
        large = operators().pixel_shuffle(x, 3)
        assert (large.shape, large.dtype) == ((2, 3, 9, 15), x.dtype)
        assert operators().pixel_interleave(x, x, x, x).shape == (2, 27, 6, 10)
        assert operators().pixel_dcl(x, x, x, x, 0.0).shape == (2, 27, 6, 10)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_device_s_kernels_equal_the_reference(cuda, dtype):
    from engines.plugins.last_steps import LastSteps
    from engines.plugins.pixel_dcl_maps import PixelDclMaps
    from engines.plugins.pixel_shuffle import PixelShuffleTail

    torch.manual_seed(0)
    x = torch.randn(4, 27, 33, 65, device=cuda).to(dtype)
    assert torch.equal(operators().pixel_shuffle(x, 3), PixelShuffleTail(3).reference(x))
    maps = [torch.randn(1, 3, 33, 65, device=cuda).to(dtype) for _ in range(4)]
    assert torch.equal(operators().pixel_interleave(*maps), pixel_dcn.interleave(*maps))
    if dtype != torch.bfloat16:
        a, b = (torch.randn(4, 48, 33, 65, device=cuda).to(dtype) for _ in range(2))
        row, column = (torch.randn(48, 48, *s, device=cuda).to(dtype) / 7 for s in ((1, 2), (2, 1)))
        wanted = PixelDclMaps(LastSteps(slope=0.2)).reference(a, b, row, column).float()
        off = (operators().pixel_dcl(a, b, row, column, 0.2).float() - wanted).abs().max()
        assert off < 2e-2  # TF32 and fp16 have 11 bits
