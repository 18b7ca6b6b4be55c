"""torch_eager: the module of a graph, and the global switches of PyTorch that a session sets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines import installed
from engines.engine import Options
from engines.thumbnail import load_network
from engines.torch_eager import ENGINE, module_from_graph
from export.to_onnx import ExportRequest, export_network
from reference_models import get, model_from_spec
from reference_models.errors import UserError
from reference_models.networks.can import Can, FoldedCan
from reference_models.networks.statistics import ThumbnailAffines


@pytest.fixture(autouse=True)
def switches():
    """PyTorch's global switches as they were."""
    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32


def load(graph, precision="fp32", threads=1, device="cpu", **settings):
    return ENGINE.load(graph, Options(device, precision, threads, ENGINE.complete_settings(settings)))


def test_a_graphs_role_says_which_module_it_is(networks):
    for graph, kind in (
        (networks["image"].main, Can),
        (networks["frozen"].main, FoldedCan),
        (networks["thumbnail"].main, FoldedCan),
        (networks["thumbnail"].thumbnail, ThumbnailAffines),
    ):
        module = module_from_graph(graph)
        assert type(module) is kind
        assert not module.training
        stored = load_file(graph.state_path)
        assert set(stored) == set(module.state_dict())
        assert all(torch.equal(stored[name], tensor) for name, tensor in module.state_dict().items())


def test_a_styled_graph_is_the_module_without_its_global_branch(own_network, calibration, tmp_path):
    network = export_network(ExportRequest(own_network, None, None, style=calibration[0]), tmp_path)
    x = np.full((1, 3, 5, 7), 0.25, np.float32)
    means = (calibration[0].astype(np.float64) / 255).mean((0, 1))[None, :, None, None]
    with load(network.main) as session:
        assert np.abs(session.run({"x": x})["y"] - (3 * 0.25 + means)).max() < 1e-5


def test_state_outside_the_parameters_of_a_network_of_one_s_own_is_what_was_exported(tmp_path, monkeypatch):
    text = """
import torch

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1)
        self.register_buffer("noise", torch.rand(1, 3, 1, 1), persistent=False)

    def forward(self, x):
        return self.conv(x) + self.noise
"""
    (tmp_path / "noisy_net.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        spec = get("noisy_net:Noisy")
        graph = export_network(ExportRequest(spec, None, None), tmp_path / "cache").main
        torch.manual_seed(77)
        first = module_from_graph(graph)
        torch.rand(9)
        assert torch.equal(module_from_graph(graph).noise, first.noise)
        assert torch.equal(first.noise, model_from_spec(spec).noise)
    finally:
        sys.modules.pop("noisy_net", None)


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_both_memory_formats_give_the_same_numbers(networks, expected, picture, layout):
    x = picture(20, 31)
    with load(networks["image"].main, memory_format=layout) as session:
        assert np.abs(session.run({"x": x})["y"] - expected("image", x)).max() < 1e-4
        channels_last = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        assert session._x.is_contiguous(memory_format=channels_last)
        assert session._module.convs[1].weight.is_contiguous(memory_format=channels_last)


def test_what_is_read_is_contiguous(networks, picture):
    with load(networks["frozen"].main) as session:
        assert session.run({"x": picture(9, 11)})["y"].flags.c_contiguous


def test_threads_are_those_of_the_options(networks):
    for threads in (1, 2):
        load(networks["frozen"].main, threads=threads).close()
        assert torch.get_num_threads() == threads


def test_denormals_are_kept_unless_asked_otherwise(networks):
    tiny = torch.full((64,), 1e-39)
    load(networks["frozen"].main, denormals="zero").close()
    assert not (tiny * 0.5).any()
    load(networks["frozen"].main).close()
    assert (tiny * 0.5).all()


def test_fp32_means_without_tf32(networks):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    load(networks["frozen"].main).close()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_a_device_that_is_not_there_is_no_reason_to_use_the_cpu(networks, monkeypatch):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 0)
    with pytest.raises(UserError, match="engine `torch_eager`: device `cuda:0` does not exist"):
        load(networks["frozen"].main, device="cuda:0")


def test_a_build_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ENGINE.device_missing("cuda:0") == "this build of PyTorch has no CUDA"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert ENGINE.device_missing("cuda:0") is None
    assert ENGINE.device_missing("cpu") is None


def test_the_version_is_pytorchs():
    assert ENGINE.version().startswith("torch 2.")


def test_nothing_asks_for_gradients(networks, picture):
    with load(networks["image"].main) as session:
        session.run({"x": picture(8, 9)})
        assert not session._y.requires_grad


def test_bf16_computes_convolutions_in_bf16_and_statistics_in_fp32(networks, expected, picture):
    x, seen = picture(40, 52), []
    with load(networks["image"].main, precision="bf16") as session:
        norm, conv = session._module.norms[2], session._module.convs[2]
        conv.register_forward_hook(lambda m, given, y: seen.append(y.dtype))
        norm.register_forward_hook(lambda m, given, y: seen.append(y.dtype))
        y = session.run({"x": x})["y"]
        assert conv.weight.dtype == torch.float32  # as published; cast in every inference
    assert seen == [torch.bfloat16, torch.float32]
    assert 1e-4 < np.abs(y - expected("image", x)).max() < 4e-2


def test_a_mean_of_a_bf16_plane_is_not_rounded_to_bf16():
    from reference_models.networks.can import picture_statistics

    plane = torch.full((1, 1, 512, 512), 1.0, dtype=torch.bfloat16)
    plane[0, 0, ::3] = 1.0078125  # the next number
    mean, variance = picture_statistics(plane)
    wanted = plane.double()
    assert mean.dtype == variance.dtype == torch.float32
    assert abs(mean.item() - wanted.mean().item()) < 1e-6
    assert abs(variance.item() / wanted.var(correction=0).item() - 1) < 1e-4


def test_weights_that_are_refitted_are_in_the_next_inference_in_bf16_too(networks, picture):
    options = Options("cpu", "bf16", 1, ENGINE.complete_settings({}), ("last.bias",))
    with ENGINE.load(networks["frozen"].main, options) as session:
        before = session.run({"x": picture(9, 11)})["y"]
        session.refit({"last.bias": np.full(3, 2.0, np.float32)})
        session.enqueue()
        assert (session.read() - before).min() > 1


@pytest.mark.parametrize("word", ["graph=on", "plugins=on", "l2=flushed"])
def test_what_is_for_cuda_is_refused_on_the_cpu(networks, word):
    name, value = word.split("=")
    with pytest.raises(UserError, match=f"`torch_eager:{word}`: on the CPU there is none"):
        ENGINE.load(networks["frozen"].main, Options(settings={name: value}))


@pytest.mark.gpu
@pytest.mark.parametrize("statistics", ["image", "frozen", "thumbnail"])
def test_cuda_in_fp32_is_as_exact_as_the_cpu(cuda, networks, expected, picture, statistics):
    if reason := ENGINE.device_missing(cuda):
        pytest.skip(reason)
    x = picture(64, 96)
    with load_network(ENGINE, networks[statistics], Options(cuda, settings=ENGINE.complete_settings({}))) as session:
        wanted = expected(statistics, x)
        assert np.abs(session.run({"x": x})["y"] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())
