"""Cleaned graphs: names, types, batch and sizes as engines expect them, and the same numbers as the graph given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.clean_graph import clean_graph, set_sides, size_bound, state_shapes
from export.own_onnx import spec_from_onnx
from reference_models.errors import UserError

PATH = Path("/where/net.onnx")
WEIGHT = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32) / 9
CONV = [helper.make_node("Conv", ["in", "w"], ["out"], pads=[1] * 4)]


def model(nodes=CONV, shape=(1, 3, None, None), out=(1, 3, None, None), *, kind=TensorProto.FLOAT, opset=20, ir=8):
    x, y = (helper.make_tensor_value_info(n, kind, s) for n, s in (("in", shape), ("out", out)))
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(WEIGHT.astype(dtype), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def run(made, x):
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def declared(value):
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim]


def picture(*size):
    return np.random.default_rng(1).random((1, 3, *size), np.float32)


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (4, 3, 8, 12), ("N", "C", "height", "width"), (None, 3, None, 12)])
def test_ends_are_named_and_declared(shape):
    given = model(shape=shape, out=(*shape[:1], 3, *shape[2:]))
    kept = given.SerializeToString()
    clean = clean_graph(given, PATH)
    assert given.SerializeToString() == kept
    (x,), (y,) = clean.model.graph.input, clean.model.graph.output
    planes = shape[1] if isinstance(shape[1], int) else "C"
    assert declared(x) == ("x", TensorProto.FLOAT, [1, planes, "h", "w"])
    assert declared(y)[:2] == ("y", TensorProto.FLOAT)
    assert clean.planes == (3 if shape[1] == 3 else None)
    assert clean.own_size == tuple(side if isinstance(side, int) else None for side in shape[2:])
    onnx.checker.check_model(clean.model, full_check=True)
    wanted = run(model(), picture(7, 9))
    assert np.array_equal(run(clean.model, picture(7, 9)), wanted)


def test_names_that_are_taken_move_aside():
    nodes = [
        helper.make_node("Relu", ["in"], ["y"]),
        helper.make_node("Conv", ["y", "w"], ["x"], pads=[1] * 4),
        helper.make_node("Add", ["x", "in"], ["out"]),
    ]
    clean = clean_graph(model(nodes), PATH)
    onnx.checker.check_model(clean.model, full_check=True)
    assert np.array_equal(run(clean.model, picture(5, 6)), run(model(nodes), picture(5, 6)))
    names = {name for node in clean.model.graph.node for name in (*node.input, *node.output)}
    assert names == {"x", "y", "w", "x_0", "y_0"}


def test_ends_that_are_named_the_other_way_round():
    made = model([helper.make_node("Conv", ["y", "w"], ["x"], pads=[1] * 4)])
    made.graph.input[0].name, made.graph.output[0].name = "y", "x"
    clean = clean_graph(made, PATH)
    assert [value.name for value in (*clean.model.graph.input, *clean.model.graph.output)] == ["x", "y"]
    assert np.array_equal(run(clean.model, picture(5, 6)), run(made, picture(5, 6)))


def test_bodies_read_the_renamed_tensors():
    ends = [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
    body = helper.make_graph([helper.make_node("Relu", ["in"], ["e"])], "b", [], ends)
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["out"], then_branch=body, else_branch=body),
    ]
    clean = clean_graph(model(nodes), PATH)
    x = picture(4, 4) - 0.5
    assert np.array_equal(run(clean.model, x), np.maximum(x, 0))


def test_an_output_that_is_the_input():
    made = model([helper.make_node("Relu", ["in"], ["unused"])])
    made.graph.output[0].name = "in"
    assert np.array_equal(run(clean_graph(made, PATH).model, picture(4, 4)), picture(4, 4))


def test_float16_is_cast_at_the_ends():
    given = model(kind=TensorProto.FLOAT16)
    clean = clean_graph(given, PATH)
    assert clean.half
    assert not clean_graph(model(), PATH).half
    assert [node.op_type for node in clean.model.graph.node] == ["Cast", "Conv", "Cast"]
    x = picture(6, 7).astype(np.float16)
    got, wanted = run(clean.model, x.astype(np.float32)), run(given, x)
    assert (got.dtype, wanted.dtype) == (np.float32, np.float16)
    assert np.array_equal(got.astype(np.float16), wanted)


def test_the_opset_is_raised_and_the_format_kept_old():
    clean = clean_graph(model(opset=11, ir=6), PATH)
    assert (clean.model.opset_import[0].version, clean.model.ir_version) == (20, 10)
    assert clean_graph(model(opset=11), PATH, raise_opset=False).model.opset_import[0].version == 11
    assert clean_graph(model(opset=21, ir=11), PATH).model.opset_import[0].version == 21
    assert clean_graph(model(opset=23, ir=11), PATH).model.ir_version == 11


def test_stored_tensors_are_no_inputs():
    made = model(opset=8, ir=3)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHT.shape))
    clean = clean_graph(made, PATH)
    assert [value.name for value in clean.model.graph.input] == ["x"]
    assert np.allclose(run(clean.model, picture(5, 6)), run(made, picture(5, 6)), atol=1e-6)


def test_pixel_shuffles_are_recognised_whatever_the_batch():
    nodes = [
        helper.make_node("Concat", ["in", "in", "in", "in"], ["c"], axis=1),
        helper.make_node("Constant", [], ["s"], value_ints=[-1, 3, 2, 2, 8, 12]),
        helper.make_node("Reshape", ["c", "s"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 4, 2, 5, 3]),
        helper.make_node("Constant", [], ["t"], value_ints=[-1, 3, 16, 24]),
        helper.make_node("Reshape", ["b", "t"], ["out"]),
    ]
    made = model(nodes, shape=(4, 3, 8, 12), out=(4, 3, 16, 24))
    shapes = {"c": (4, 12, 8, 12), "a": (4, 3, 2, 2, 8, 12), "b": (4, 3, 8, 2, 12, 2)}  # as exporters write them down
    made.graph.value_info.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    clean = clean_graph(made, PATH)
    assert clean.fused == 1
    wanted = run(made, np.repeat(picture(8, 12), 4, axis=0))[:1]
    assert np.array_equal(run(clean.model, picture(8, 12)), wanted)
    assert run(clean.model, picture(5, 9)).shape == (1, 3, 10, 18)


def test_sides_can_be_fixed_again_and_the_output_s_are_stated(tmp_path):
    onnx.save(model(), tmp_path / "net.onnx")
    spec = spec_from_onnx(tmp_path / "net.onnx")
    graph = clean_graph(model(), PATH).model.graph
    state_shapes(graph, spec)
    assert declared(graph.output[0])[2] == [1, 3, "h", "w"]
    set_sides(graph, (8, 12))
    state_shapes(graph, spec)
    assert declared(graph.input[0])[2] == declared(graph.output[0])[2] == [1, 3, 8, 12]


def two_inputs(made):
    made.graph.input.append(helper.make_tensor_value_info("sigma", TensorProto.FLOAT, [1]))


def two_outputs(made):
    made.graph.node.append(helper.make_node("Relu", ["out"], ["aux"]))
    made.graph.output.append(helper.make_tensor_value_info("aux", TensorProto.FLOAT, None))


def no_input(made):
    del made.graph.input[:]


@pytest.mark.parametrize(
    ("change", "words"),
    [(two_inputs, "2 inputs: `in`, `sigma`"), (two_outputs, "2 outputs: `out`, `aux`"), (no_input, "0 inputs: none")],
)
def test_one_input_and_one_output(change, words):
    made = model()
    change(made)
    with pytest.raises(UserError, match=f"{PATH}`: {words}.*Expected one .*extract_model"):
        clean_graph(made, PATH)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": TensorProto.UINT8}, "input `in` is uint8. Expected float"),
        ({"kind": TensorProto.DOUBLE}, "input `in` is double. Expected float"),
        ({"shape": (3, 8, 8)}, r"input `in` has 3 axes. Expected 4: \(N, C, H, W\)"),
        ({"out": (1, 10)}, "output `out` has 2 axes"),
        ({"shape": (1, 224, 224, 3)}, r"\(1, 224, 224, 3\): colours last, NHWC. .*--inputs-as-nchw"),
        ({"shape": (None, None, None, 3)}, r"\(\?, \?, \?, 3\): colours last, NHWC"),
        ({"shape": ("N", "h", "w", 1)}, "colours last, NHWC"),
    ],
)
def test_ends_that_are_no_pictures(options, words):
    with pytest.raises(UserError, match=words):
        clean_graph(model(**options), PATH)


def test_a_narrow_picture_is_not_taken_for_colours_last():
    assert clean_graph(model(shape=(1, 3, 8, 3)), PATH).own_size == (8, 3)


# Whether constants may hold the size


def bound(nodes, tensors=(), size=(64, 96)):
    """What size_bound names of these nodes, between `in` and `out`, fixed to 64x96 as given."""
    x = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, *size])
    y = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, None, None, None])
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(tensors).items()]
    graph = helper.make_graph([helper.make_node(*n, **a) for n, a in nodes], "g", [x], [y], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return size_bound(clean_graph(made, PATH))


def one(operator, *more, **attributes):
    return [((operator, ["in", *more], ["out"]), attributes)]


F = np.float32
KERNEL = np.ones((3, 3, 3, 3), F)


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        (one("Conv", "w", pads=[1] * 4), {"w": KERNEL}),
        (one("Conv", "w", pads=[0, 0, 1, 1]), {"w": KERNEL}),
        (one("Conv", "w", pads=[1] * 4, strides=[2, 2]), {"w": KERNEL}),
        (one("ConvTranspose", "w", strides=[2, 2]), {"w": KERNEL}),
        (one("Relu"), {}),
        (one("PRelu", "w"), {"w": np.ones((3, 1, 1), F)}),
        (one("Clip", "a", "b"), {"a": F(0), "b": F(1)}),
        (one("Mul", "w"), {"w": np.ones((1, 3, 1, 1), F)}),
        (one("Div", "w"), {"w": F(255)}),
        (one("Concat", "in", axis=1), {}),
        (one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), {}),
        (one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4), {}),
        (one("DepthToSpace", blocksize=1), {}),
        (one("Pad", "p"), {"p": [0, 0, 1, 1, 0, 0, 1, 1]}),
        (one("Resize", "", "s", mode="linear"), {"s": np.array([1, 1, 2, 2], F)}),
        (one("Resize", "", "s"), {"s": np.array([1, 1, 1 / 3, 0.5], F)}),
    ],
)
def test_local_operators_hold_no_size(nodes, tensors):
    assert bound(nodes, tensors) == ""


@pytest.mark.parametrize(
    ("nodes", "tensors", "name"),
    [
        (one("GlobalAveragePool"), {}, "GlobalAveragePool"),
        (one("ReduceMean"), {}, "ReduceMean"),
        (one("InstanceNormalization", "a", "a"), {"a": np.ones(3, F)}, "InstanceNormalization"),
        (one("MatMul", "w"), {"w": np.ones((96, 96), F)}, "MatMul"),
        (one("Reshape", "s"), {"s": [1, 3, 96, 64]}, "Reshape"),
        (one("Add", "w"), {"w": np.ones((1, 1, 64, 96), F)}, "Add"),
        (one("Add", "w"), {"w": np.ones((1, 3, 64, 1), F)}, "Add"),
        (one("Add", "w"), {"w": np.ones(96, F)}, "Add"),
        (one("Mul", "w"), {"w": F(1 / 96)}, "Mul"),
        (one("Div", "w"), {"w": np.full((1,), 64 * 96, F)}, "Div"),
        (one("Concat", "w", axis=1), {"w": np.ones((1, 1, 64, 96), F)}, "Concat"),
        (one("Concat", "in", axis=2), {}, "Concat"),
        (one("AveragePool", kernel_shape=[64, 96]), {}, "AveragePool"),
        (one("AveragePool", kernel_shape=[32, 48], strides=[32, 48]), {}, "AveragePool"),
        (one("MaxPool", kernel_shape=[64, 96]), {}, "MaxPool"),
        (one("Pad", "p"), {"p": [0, 0, 0, 0, 0, 0, 0, 32]}, "Pad"),
        (one("Resize", "", "", "s"), {"s": [1, 3, 128, 192]}, "Resize"),
        (one("Resize", "", "s"), {"s": np.array([1, 1, 27 / 13, 2], F)}, "Resize"),
        (one("Conv", "w", pads=[0, 0, 1, 1], strides=[2, 2]), {"w": KERNEL}, "Conv"),
        (one("ConvTranspose", "w", output_shape=[66, 98]), {"w": KERNEL}, "ConvTranspose"),
        (one("Softmax", axis=3), {}, "Softmax"),
    ],
)
def test_whatever_may_hold_a_size_is_named(nodes, tensors, name):
    assert bound(nodes, tensors) == name


def test_a_size_that_is_computed_of_constants_is_found():
    """1 / 96, worked out in the graph."""
    nodes = [(("Div", ["a", "b"], ["share"]), {}), (("Add", ["in", "share"], ["out"]), {})]
    assert bound(nodes, {"a": F(1), "b": F(96)}) == "Add"


def test_a_small_pool_of_few_windows_may_be_a_share_of_the_picture():
    assert bound(one("AveragePool", kernel_shape=[3, 3], strides=[3, 3]), size=(18, 96)) == "AveragePool"
    assert bound(one("AveragePool", kernel_shape=[3, 3], strides=[3, 3]), size=(21, 96)) == ""
