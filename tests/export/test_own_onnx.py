"""Files of others as networks: what they take is found, and the copy that engines get computes the same."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from export import own_onnx
from export.network import Network, file_sha256
from export.own_onnx import check_size, network_from_onnx, spec_from_onnx
from export.work import count_work
from reference_models.errors import UserError
from reference_models.spec import ModelSpec


class SuperResolution(nn.Module):
    def __init__(self, planes=3, r=2):
        super().__init__()
        self.conv, self.up = nn.Conv2d(planes, planes * r * r, 5, padding=2), nn.PixelShuffle(r)

    def forward(self, x):
        return self.up(torch.relu(self.conv(x)))


class UNet(nn.Module):
    """Three times to half size and back: sides must be multiples of 8."""

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(4))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(4, 4, 2, 2) for _ in range(3))
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        kept = []
        for down in self.downs[:3]:
            kept.append(torch.relu(down(x)))
            x = functional.max_pool2d(kept[-1], 2)
        x = torch.relu(self.downs[3](x))
        for up in self.ups:
            x = self.join(up(x), kept.pop())
        return self.last(x)

    def join(self, x, kept):
        return x + kept


class ResizingUNet(UNet):
    """Any size, as far as two pixels are left at the bottom."""

    def join(self, x, kept):
        return functional.interpolate(x, size=kept.shape[2:], mode="bilinear", align_corners=False) + kept


class Fixed(nn.Module):
    """A learned picture is added: one size only."""

    def __init__(self):
        super().__init__()
        self.conv, self.offset = nn.Conv2d(3, 3, 3, padding=1), nn.Parameter(torch.rand(1, 3, 24, 40))

    def forward(self, x):
        return self.conv(x) + self.offset


class Reflecting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 11)

    def forward(self, x):
        return self.conv(functional.pad(x, (5, 5, 5, 5), mode="reflect"))


def export(module, path, opset=17, dynamic=True, *, size=(24, 40), planes=3):
    """Saved as torch's older exporter does; the module is deterministic."""
    torch.manual_seed(0)
    module = module.eval()
    axes = {"picture": {0: "n", 2: "height", 3: "width"}, "result": {0: "n"}} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.rand(1, planes, *size),), str(path), dynamo=False, opset_version=opset,
            input_names=["picture"], output_names=["result"], dynamic_axes=axes,
        )  # fmt: skip
    return path


def run(path, x):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def picture(height, width, planes=3):
    return np.random.default_rng(3).random((1, planes, height, width), np.float32)


def operators(network):
    return collections.Counter(node.op_type for node in onnx.load(network.main.onnx_path).graph.node)


def taken(spec):
    return spec.input_planes, spec.output_planes, spec.upscale, spec.size_multiple, spec.min_size


# Real exports


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("opset", [9, 17])
def test_super_resolution(tmp_path, opset, dynamic):
    module = SuperResolution()
    spec = spec_from_onnx(export(module, tmp_path / "my net.onnx", opset, dynamic))
    assert (spec.name, spec.onnx, spec.factory) == ("my net.onnx", str(tmp_path / "my net.onnx"), "")
    assert (spec.input, spec.output, spec.options, spec.statistics) == ("rgb", "rgb", {}, ())
    assert taken(spec) == (3, 3, 2, 1, 1)
    assert ("fixed to 40x24 as given, made dynamic" in spec.description) == (not dynamic)
    assert ModelSpec.from_json(spec.to_json()) == spec
    network = network_from_onnx(spec, tmp_path)
    assert operators(network) == {"Conv": 1, "Relu": 1, "DepthToSpace": 1}
    for size in ((24, 40), (5, 9), (1, 1)):
        x = picture(*size)
        with torch.no_grad():
            assert np.abs(run(network.main.onnx_path, x) - module(torch.from_numpy(x)).numpy()).max() < 1e-5
    assert count_work(network.main.onnx_path, (1, 3, 10, 20)).macs == 200 * 12 * 3 * 25


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_u_net(tmp_path, dynamic):
    module = UNet()
    spec = spec_from_onnx(export(module, tmp_path / "u.onnx", 13, dynamic))
    assert taken(spec) == (3, 3, 1, 8, 8)
    network = network_from_onnx(spec, tmp_path)
    x = picture(16, 24)
    with torch.no_grad():
        assert np.abs(run(network.main.onnx_path, x) - module(torch.from_numpy(x)).numpy()).max() < 1e-5
    assert count_work(network.main.onnx_path, x.shape).macs > 0


