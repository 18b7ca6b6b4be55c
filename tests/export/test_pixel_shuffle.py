"""PixelShuffle found in what exporters and people write for it, and left alone in what only looks like it."""

from __future__ import annotations

import collections
import io
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, version_converter

from export.pixel_shuffle import fuse_pixel_shuffle

CRD, DCR = [0, 1, 4, 2, 5, 3], [0, 3, 4, 1, 5, 2]


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def operators(model):
    return dict(collections.Counter(node.op_type for node in model.graph.node))


def fused(model, *sizes, planes=None, count=1):
    """The model after fusing; every output is bit for bit what it was, at these sizes."""
    planes = planes or model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    pictures = [np.random.default_rng(1).random((1, planes, *size), np.float32) for size in sizes]
    before = [run(model, x) for x in pictures]
    outputs = [value.name for value in model.graph.output]
    assert fuse_pixel_shuffle(model) == count
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == outputs
    for x, wanted in zip(pictures, before, strict=True):
        for a, b in zip(run(model, x), wanted, strict=True):
            assert np.array_equal(a, b)
    return model


def by_hand(nodes, shape, constants=(), outputs=("y",), opset=20):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    stored = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in dict(constants).items()]
    made = [helper.make_node(op, inputs, outs, **attributes) for op, inputs, outs, attributes in nodes]
    graph = helper.make_graph(made, "g", [x], ends, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def shuffle(order, before, after, shape, *, opset=20, outputs=("y",), extra=()):
    nodes = [
        ("Reshape", ["x", "before"], ["a"], {}),
        ("Transpose", ["a"], ["b"], {"perm": order}),
        ("Reshape", ["b", "after"], ["y"], {}),
        *extra,
    ]
    return by_hand(nodes, shape, {"before": before, "after": after}, outputs, opset)


@pytest.mark.parametrize("r", [2, 3, 4, 8])
@pytest.mark.parametrize(("order", "mode"), [(CRD, b"CRD"), (DCR, b"DCR")])
def test_static_shapes(r, order, mode):
    before = [1, 3, r, r, 5, 7] if order == CRD else [1, r, r, 3, 5, 7]
    model = fused(shuffle(order, before, [1, 3, 5 * r, 7 * r], [1, 3 * r * r, 5, 7]), (5, 7))
    (node,) = model.graph.node
    assert node.op_type == "DepthToSpace"
    assert {a.name: a.s or a.i for a in node.attribute} == {"mode": mode, "blocksize": r}
    assert (list(node.input), list(node.output)) == (["x"], ["y"])
    assert not model.graph.initializer


@pytest.mark.parametrize("order", [CRD, DCR])
def test_the_result_is_the_formula_of_the_definition(order):
    r, c, h, w = 2, 3, 4, 5
    before = [1, c, r, r, h, w] if order == CRD else [1, r, r, c, h, w]
    model = fused(shuffle(order, before, [1, c, r * h, r * w], [1, c * r * r, h, w]), (h, w))
    x = np.random.default_rng(0).random((1, c * r * r, h, w), np.float32)
    (y,) = run(model, x)
    for k, i, j in np.ndindex(c, h * r, w * r):
        plane = k * r * r + (i % r) * r + j % r if order == CRD else ((i % r) * r + j % r) * c + k
        assert y[0, k, i, j] == x[0, plane, i // r, j // r]


@pytest.mark.parametrize(("order", "before"), [([0, 3, 1, 4, 2], [-1, 2, 2, 5, 7]), ([2, 3, 0, 4, 1], [2, 2, 3, 5, 7])])
def test_five_axes(order, before):
    assert operators(fused(shuffle(order, before, [1, 3, 10, 14], [1, 12, 5, 7]), (5, 7))) == {"DepthToSpace": 1}


def computed(order, r, rows):
    """Reshape targets computed from the input's shape: [N, …] with the planes divided and the sides multiplied."""
    constants = {"r": [r], "rr": [r * r], "i0": [0], "i1": [1], "i2": [2], "i3": [3]}
    nodes = [("Shape", ["x"], ["s"], {})]
    nodes += [("Gather", ["s", f"i{i}"], [name], {"axis": 0}) for i, name in enumerate(("n", "C", "h", "w"))]
    nodes += [("Div", ["C", "rr"], ["c"], {}), ("Mul", ["h", "r"], ["hr"], {}), ("Mul", ["w", "r"], ["wr"], {})]
    nodes += [("Concat", rows, ["before"], {"axis": 0}), ("Concat", ["n", "c", "hr", "wr"], ["after"], {"axis": 0})]
    nodes += [("Reshape", ["x", "before"], ["a"], {}), ("Transpose", ["a"], ["b"], {"perm": order})]
    return [*nodes, ("Reshape", ["b", "after"], ["y"], {})], constants


@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize(
    ("order", "rows"), [(CRD, ["n", "c", "r", "r", "h", "w"]), (DCR, ["n", "r", "r", "c", "h", "w"])]
)
def test_shapes_that_are_computed(r, order, rows):
    nodes, constants = computed(order, r, rows)
    model = by_hand(nodes, [None, 3 * r * r, None, None], constants)
    model = fused(model, (5, 7), (8, 3))
    assert operators(model) == {"DepthToSpace": 1}  # nothing of the arithmetic is left
    assert not model.graph.initializer


def test_arithmetic_that_others_read_stays():
    nodes, constants = computed(CRD, 2, ["n", "c", "r", "r", "h", "w"])
    model = by_hand(
        [*nodes, ("Resize", ["x", "", "", "after2"], ["z"], {}), ("Concat", ["n", "C", "hr", "wr"], ["after2"], {})],
        [1, 12, None, None], constants, ("y", "z"),
    )  # fmt: skip
    model.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:-2], nodes[-1], nodes[-2]])
    left = operators(fused(model, (5, 7), (4, 6)))
    assert (left["Shape"], left["Gather"], left["Mul"], left["Concat"], left["DepthToSpace"]) == (1, 4, 2, 1, 1)
    assert not {"Div", "Reshape", "Transpose"} & set(left)
    assert {i.name for i in model.graph.initializer} == {"r", "i0", "i1", "i2", "i3"}


