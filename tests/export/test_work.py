"""Work of a graph: against closed formulas of the published networks, and of tiny graphs made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx import write_onnx
from export.work import Work, count_work, layer_macs, without_weights
from reference_models import create_model, get

PIXELS = 1920 * 1080
SHAPE = (1, 3, 1080, 1920)


def can_macs(width, layers):
    return PIXELS * (27 * width + (layers - 1) * 9 * width**2 + 3 * width)


def folded_parameters(width, layers):
    return 27 * width + (layers - 1) * 9 * width**2 + layers * width + 3 * width + 3


@pytest.fixture
def save(tmp_path):
    """`save(nodes, shapes of inputs, initializers, outputs)` → path of an ONNX file with these nodes."""

    def write(nodes, inputs, initializers=(), outputs=("y",), domains=("",)):
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        stored = [
            numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in dict(initializers).items()
        ]
        graph = helper.make_graph([helper.make_node(*n, **a) for n, a in nodes], "g", values, ends, stored)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 20) for d in domains]), tmp_path / "g")
        return str(tmp_path / "g")

    return write


def test_can24_at_1080p(networks):
    for statistics in ("image", "frozen", "thumbnail"):
        assert count_work(networks[statistics].main.onnx_path, SHAPE).macs == can_macs(24, 8)


def test_can32_at_1080p(tmp_path):
    write_onnx(create_model("can32").folded().eval(), tmp_path / "can32.onnx", get("can32"))
    assert count_work(str(tmp_path / "can32.onnx"), SHAPE).macs == can_macs(32, 9)


def test_least_bytes_are_input_weights_and_output_once(networks):
    found = count_work(networks["frozen"].main.onnx_path, SHAPE).min_bytes
    assert found == 4 * (3 * PIXELS + 3 * PIXELS + folded_parameters(24, 8))
    image = count_work(networks["image"].main.onnx_path, SHAPE).min_bytes
    assert image == pytest.approx(found, rel=1e-4)  # the same pictures; a few scalars and betas more or less


def test_work_grows_with_the_picture_and_the_file_stays(networks):
    path = networks["frozen"].main.onnx_path
    before = onnx.load(path)
    small, large = count_work(path, (1, 3, 10, 20)), count_work(path, (1, 3, 20, 20))
    assert large.macs == 2 * small.macs
    assert large.min_bytes - small.min_bytes == 4 * 6 * 200
    assert onnx.load(path) == before


def test_the_thumbnail_graph_is_a_sixteenth(networks):
    work = count_work(networks["thumbnail"].thumbnail.onnx_path, SHAPE)
    reduction = PIXELS // 16 * 3 * 3 * 16
    assert work.macs == (can_macs(24, 8) - PIXELS * 72) // 16 + reduction  # without the last layer, not needed here
    assert work.min_bytes >= 4 * 3 * PIXELS


def test_a_strided_grouped_convolution(save):
    path = save(
        [(("Conv", ["x", "w"], ["y"]), {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 2})],
        {"x": [1, 4, 8, 10]},
        {"w": (6, 2, 3, 3)},
    )
    work = count_work(path, (1, 4, 8, 10))
    assert work.macs == 6 * 4 * 5 * (2 * 9)
    assert work.min_bytes == 4 * (4 * 80 + 6 * 2 * 9 + 6 * 20)


def test_a_transposed_convolution_counts_its_inputs(save):
    path = save(
        [(("ConvTranspose", ["x", "w"], ["y"]), {"strides": [3, 3]})], {"x": [1, 4, "h", "w"]}, {"w": (4, 5, 3, 3)}
    )
    work = count_work(path, (1, 4, 6, 7))
    assert work.macs == 42 * 4 * 5 * 9
    assert work.min_bytes == 4 * (42 * 4 + 4 * 5 * 9 + 5 * 18 * 21)


def test_matrix_products_with_a_batch(save):
    path = save([(("MatMul", ["x", "w"], ["y"]), {})], {"x": [2, 5, "rows", 7]}, {"w": (7, 3)})
    assert count_work(path, (2, 5, 4, 7)).macs == 2 * 5 * 4 * 3 * 7


@pytest.mark.parametrize(("transposed", "shape"), [(0, (4, 7)), (1, (7, 4))])
def test_gemm_whichever_way_its_left_side_lies(save, transposed, shape):
    path = save([(("Gemm", ["x", "w", "b"], ["y"]), {"transA": transposed})], {"x": shape}, {"w": (7, 3), "b": (3,)})
    assert count_work(path, shape).macs == 4 * 3 * 7


def quantised(tmp_path, node, shape, weight, *, dynamic=False):
    """Path of a graph of one quantised product: uint8 in, int8 weights."""
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, shape)
    y = helper.make_tensor_value_info("y", TensorProto.INT32 if dynamic else TensorProto.UINT8, None)
    stored = {"w": np.zeros(weight, np.int8), "s": np.float32(1), "z": np.uint8(0), "i": np.int8(0)}
    graph = helper.make_graph(
        [node], "g", [x], [y], [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "q")
    return str(tmp_path / "q")


SCALES = 4 + 1 + 1  # bytes of s, z and i


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_quantised_convolution(tmp_path, dynamic):
    names = ["x", "w"] if dynamic else ["x", "s", "z", "w", "s", "i", "s", "z"]
    node = helper.make_node("ConvInteger" if dynamic else "QLinearConv", names, ["y"], pads=[1] * 4)
    work = count_work(quantised(tmp_path, node, [1, 4, "h", "w"], (6, 4, 3, 3), dynamic=dynamic), (1, 4, 8, 10))
    assert work.macs == 80 * 6 * 4 * 9
    assert work.min_bytes == 4 * 80 + 6 * 4 * 9 + SCALES + 6 * 80 * (4 if dynamic else 1)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_quantised_product(tmp_path, dynamic):
    names = ["x", "w"] if dynamic else ["x", "s", "z", "w", "s", "i", "s", "z"]
    node = helper.make_node("MatMulInteger" if dynamic else "QLinearMatMul", names, ["y"])
    assert (
        count_work(quantised(tmp_path, node, [2, 5, 4, 7], (7, 3), dynamic=dynamic), (2, 5, 4, 7)).macs
        == 10 * 4 * 3 * 7
    )


@pytest.mark.parametrize(
    ("equation", "shape", "weight", "macs"),
    [
        ("nchw,cd->ndhw", (2, 3, 4, 5), (3, 7), 2 * 3 * 4 * 5 * 7),
        ("...w, w d -> ...d", (2, 3, 4, 5), (5, 7), 2 * 3 * 4 * 5 * 7),
        ("bhij,bhjk", (2, 3, 4, 5), (2, 3, 5, 6), 2 * 3 * 4 * 5 * 6),
        ("...ij,...jk->...ik", (2, 3, 4, 5), (1, 3, 5, 6), 2 * 3 * 4 * 5 * 6),
    ],
)
def test_einsum(save, equation, shape, weight, macs):
    path = save([(("Einsum", ["x", "w"], ["y"]), {"equation": equation})], {"x": shape}, {"w": weight})
    assert count_work(path, shape).macs == macs


def test_einsum_of_one_operand_only_sums(save):
    path = save([(("Einsum", ["x"], ["y"]), {"equation": "nchw->nhwc"})], {"x": (1, 3, 4, 5)})
    assert count_work(path, (1, 3, 4, 5)).macs == 0


def test_of_two_branches_the_one_with_more_work_counts(save):
    def branch(weight):
        end = helper.make_tensor_value_info("e", TensorProto.FLOAT, None)
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", weight], ["e"])]
        return helper.make_graph(nodes, weight, [], [end])

    # The condition is a sum over the picture, so that nobody folds it.
    nodes = [
        (("ReduceSum", ["x"], ["sum"]), {"keepdims": 0}),
        (("Cast", ["sum"], ["c"]), {"to": TensorProto.BOOL}),
        (("If", ["c"], ["y"]), {"then_branch": branch("narrow"), "else_branch": branch("wide")}),
    ]
    path = save(nodes, {"x": [1, 3, 4, 7]}, {"narrow": (7, 3), "wide": (7, 5)})
    assert count_work(path, (1, 3, 4, 7)).macs == 3 * 4 * 7 * 5


def test_halves_are_two_bytes_and_quarters_half_of_one(tmp_path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, 3, "h", "w"]) for n in "xy")
    stored = [
        numpy_helper.from_array(np.zeros((3, 3, 1, 1), np.float16), "w"),
        helper.make_tensor("q", TensorProto.INT4, [5], [0] * 5),
    ]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "h")
    assert count_work(str(tmp_path / "h"), (1, 3, 5, 7)).min_bytes == 2 * (3 * 35 + 9 + 3 * 35) + 3


def test_other_operators_are_no_work(save):
    path = save([(("Relu", ["x"], ["y"]), {})], {"x": [1, 3, "h", "w"]})
    assert count_work(path, (1, 3, 5, 5)) == Work(0, 4 * 150)


def test_two_works_add_up():
    assert Work(3, 40) + Work(5, 100) == Work(8, 140)


def test_a_weighted_node_of_unknown_shape_is_refused_by_name(save):
    path = save(
        [(("Mystery", ["x"], ["h"]), {"domain": "own"}), (("MatMul", ["h", "w"], ["y"]), {"name": "product"})],
        {"x": [1, 3, 4, 7]},
        {"w": (7, 3)},
        domains=("", "own"),
    )
    with pytest.raises(ValueError, match=r"node 'product' \(MatMul\): shape of h, y is not known"):
        count_work(path, (1, 3, 4, 7))


def test_an_input_of_another_rank_is_refused(networks):
    with pytest.raises(ValueError, match="zip"):
        count_work(networks["frozen"].main.onnx_path, (3, 10, 20))


def test_sizes_that_onnx_cannot_follow_are_computed_first(tmp_path):
    """An old exporter's enlarging to a size that the graph itself works out, before a convolution."""
    import torch
    import torch.nn.functional as F

    class Enlarged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, x):
            small = F.max_pool2d(x, 2)
            return self.conv(F.interpolate(small, size=x.shape[2:], mode="nearest"))

    path = str(tmp_path / "enlarged.onnx")
    axes = {"x": {2: "h", 3: "w"}, "y": {2: "h", 3: "w"}}
    torch.onnx.export(
        Enlarged().eval(), (torch.zeros(1, 3, 32, 32),), path,
        dynamo=False, opset_version=9, input_names=["x"], output_names=["y"], dynamic_axes=axes,
    )  # fmt: skip
    assert count_work(path, (1, 3, 64, 48)).macs == 64 * 48 * 27 * 5