@pytest.mark.parametrize(("module", "least"), [(ResizingUNet, 1), (Reflecting, 6)])
def test_the_least_size(tmp_path, module, least):
    path = export(module(), tmp_path / "n.onnx", 17)
    spec = spec_from_onnx(path)
    assert (spec.size_multiple, spec.min_size) == (1, least)
    network = network_from_onnx(spec, tmp_path)
    x = picture(31, 21)
    assert np.abs(run(network.main.onnx_path, x) - run(path, x)).max() < 1e-5


def test_an_opset_that_onnx_converts_wrongly_is_left(tmp_path):
    """Opset 10 resizes by corners; converted to 20 the same nodes resize by centres."""
    path = export(ResizingUNet(), tmp_path / "n.onnx", 10)
    spec = spec_from_onnx(path)
    network = network_from_onnx(spec, tmp_path)
    assert network.opset == 10
    assert np.abs(run(network.main.onnx_path, picture(31, 21)) - run(path, picture(31, 21))).max() < 1e-5


def test_luma(tmp_path):
    spec = spec_from_onnx(export(SuperResolution(1, 3), tmp_path / "y.onnx", planes=1))
    assert (spec.input, spec.output, spec.evaluation.channels) == ("luma", "luma", "Y")
    assert taken(spec) == (1, 1, 3, 1, 1)
    network = network_from_onnx(spec, tmp_path)
    assert (network.main.planes, network.main.output_planes, network.main.upscale) == (1, 1, 3)


# One size only


def test_a_file_that_cannot_be_made_dynamic_keeps_its_size(tmp_path):
    path = export(Fixed(), tmp_path / "f.onnx", dynamic=False)
    spec = spec_from_onnx(path)
    assert spec.options == {"height": 24, "width": 40}
    assert "fixed to 40x24, takes no other: constants of its Add may depend on the height or width" in spec.description
    check_size(spec, 24, 40)
    with pytest.raises(UserError, match="fixed to inputs of 40x24, asked for 24x40"):
        check_size(spec, 40, 24)
    network = network_from_onnx(ModelSpec.from_json(spec.to_json()), tmp_path)
    assert np.abs(run(network.main.onnx_path, picture(24, 40)) - run(path, picture(24, 40))).max() < 1e-5
    shape = onnx.load(network.main.onnx_path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape] == [1, 3, 24, 40]
    assert count_work(network.main.onnx_path, (1, 3, 24, 40)).macs == 24 * 40 * 81


def test_a_constant_that_holds_the_size_keeps_it(tmp_path):
    """x less its mean, as an exporter for one size writes it: at other sizes it runs, and means something else."""
    nodes = [
        (("ReduceSum", ["in", "axes"], ["sum"]), {}),
        (("Mul", ["sum", "share"], ["mean"]), {}),
        (("Sub", ["in", "mean"], ["out"]), {}),
    ]
    tensors = {"axes": [2, 3], "share": np.float32(1 / (64 * 96))}
    path = by_hand(tmp_path / "m.onnx", nodes, tensors, (1, 3, 64, 96), (1, 3, 64, 96))
    spec = spec_from_onnx(path)
    assert spec.options == {"height": 64, "width": 96}
    assert "fixed to 96x64, takes no other: constants of its Mul, ReduceSum may depend on" in spec.description
    with pytest.raises(UserError, match=r"asked for 80x80.*Export the network again with dynamic height and width"):
        check_size(spec, 80, 80)