def test_two_in_a_row():
    nodes = []
    for k, (x, y) in enumerate((("x", "m"), ("m", "y"))):
        nodes += [("Reshape", [x, f"before{k}"], [f"a{k}"], {}), ("Transpose", [f"a{k}"], [f"b{k}"], {"perm": CRD})]
        nodes += [("Reshape", [f"b{k}", f"after{k}"], [y], {})]
    shapes = {"before0": [1, 4, 2, 2, 5, 7], "after0": [1, 4, 10, 14]}
    shapes |= {"before1": [1, 1, 2, 2, 10, 14], "after1": [1, 1, 20, 28]}
    assert operators(fused(by_hand(nodes, [1, 16, 5, 7], shapes), (5, 7), count=2)) == {"DepthToSpace": 2}


# What is no PixelShuffle, or is needed as it is


@pytest.mark.parametrize(
    ("order", "before", "after", "shape"),
    [
        pytest.param([0, 2, 1, 3, 4], [1, 4, 3, 5, 7], [1, 12, 5, 7], [1, 12, 5, 7], id="channel shuffle"),
        pytest.param([0, 1, 3, 5, 2, 4], [1, 3, 5, 2, 7, 2], [1, 12, 5, 7], [1, 3, 10, 14], id="PixelUnshuffle"),
        pytest.param([0, 1, 4, 3, 5, 2], [1, 3, 2, 2, 5, 7], [1, 3, 10, 14], [1, 12, 5, 7], id="blocks mirrored"),
        pytest.param(CRD, [1, 3, 2, 4, 5, 7], [1, 3, 10, 28], [1, 24, 5, 7], id="blocks not square"),
        pytest.param(CRD, [1, 3, 2, 2, 5, 7], [1, 3, 14, 10], [1, 12, 5, 7], id="sides swapped"),
        pytest.param(CRD, [1, 3, 2, 2, 5, 7], [1, 6, 10, 7], [1, 12, 5, 7], id="other planes"),
        pytest.param(CRD, [1, 3, 2, 2, 7, 5], [1, 3, 10, 14], [1, 12, 5, 7], id="sides swapped before"),
        pytest.param(CRD, [1, 12, 1, 1, 5, 7], [1, 12, 5, 7], [1, 12, 5, 7], id="blocks of one"),
        pytest.param([0, 3, 1, 4, 2], [1, 5, 3, 7, 4], [1, 20, 3, 7], [1, 12, 5, 7], id="attention heads"),
    ],
)
def test_look_alikes_stay(order, before, after, shape):
    model = shuffle(order, before, after, shape)
    kept = model.SerializeToString()
    assert fuse_pixel_shuffle(model) == 0
    assert model.SerializeToString() == kept