def test_layers_of_a_network_by_name_add_up_to_its_work():
    text = """<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[N,C,H2,W2] y) {
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1) a = Relu(c) d = ConvTranspose<strides=[2,2]>(a, w2)
        t = Transpose<perm=[0,2,3,1]>(d) m = MatMul(t, w3) y = Transpose<perm=[0,3,1,2]>(m) }"""
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = f"makes {node.output[0]}"
    for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (8, 5, 2, 2)), ("w3", (5, 7))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    before = model.SerializeToString(deterministic=True)
    found = layer_macs(model, (1, 3, 10, 12))
    assert found == {"makes c": 30 * 8 * 27, "makes d": 30 * 8 * 20, "makes m": 120 * 5 * 7}
    assert list(found) == ["makes c", "makes d", "makes m"]
    assert model.SerializeToString(deterministic=True) == before


def test_layers_of_a_published_network(networks):
    path = networks["frozen"].main.onnx_path
    found = layer_macs(onnx.load(path), (1, 3, 9, 11))
    assert list(found.values()) == [99 * m for m in (27 * 24, *[9 * 24**2] * 7, 3 * 24)]
    assert sum(found.values()) == count_work(path, (1, 3, 9, 11)).macs


def test_sizes_are_read_however_many_there_are():
    parts = [f"p{i}" for i in range(96)]
    nodes = [helper.make_node("Split", ["x", "s"], parts, axis=1)]
    nodes += [helper.make_node("Conv", [part, "w"], [f"y{i}"], name=f"c{i}") for i, part in enumerate(parts)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 96 * 3, "H", "W"])
    ends = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(96)]
    stored = [
        numpy_helper.from_array(np.full(96, 3, np.int64), "s"),
        numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "w"),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], ends, stored), opset_imports=[helper.make_opsetid("", 20)]
    )
    assert layer_macs(made, (1, 288, 5, 7)) == {f"c{i}": 5 * 7 * 6 for i in range(96)}


def test_a_copy_without_weights_has_shapes_sizes_and_functions():
    made = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (float[1,3,H,W] x) => (float[1,8,H,W] y) { c = Conv<pads=[2,2,2,2]>(x, w) y = own.Twice(c) }
        <domain: "own", opset_import: ["": 20]> Twice (a) => (b) { b = Add(a, a) }""")
    made.graph.initializer.append(numpy_helper.from_array(np.ones((8, 3, 5, 5), np.float32), "w"))
    before = made.SerializeToString(deterministic=True)
    copied = without_weights(made, (1, 3, 6, 9))
    assert made.SerializeToString(deterministic=True) == before
    (weight,) = copied.graph.initializer
    assert (list(weight.dims), weight.raw_data) == ([8, 3, 5, 5], b"")
    shape = [dim.dim_value for dim in copied.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [1, 8, 6, 9]
    assert layer_macs(made, (1, 3, 6, 9)) == {"": 8 * 3 * 25 * 54}