def test_one_fixed_side_that_a_constant_may_hold_is_refused(tmp_path):
    nodes = [(("ReduceMean", ["in"], ["mean"]), {}), (("Sub", ["in", "mean"], ["out"]), {})]
    path = by_hand(tmp_path / "m.onnx", nodes, (), (1, 3, 64, None), (1, 3, 64, None))
    with pytest.raises(UserError, match="constants of its ReduceMean may depend on the height or width"):
        spec_from_onnx(path)


def test_every_size_is_fine_for_others(tmp_path):
    check_size(spec_from_onnx(export(SuperResolution(), tmp_path / "s.onnx")), 7, 1)


# Files made by hand


def by_hand(path, nodes, tensors=(), shape=(1, 3, None, None), out=(1, 3, None, None), *, kind=TensorProto.FLOAT):
    x, y = (helper.make_tensor_value_info(n, kind, s) for n, s in (("in", shape), ("out", out)))
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(tensors).items()]
    graph = helper.make_graph([helper.make_node(*n, **a) for n, a in nodes], "g", [x], [y], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="hand")
    onnx.save(made, path)
    return path


def test_a_network_of_channels_last_inside(tmp_path):
    """As converters from TensorFlow write it: to NHWC, depth_to_space by hand, and back."""
    nodes = [
        (("Transpose", ["in"], ["nhwc"]), {"perm": [0, 2, 3, 1]}),
        (("Concat", ["nhwc"] * 4, ["wide"]), {"axis": 3}),
        (("Transpose", ["wide"], ["nchw"]), {"perm": [0, 3, 1, 2]}),
        (("Reshape", ["nchw", "before"], ["a"]), {}),
        (("Transpose", ["a"], ["b"]), {"perm": [0, 3, 4, 1, 5, 2]}),
        (("Reshape", ["b", "after"], ["out"]), {}),
    ]
    tensors = {"before": [1, 2, 2, 3, 10, 14], "after": [1, 3, 20, 28]}
    path = by_hand(tmp_path / "tf.onnx", nodes, tensors, (1, 3, 10, 14), (1, 3, 20, 28))
    spec = spec_from_onnx(path)
    assert taken(spec) == (3, 3, 2, 1, 1)
    assert spec.source.endswith(", made by hand")
    network = network_from_onnx(spec, tmp_path)
    assert operators(network)["DepthToSpace"] == 1
    x = picture(6, 5)
    assert np.array_equal(run(network.main.onnx_path, x), x.repeat(2, axis=2).repeat(2, axis=3))


def test_float16(tmp_path):
    weight = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float16)
    nodes = [(("Conv", ["in", "w"], ["out"]), {"pads": [1] * 4})]
    path = by_hand(tmp_path / "half.onnx", nodes, {"w": weight}, kind=TensorProto.FLOAT16)
    spec = spec_from_onnx(path)
    assert "float16 with a cast at its ends" in spec.description
    network = network_from_onnx(spec, tmp_path)
    x = picture(9, 8).astype(np.float16)
    got, wanted = run(network.main.onnx_path, x.astype(np.float32)), run(path, x)
    assert got.dtype == np.float32
    assert np.array_equal(got.astype(np.float16), wanted)