@pytest.mark.parametrize("tensor", ["a", "b"])
def test_a_tensor_between_that_somebody_reads_keeps_its_nodes(tensor):
    extra = [("Reshape", [tensor, "flat"], ["z"], {})]
    model = shuffle(CRD, [1, 3, 2, 2, 5, 7], [1, 3, 10, 14], [1, 12, 5, 7], outputs=("y", "z"), extra=extra)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1, -1]), "flat"))
    fused(model, (5, 7), count=0)


def test_a_tensor_between_that_is_an_output_keeps_its_nodes():
    model = shuffle(CRD, [1, 3, 2, 2, 5, 7], [1, 3, 10, 14], [1, 12, 5, 7])
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 3, 5, 2, 7, 2]))
    fused(model, (5, 7), count=0)


def test_a_tensor_between_that_a_body_reads_keeps_its_nodes():
    model = shuffle(CRD, [1, 3, 2, 2, 5, 7], [1, 3, 10, 14], [1, 12, 5, 7], outputs=("y", "z"))
    ends = [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
    body = helper.make_graph([helper.make_node("Reshape", ["b", "flat"], ["e"])], "body", [], ends)
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=body, else_branch=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1, -1]), "flat"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    assert fuse_pixel_shuffle(model) == 0
    assert operators(model) == {"Reshape": 2, "Transpose": 1, "If": 1}


def test_what_fits_at_one_size_by_chance_stays():
    """Reshaped to a fixed width: at 24x40 a PixelShuffle, at others something else."""
    model = shuffle(CRD, [1, 3, 2, 2, -1, 40], [1, 3, -1, 80], [1, 12, None, None])
    fused(model, (24, 40), (40, 56), count=0)


def test_below_opset_11_only_dcr_can_be_said():
    shape = [1, 12, 5, 7]
    assert fuse_pixel_shuffle(shuffle(CRD, [1, 3, 2, 2, 5, 7], [1, 3, 10, 14], shape, opset=9)) == 0
    model = fused(shuffle(DCR, [1, 2, 2, 3, 5, 7], [1, 3, 10, 14], shape, opset=9), (5, 7))
    assert [a.name for a in model.graph.node[0].attribute] == ["blocksize"]


def test_a_graph_that_does_not_run_stays():
    model = shuffle(CRD, [1, 3, 2, 2, -1, 7], [1, 3, -1, 13], [1, 12, None, None])
    kept = model.SerializeToString()
    assert fuse_pixel_shuffle(model) == 0
    assert model.SerializeToString() == kept


# What torch's older exporter makes of modules


class Shuffle(torch.nn.Module):
    def __init__(self, way, r):
        super().__init__()
        self.way, self.r, self.conv = way, r, torch.nn.Conv2d(3, 2 * r * r, 3, padding=1)

    def forward(self, x):
        x, r = self.conv(x), self.r
        n, c, h, w = x.size()
        if self.way == "module":
            return torch.nn.functional.pixel_shuffle(x, r)
        if self.way == "crd":
            shuffled = x.view(n, c // r**2, r, r, h, w).permute(0, 1, 4, 2, 5, 3).contiguous()
            return shuffled.view(n, c // r**2, h * r, w * r)
        if self.way == "dcr":
            return x.reshape(n, r, r, c // r**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * r, w * r)
        return x.reshape(-1, r, r, h, w).permute(0, 3, 1, 4, 2).reshape(n, -1, h * r, w * r)


def exported(module, opset, dynamic):
    file = io.BytesIO()
    axes = {"in": {0: "n", 2: "height", 3: "width"}} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.rand(1, 3, 10, 14),), file, dynamo=False, opset_version=opset,
            input_names=["in"], output_names=["out"], dynamic_axes=axes,
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize(("way", "r"), [("module", 2), ("crd", 3), ("dcr", 2), ("merged", 2)])
def test_exports_of_torch(way, r, opset, dynamic):
    module = Shuffle(way, r)
    model = exported(module, opset, dynamic)
    model = version_converter.convert_version(model, 20) if opset == 9 else model
    count = 0 if way == "module" and opset > 9 else 1  # that exporter knows it
    model = fused(model, *([(10, 14), (5, 9)] if dynamic else [(10, 14)]), planes=3, count=count)
    assert operators(model) == {"Conv": 1, "DepthToSpace": 1}
    x = torch.rand(1, 3, 10, 14)
    with torch.no_grad():
        assert np.abs(run(model, x.numpy())[0] - module(x).numpy()).max() < 1e-6
