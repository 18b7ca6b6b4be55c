"""Reading ONNX files from anywhere: what is whole is read whole, everything else is refused in words that help."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import onnx_file
from export.onnx_file import (
    all_nodes,
    all_tensors,
    default_opset,
    fixed_shape,
    one_line,
    onnxruntime_session,
    read_onnx,
    runnable,
    session_of,
    without_content,
)
from reference_models.errors import UserError

WEIGHT = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32)


def model(nodes=None, *, opset=20, ir=10, domains=(), functions=(), shape=(1, 3, None, None)):
    x = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, None, None])
    y = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
    nodes = nodes or [helper.make_node("Conv", ["in", "w"], ["out"], pads=[1] * 4)]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(WEIGHT, "w")])
    imports = [helper.make_opsetid(d, v) for d, v in (("", opset), *domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def saved(made, path, **options):
    onnx.save(made, path, **options)
    return path


@pytest.fixture
def outside(tmp_path):
    """A file with external data, `ext.onnx` and `ext.data`."""
    return saved(model(), tmp_path / "ext.onnx", save_as_external_data=True, size_threshold=0, location="ext.data")


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_onnx(path)
    assert str(path) in caught.value.what
    assert caught.value.expected
    assert caught.value.todo
    return str(caught.value)


def test_a_plain_file_is_read_as_it_is(tmp_path):
    assert read_onnx(saved(model(), tmp_path / "m.onnx")) == model()


def test_external_data_is_taken_in(outside):
    (stored,) = read_onnx(outside).graph.initializer
    assert stored.data_location == TensorProto.DEFAULT
    assert np.array_equal(numpy_helper.to_array(stored), WEIGHT)


def test_external_data_that_is_missing_or_short(outside):
    data = outside.with_name("ext.data")
    data.write_bytes(data.read_bytes()[:50])
    assert "external data: " in refusal(outside)
    data.unlink()
    assert "external data: " in refusal(outside)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname"])
def test_external_data_outside_the_folder_is_not_read(outside, location):
    (outside.parent.parent / "secret").write_bytes(bytes(1000))
    made = onnx.load(outside, load_external_data=False)
    next(entry for entry in made.graph.initializer[0].external_data if entry.key == "location").value = location
    outside.write_bytes(made.SerializeToString())
    assert "external data: " in refusal(outside)


def test_external_data_behind_a_link_is_not_read(outside):
    data = outside.with_name("ext.data")
    data.rename(data.with_name("elsewhere"))
    os.symlink(data.with_name("elsewhere"), data)
    assert "external data: " in refusal(outside)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, this is no model" * 9, "not an ONNX file, or cut short"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not an ONNX file, or cut short"),
        (model().SerializeToString()[:200], "not an ONNX file, or cut short"),
        (b"", "ir_version"),
    ],
)
def test_what_is_no_model(tmp_path, content, words):
    (tmp_path / "m.onnx").write_bytes(content)
    assert words in refusal(tmp_path / "m.onnx")


def test_no_file_and_a_folder(tmp_path):
    assert "No such file" in refusal(tmp_path / "m.onnx")
    (tmp_path / "d.onnx").mkdir()
    assert "Is a directory" in refusal(tmp_path / "d.onnx")


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = model().SerializeToString()
    for end in range(0, len(whole), 7):
        (tmp_path / "m.onnx").write_bytes(whole[:end])
        refusal(tmp_path / "m.onnx")


def test_custom_operators_are_named(tmp_path):
    body = helper.make_graph([helper.make_node("Inner", ["in"], ["e"], domain="their.ops")], "b", [], [])
    nodes = [
        helper.make_node("Outer", ["in"], ["out"], domain="com.microsoft"),
        helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=body),
    ]
    path = saved(model(nodes, domains=[("com.microsoft", 1), ("their.ops", 1)]), tmp_path / "m.onnx")
    assert "not ONNX's own: com.microsoft::Outer, their.ops::Inner." in refusal(path)


def test_an_operator_that_does_not_exist_is_named(tmp_path):
    assert "Fooo" in refusal(saved(model([helper.make_node("Fooo", ["in"], ["out"])]), tmp_path / "m.onnx"))


def test_a_format_newer_than_the_libraries(tmp_path):
    words = refusal(saved(model(ir=99), tmp_path / "m.onnx"))
    assert f"IR version is 99. Expected at most {onnx.IR_VERSION}" in words


def test_the_runtime_s_own_limit_is_quoted(tmp_path):
    with pytest.raises(UserError, match=r"m\.onnx`: .* till opset \d+\. Expected .*an older opset"):
        runnable(model(opset=99), tmp_path / "m.onnx")


def test_functions_of_the_file_are_inlined(tmp_path):
    opset = [helper.make_opsetid("", 20)]
    twice = helper.make_function(
        "their.ops", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opset
    )
    nodes = [helper.make_node("Twice", ["in"], ["out"], domain="their.ops")]
    made = read_onnx(saved(model(nodes, domains=[("their.ops", 1)], functions=[twice]), tmp_path / "m.onnx"))
    assert [node.op_type for node in made.graph.node] == ["Add"]
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 20)]
    x = np.ones((1, 3, 2, 2), np.float32)
    assert (onnxruntime_session(made).run(None, {"in": x})[0] == 2).all()


def test_two_spellings_of_the_default_domain_become_one(tmp_path):
    node = helper.make_node("Conv", ["in", "w"], ["out"], pads=[1] * 4, domain="ai.onnx")
    made = model([node])
    made.opset_import[0].domain = "ai.onnx"
    made = read_onnx(saved(made, tmp_path / "m.onnx"))
    assert {n.domain for n in made.graph.node} == {e.domain for e in made.opset_import} == {""}
    assert default_opset(made) == 20


def test_an_output_without_a_shape_gets_one(tmp_path):
    made = read_onnx(saved(model(shape=None), tmp_path / "m.onnx"))
    assert fixed_shape(made.graph.output[0]) == (None,) * 4


def test_fixed_shape_knows_only_lengths():
    info = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, "c", None, -1])
    assert fixed_shape(info) == (1, None, None, None)
    assert fixed_shape(helper.make_tensor_value_info("v", TensorProto.FLOAT, None)) is None


def test_all_nodes_sees_into_bodies():
    body = helper.make_graph([helper.make_node("Relu", ["in"], ["e"])], "b", [], [])
    made = model([helper.make_node("If", ["c"], ["out"], then_branch=body, else_branch=body)])
    assert [node.op_type for node in all_nodes(made.graph)] == ["If", "Relu", "Relu"]


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_loops_are_refused_wherever_they_stand(tmp_path, operator):
    empty = helper.make_graph([], "b", [], [])
    loop = helper.make_node(
        operator, ["trips", "", "in"], ["e"], body=empty, **({"num_scan_inputs": 1} if operator == "Scan" else {})
    )
    inside = helper.make_graph([loop], "b", [], [])
    nodes = [helper.make_node("If", ["c"], ["out"], then_branch=inside, else_branch=inside)]
    for made in (model([loop]), model(nodes)):
        words = refusal(saved(made, tmp_path / "m.onnx"))
        assert f"image-to-image networks with loops are not supported: {operator}. Expected" in words


def test_a_branch_is_no_loop(tmp_path):
    def branch(operator):
        end = helper.make_tensor_value_info("e", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["in"], ["e"])], operator, [], [end])

    always = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.asarray(True)))
    both = helper.make_node("If", ["c"], ["out"], then_branch=branch("Relu"), else_branch=branch("Tanh"))
    assert len(read_onnx(saved(model([always, both]), tmp_path / "m.onnx")).graph.node) == 2


def external(name, location, **entries):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def nested():
    """Stored tensors in the graph, in an attribute, in a branch, and in an attribute there."""
    there = helper.make_node("Constant", [], ["c"], value=external("there", "b"))
    body = helper.make_graph([there], "b", [], [], [external("inside", "a", offset=8)])
    made = model([helper.make_node("If", ["c"], ["out"], then_branch=body, else_branch=body)])
    made.graph.initializer.append(external("stated", "a", offset=4, length=32))
    return made


def test_all_tensors_sees_into_bodies_and_attributes():
    inside = ["inside", "there"]
    assert [t.name for t in all_tensors(nested().graph)] == ["w", "stated", *inside, *inside]


def test_what_external_data_will_take_is_counted_before_it_is_loaded(tmp_path, monkeypatch):
    for name, size in (("a", 40), ("b", 3 << 20)):
        (tmp_path / name).write_bytes(bytes(size))
    assert onnx_file._external_bytes(nested(), tmp_path) == 32 + 2 * (40 - 8) + 2 * (3 << 20)
    monkeypatch.setattr(onnx_file, "MAX_MIB", 6)
    assert "6 MiB. Expected less than 6 MiB, data files included" in refusal(saved(nested(), tmp_path / "m.onnx"))


def test_one_line_leaves_what_a_user_can_use():
    raw = (
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running Pad node. "
        "Name:'p' Status Message: Pad reflect:\n pre-pad (5) exceeds maximum allowed (2)"
    )
    assert one_line(raw) == "Pad reflect: pre-pad (5) exceeds maximum allowed (2)"
    assert one_line("a" * 999) == "…" + "a" * 240


# Large weights beside the message


def large(kind=np.float32):
    """A network of a large weight, a small bias, and a large constant that nothing reads."""
    random = np.random.default_rng(1)
    weight = (random.standard_normal((256, 3, 10, 10)) / 20).astype(kind)
    made = model([
        helper.make_node("Cast", ["w"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["in", "as_float", "b"], ["out"]),
    ], shape=(1, 256, None, None))  # fmt: skip
    del made.graph.initializer[:]
    bias = random.standard_normal(256).astype(np.float32)
    for name, value in (("w", weight), ("b", bias), ("unread", weight)):
        made.graph.initializer.append(numpy_helper.from_array(value, name))
    made.metadata_props.add(key="made", value="here")
    return made


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8, np.float64])
def test_a_session_of_weights_beside_the_message_computes_the_same(kind):
    made = large(kind)
    x = np.random.default_rng(2).standard_normal((1, 3, 12, 14)).astype(np.float32)
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.log_severity_level, options.graph_optimization_level = 4, level
        whole = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        beside = session_of(made, options)
        assert np.array_equal(beside.run(None, {"in": x})[0], whole.run(None, {"in": x})[0])


@pytest.mark.parametrize(
    ("kind", "beside"), [(np.float32, True), (np.float16, True), (np.int8, True), (np.float64, False)]
)
def test_large_weights_go_beside_the_message(kind, beside, monkeypatch):
    made, sent = large(kind), []
    monkeypatch.setattr(ort, "InferenceSession", lambda message, *_, **__: sent.append(len(message)))
    session_of(made, ort.SessionOptions())
    assert (sent[0] < made.ByteSize() - 70_000) is beside


def test_a_tensor_that_only_branches_name_stays_in_the_message():
    """There it is another tensor of the same name, and ONNX Runtime would look for the outer one in vain."""
    weight = np.random.default_rng(3).standard_normal((256, 256)).astype(np.float32)

    def branch(name):
        end = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node("MatMul", ["in", "w"], [f"{name}_out"])],
            name,
            [],
            [end],
            [numpy_helper.from_array(weight, "w")],
        )

    node = helper.make_node("If", ["choice"], ["out"], then_branch=branch("then"), else_branch=branch("else"))
    inputs = [
        helper.make_tensor_value_info("in", TensorProto.FLOAT, [4, 256]),
        helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
    ]
    end = helper.make_tensor_value_info("out", TensorProto.FLOAT, [4, 256])
    graph = helper.make_graph([node], "g", inputs, [end], [numpy_helper.from_array(-weight, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.random.default_rng(4).standard_normal((4, 256)).astype(np.float32)
    (y,) = onnxruntime_session(made).run(None, {"in": x, "choice": np.array(True)})
    np.testing.assert_allclose(y, x @ weight, rtol=1e-4, atol=1e-3)


def test_without_content_all_but_large_tensors_is_as_it_was():
    made = large()
    before = made.SerializeToString(deterministic=True)
    bare, moved = without_content(made)
    assert made.SerializeToString(deterministic=True) == before
    assert [tensor.name for tensor in moved] == ["w"]
    assert len(bare.SerializeToString()) < len(before) / 1.9
    for tensor in bare.graph.initializer:
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        if tensor.name == "w":
            assert not tensor.HasField("raw_data")
            tensor.raw_data = moved[0].raw_data
    assert bare.SerializeToString(deterministic=True) == before