def test_external_data_is_inside_the_copy_and_part_of_the_key(tmp_path):
    plain = export(SuperResolution(), tmp_path / "a.onnx")
    made = onnx.load(plain)
    onnx.save(made, tmp_path / "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    spec = spec_from_onnx(tmp_path / "b.onnx")
    first = network_from_onnx(spec, tmp_path)
    data = bytearray((tmp_path / "b.data").read_bytes())
    data[3] ^= 0x40  # the exponent of a weight
    (tmp_path / "b.data").write_bytes(data)
    second = network_from_onnx(spec, tmp_path)
    assert first.main.onnx_path != second.main.onnx_path
    (tmp_path / "b.data").unlink()
    assert not np.array_equal(
        *(run(network.main.onnx_path, picture(8, 8)) for network in (first, second))
    )  # the copies need nothing else


def test_thousands_of_nodes(tmp_path):
    names = ["in", *(f"t{i}" for i in range(2999)), "out"]
    nodes = [(("Identity", [a], [b]), {"name": a}) for a, b in itertools.pairwise(names)]
    network = network_from_onnx(spec_from_onnx(by_hand(tmp_path / "long.onnx", nodes)), tmp_path)
    assert operators(network) == {"Identity": 3000}


# Refusals


@pytest.mark.parametrize(
    ("node", "planes", "words"),
    [
        ((("Slice", ["in", "zero", "one", "one"], ["out"]), {}), 1, "3 planes in and 1 out"),
        (
            (("AveragePool", ["in"], ["out"]), {"kernel_shape": [5, 5]}),
            3,
            r"makes \(1, 3, 124, 188\) of \(1, 3, 128, 192\)",
        ),
        ((("MaxPool", ["in"], ["out"]), {"kernel_shape": [2, 2], "strides": [2, 2]}), 3, "no whole multiples"),
        ((("RandomNormalLike", ["in"], ["out"]), {}), 3, "n.onnx`: two runs of it differ. Expected the same output"),
        ((("RandomNormalLike", ["in"], ["out"]), {"seed": 1.0}), 3, "two runs of it differ"),
        ((("Div", ["in", "naught"], ["out"]), {}), 3, "its output holds infinity"),
        ((("Mul", ["in", "nan"], ["out"]), {}), 3, "n.onnx`: its output holds NaN. Expected numbers"),
        ((("Add", ["in", "picture"], ["out"]), {}), 3, "takes no picture: .*dimension"),
    ],
)
def test_what_is_no_image_to_image_network(tmp_path, node, planes, words):
    tensors = {"zero": [0], "one": [1], "picture": np.ones((1, 3, 9, 9), np.float32)}
    tensors |= {"naught": np.zeros((), np.float32), "nan": np.full((), np.nan, np.float32)}
    with pytest.raises(UserError, match=words):
        spec_from_onnx(by_hand(tmp_path / "n.onnx", [node], tensors, out=(1, planes, None, None)))


def test_what_the_runtime_cannot_load_is_said_in_its_words(tmp_path):
    made = onnx.load(by_hand(tmp_path / "n.onnx", [(("Relu", ["in"], ["out"]), {})]))
    made.opset_import[0].version = 99
    onnx.save(made, tmp_path / "n.onnx")
    with pytest.raises(UserError, match=r"till opset \d+\. Expected a graph that ONNX Runtime [\d.]+ can load"):
        spec_from_onnx(tmp_path / "n.onnx")


# The cache


def test_what_was_made_once_is_not_made_again(tmp_path, monkeypatch):
    path = export(SuperResolution(), tmp_path / "s.onnx")
    spec = spec_from_onnx(path)
    first = network_from_onnx(spec, tmp_path / "cache")
    assert first.export_s > 0
    assert (first.model, first.statistics, first.opset) == ("s.onnx", None, 20)
    assert (first.thumbnail, first.refit_rule) == (None, ())
    graph = first.main
    assert (graph.role, graph.state_path, graph.factory, graph.options) == ("onnx", "", "", {})
    assert graph.sha256 == file_sha256(graph.onnx_path)
    assert Network.from_json(first.to_json()) == first
    stored = json.loads((Path(graph.onnx_path).parent / "network.json").read_text())
    assert stored["main"]["onnx_path"] == "main.onnx"  # the cache can be moved
    assert [p.name for p in (tmp_path / "cache" / "networks").iterdir()] == [Path(graph.onnx_path).parent.name]
    monkeypatch.setattr(own_onnx, "_write", lambda *_: pytest.fail("made again"))
    assert network_from_onnx(spec, tmp_path / "cache") == first
    elsewhere = path.rename(tmp_path / "elsewhere.onnx")
    assert network_from_onnx(dataclasses.replace(spec, onnx=str(elsewhere)), tmp_path / "cache") == first


def test_a_file_that_became_another_leaves_nothing_in_the_cache(tmp_path):
    path = export(SuperResolution(), tmp_path / "s.onnx")
    spec = spec_from_onnx(path)
    by_hand(path, [(("RandomNormalLike", ["in"], ["out"]), {})])
    with pytest.raises(UserError, match="two runs of it differ"):
        network_from_onnx(spec, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "networks").iterdir())
