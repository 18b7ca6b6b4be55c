"""Plugin nodes where there is no plugin: the function in the same file gives the same, in every precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.inliner
import pytest

import engines
from engines.plugins import masked
from engines.plugins.names import (
    NAMESPACE,
    PIXEL_DCL,
    PIXEL_DCL_INT8,
    PIXEL_DCL_OF_INT8,
    PIXEL_INTERLEAVE,
    PIXEL_INTERLEAVE_INT8,
    PIXEL_INTERLEAVE_OF_INT8,
    PIXEL_SHUFFLE,
    TAIL_ATTRIBUTES,
    TAILS,
    Tail,
)
from engines.plugins.nodes import use_plugins
from engines.plugins.pixel_shuffle import PixelShuffleTail


def run(model, x, plain=False):
    """plain: node by node as the graph says, without ONNX Runtime's own idea of pairs of Q/DQ and of halves."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def run_picture(model, x):
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def exported(module, planes, path):
    """The model as our exporter writes it."""
    import torch

    torch.onnx.export(
        module.eval(), (torch.rand(1, planes, 8, 10),), str(path), dynamo=True, opset_version=20, verbose=False,
        input_names=["x"], output_names=["y"], external_data=False,
        dynamic_shapes=({2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)},),
    )  # fmt: skip
    return onnx.load(path)


@pytest.fixture(scope="session")
def pixel_shuffles():
    """r → module, and the model of it with plugin nodes."""
    import torch
    from onnx import helper, numpy_helper

    def make(r):
        torch.manual_seed(r)
        convs = [torch.nn.Conv2d(3, 3 * r * r, 3, padding=1), torch.nn.Conv2d(3, 3, 3, padding=1)]
        stored = [
            numpy_helper.from_array(tensor.detach().numpy(), f"{kind}{number}")
            for number, conv in enumerate(convs)
            for kind, tensor in (("w", conv.weight), ("b", conv.bias))
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w0", "b0"], ["c"], name="first", pads=[1] * 4),
            helper.make_node("DepthToSpace", ["c"], ["s"], name="shuffle", blocksize=r, mode="CRD"),
            helper.make_node("Conv", ["s", "w1", "b1"], ["y"], name="last", pads=[1] * 4),
        ]
        ends = [helper.make_tensor_value_info(n, 1, [1, 3, f"{n}h", f"{n}w"]) for n in "xy"]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert use_plugins(model) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]
        return torch.nn.Sequential(convs[0], torch.nn.PixelShuffle(r), convs[1]), model

    return {r: make(r) for r in (2, 3, 4)}


# Followers: what stands behind a shuffle goes into its node.


class Chain:
    """A graph that is written node by node: `x` → Conv `c` → DepthToSpace, r = 2 → whatever is added → the last one.

    Every plane has a bias of its own, so that an error in the order of channels shows.
    """

    def __init__(self, dtype=np.float32, convolved=True, planes=12):
        from onnx import helper, numpy_helper

        rng = np.random.default_rng(0)
        self.dtype, self.stored, self.nodes = dtype, [], []
        weights = {"w": rng.standard_normal((planes, 3, 3, 3)) / 4, "b": rng.standard_normal(planes)}
        self.stored += [numpy_helper.from_array(v.astype(dtype), n) for n, v in weights.items()]
        self.last, self._helper = "x", helper
        if convolved:
            self("Conv", "w", "b", pads=[1] * 4)

    def __call__(self, operator, *inputs, **attributes):
        from onnx import numpy_helper

        names = []
        for value in inputs:
            names.append(value if isinstance(value, str) else f"k{len(self.stored)}")
            if not isinstance(value, str):
                stored = np.asarray(value, self.dtype if isinstance(value, float) else None)
                self.stored.append(numpy_helper.from_array(stored, names[-1]))
        name = f"t{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operator, [self.last, *names], [name], f"n{name}", **attributes))
        self.last = name
        return self

    def shuffled(self):
        return self("DepthToSpace", blocksize=2, mode="CRD")

    def quantised(self, step=0.02):
        zero = np.zeros((), np.int8)
        return self("QuantizeLinear", step, zero)("DequantizeLinear", step, zero)

    def model(self, kind=None, planes=3, rank=4):
        from onnx import helper

        float_kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        shapes = [("x", float_kind, [1, planes, "H", "W"]), (self.last, kind or float_kind, [None] * rank)]
        ends = [helper.make_tensor_value_info(*shape) for shape in shapes]
        graph = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.stored)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(made, full_check=True)
        return made


def used(model, wanted, allowed=1e-6, planes=3, pictures=True):
    """The model with plugin nodes: of these operators, in this order, and what it computes stays."""
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    use_plugins(changed, pictures=pictures)
    onnx.checker.check_model(changed, full_check=True)
    assert [n.op_type for n in changed.graph.node] == wanted
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    x = (np.random.default_rng(3).random((1, planes, 7, 9)) * 3 - 1.5).astype(kind)
    before, after = run(model, x, plain=True), run(changed, x, plain=True)
    assert before.dtype == after.dtype
    assert before.shape == after.shape
    off = np.abs(after.astype(np.float64) - before.astype(np.float64))
    assert off.max() <= allowed, off.max()
    return changed


def told(model, name):
    node = next(n for n in model.graph.node if n.op_type == name)
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


TAIL, TANH, INT8 = Tail("float").name, Tail("float", tanh=True).name, Tail("int8").name
SLOPES = np.full((3, 1, 1), 0.25, np.float32)
FLOATS = {
    "relu": [("Relu",)], "leaky": [("LeakyRelu",)], "prelu": [("PRelu", SLOPES)], "tanh": [("Tanh",)],
    "clip": [("Clip", -0.5, 0.25)], "relu, then clip": [("Relu",), ("Clip", "", 0.25)],
    "clip, then relu": [("Clip", -0.5, 0.25), ("Relu",)], "add": [("Add", SLOPES)], "one": [("Add", 0.5), ("Relu",)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", FLOATS)
def test_bias_activation_and_clip_become_one_node(name, dtype):
    chain = Chain(dtype).shuffled()
    for operator, *inputs in FLOATS[name]:
        chain(operator, *(v.astype(dtype) if isinstance(v, np.ndarray) else v for v in inputs))
    allowed = 1e-6 if dtype is np.float32 else 4e-3
    changed = used(chain.model(), ["Conv", TANH if name == "tanh" else TAIL], allowed)
    # fp32: the convolution's own bias goes into the tail, except where another is there already.
    moved = dtype is np.float32 and name not in {"add", "one"}
    assert len(changed.graph.node[0].input) == (2 if moved else 3)
    bias = changed.graph.node[1].input[1]
    stored = next(t for t in changed.graph.initializer if t.name == bias)
    assert onnx.numpy_helper.to_array(stored).size == (12 if moved or name in {"add", "one"} else 1)
    assert (bias == "b") == moved


def by_the_kernel(changed, x):
    """What the plugin computes in place of the function, from the one node that asks for it."""
    import torch

    (node,) = (n for n in changed.graph.node if n.domain == NAMESPACE)
    made = next(t for t in TAILS.values() if t.name == node.op_type)
    words = told(changed, node.op_type)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in changed.graph.initializer}[node.input[1]]
    kernel = PixelShuffleTail.of_node(made, [words[name] for name in TAIL_ATTRIBUTES], len(stored))
    front = onnx.ModelProto.FromString(changed.SerializeToString())
    del front.graph.output[:]
    front.graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], 1, [None] * 4))
    bias = torch.from_numpy(stored.copy()) if kernel.bias else None
    return kernel.reference(torch.from_numpy(run(front, x, plain=True)), bias).numpy()


@pytest.mark.parametrize("planes", [12, 4])
@pytest.mark.parametrize("added", [0.5, np.full((1, 1, 1, 1), 0.5, np.float32)], ids=["scalar", "one element"])
def test_a_bias_of_one_element_is_added_by_the_kernel_too(planes, added):
    """Which takes one element for none."""
    chain = Chain(planes=planes).shuffled()("Add", added)("Clip", 0.0, 1.0)
    model = chain.model()
    changed, x = used(model, ["Conv", TAIL]), picture()
    assert np.abs(by_the_kernel(changed, x) - run(model, x, plain=True)).max() < 1e-6


def test_a_bias_of_a_shuffle_of_unknown_planes_stays():
    model = Chain().shuffled()("Add", 0.5)("Relu").model()
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["w"], ["w2"]))
    model.graph.node[1].input[1] = "w2"
    used(model, ["Neg", "Conv", PIXEL_SHUFFLE, "Add", "Relu"])


def test_a_shuffle_by_one_which_moves_nothing_stays():
    model = Chain().shuffled()("Add", 0.5)("Relu").model()
    next(a for a in model.graph.node[1].attribute if a.name == "blocksize").i = 1
    used(model, ["Conv", "DepthToSpace", "Add", "Relu"])


def test_a_bias_that_others_read_or_that_is_computed_stays():
    chain = Chain().shuffled()("Relu")
    chain.nodes.append(onnx.helper.make_node("Identity", ["t0"], ["other"]))
    model = chain.model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", 1, [None] * 4))
    changed = used(model, ["Conv", TAIL, "Identity"])
    assert len(changed.graph.node[0].input) == 3
    model = Chain().shuffled()("Relu").model()
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["b"], ["b2"]))
    model.graph.node[1].input[2] = "b2"
    assert len(used(model, ["Neg", "Conv", TAIL]).graph.node[1].input) == 3


@pytest.mark.parametrize(
    ("followers", "wanted"),
    [
        ([("PRelu", np.array([0.1, 0.2, 0.3], np.float32).reshape(3, 1, 1))], [PIXEL_SHUFFLE, "PRelu"]),
        ([("Sigmoid",)], [PIXEL_SHUFFLE, "Sigmoid"]),
        ([("Clip", -0.5, 0.25), ("Tanh",)], [TAIL, "Tanh"]),
        ([("Tanh",), ("LeakyRelu",)], [TANH, "LeakyRelu"]),
        ([("Clip", 0.5), ("Clip", "", 0.25)], [TAIL, "Clip"]),
        ([("Add", np.ones((1, 1, 14, 18), np.float32))], [PIXEL_SHUFFLE, "Add"]),
        ([("Relu",), ("Add", 0.5)], [TAIL, "Add"]),
    ],
)
def test_what_no_tail_computes_stays_behind_it(followers, wanted):
    chain = Chain().shuffled()
    for operator, *inputs in followers:
        chain(operator, *inputs)
    used(chain.model(), ["Conv", *wanted])


def test_a_tensor_that_somebody_else_reads_ends_the_chain():
    model = Chain().shuffled()("Relu")("Clip", 0.0, 1.0).model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("t2", 1, [None] * 4))
    changed = used(model, ["Conv", TAIL, "Clip"])
    assert told(changed, TAIL)["high"] == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("activation", [("PRelu", SLOPES), ("Tanh",), ("Clip", -0.5, 0.25)])
def test_a_quantiser_goes_into_the_tail(activation, dtype):
    """The tail writes int8; rounding in fp16 between the nodes may move a value across a step's middle."""
    operator, *inputs = activation
    chain = Chain(dtype).shuffled()
    chain(operator, *(v.astype(dtype) if isinstance(v, np.ndarray) else v for v in inputs)).quantised()
    name = Tail("int8", operator == "Tanh").name
    changed = used(chain.model(), ["Conv", name, "DequantizeLinear"], 1e-6 if dtype is np.float32 else 0.0201)
    assert told(changed, name)["given"] == float(dtype(0.02))


@pytest.mark.parametrize("relu", [False, True])
def test_a_quantiser_behind_a_bare_shuffle_goes_in_front_of_it(relu):
    chain = Chain().shuffled()
    if relu:
        chain("Relu")
    chain.quantised()
    middle = ["Relu", "QuantizeLinear"] if relu else ["QuantizeLinear"]
    changed = used(chain.model(), ["Conv", *middle, PIXEL_SHUFFLE, "DequantizeLinear"], 0)
    assert len(changed.graph.node[0].input) == 3


def test_int8_in_front_of_a_shuffle_is_what_it_moves():
    wanted = ["Conv", "QuantizeLinear", PIXEL_SHUFFLE, "DequantizeLinear"]
    used(Chain().quantised().shuffled().model(), wanted, 0)
    used(Chain().quantised().shuffled().quantised().model(), wanted, 0)
    of_int8 = Tail("float", of_int8=True).name
    changed = used(Chain().quantised().shuffled()("LeakyRelu").model(), ["Conv", "QuantizeLinear", of_int8])
    assert told(changed, of_int8)["taken"] == np.float32(0.02)
    to_int8 = Tail("int8", of_int8=True).name
    chain = Chain().quantised().shuffled()("LeakyRelu").quantised(0.04)
    used(chain.model(), ["Conv", "QuantizeLinear", to_int8, "DequantizeLinear"], 1e-6)


def test_steps_that_are_not_int8_around_zero_stay():
    zero = np.array(3, np.int8)
    chain = Chain().shuffled()("LeakyRelu")("QuantizeLinear", 0.02, zero)("DequantizeLinear", 0.02, zero)
    used(chain.model(), ["Conv", TAIL, "QuantizeLinear", "DequantizeLinear"])


def test_followers_need_operators_that_old_opsets_lack():
    model = Chain().shuffled()("Relu").model()
    model.opset_import[0].version = 14
    used(model, ["Conv", PIXEL_SHUFFLE, "Relu"])


ENDS = {
    "cast, then transposed": [("Cast", 2), ("Transpose", [1, 2, 0])],
    "transposed, then cast": [("Transpose", [1, 2, 0]), ("Cast", 2)],
    "floor": [("Floor",), ("Cast", 2), ("Transpose", [1, 2, 0])],
    "batch axis back": [("Transpose", [1, 2, 0]), ("Cast", 2), ("Unsqueeze",)],
}


@pytest.mark.parametrize("rounding", [0.5, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("end", ENDS)
def test_a_picture_is_written_by_the_shuffle_itself(end, dtype, rounding):
    """As export/picture_graph.py writes it, in whichever order of its last steps."""
    chain, first = Chain(dtype).shuffled(), np.zeros(1, np.int64)
    if dtype is np.float16:
        chain("Cast", to=1)
    unit = [np.float32(v) for v in (0, 1)]
    chain("Squeeze", first)("Clip", *unit)("Mul", np.float32(255))
    if rounding:
        chain("Add", np.float32(rounding))
    for operator, *words in ENDS[end]:
        if operator == "Unsqueeze":
            chain(operator, first)
        else:
            chain(operator, **dict(zip([{"Cast": "to", "Transpose": "perm"}.get(operator)], words, strict=False)))
    whole = end == "batch axis back"
    name = Tail("pictures" if whole else "picture").name
    changed = used(chain.model(kind=2, rank=4 if whole else 3), ["Conv", name], 1)
    assert told(changed, name)["rounding"] == rounding
    model = chain.model(kind=2, rank=4 if whole else 3)
    x = (np.random.default_rng(3).random((1, 3, 20, 30)) * 2 - 1).astype(dtype)
    # A bias that is added later may cross a grey level; so may what ONNX Runtime's CPU leaves in fp32 between halves.
    other = run(changed, x, plain=True) != run(model, x, plain=True)
    assert other.mean() < (1e-3 if dtype is np.float32 else 1e-2)


def test_pictures_of_several_images_keep_their_axis():
    chain = Chain().shuffled()("Relu")("Clip", 0.0, 1.0)("Mul", 255.0)("Add", 0.5)("Transpose", perm=[0, 2, 3, 1])
    name = Tail("pictures").name
    changed = used(chain("Cast", to=2).model(kind=2), ["Conv", name], 1)
    assert told(changed, name)["slope"] == 0.0


def test_a_picture_stays_the_library_s_where_it_was_not_asked_for():
    """A plugin that gives uint8 may be refused, and with it the whole graph: the tail is a float's then."""
    chain = Chain().shuffled()("Relu")("Clip", 0.0, 1.0)("Mul", 255.0)("Add", 0.5)("Transpose", perm=[0, 2, 3, 1])
    model = chain("Cast", to=2).model(kind=2)
    used(model, ["Conv", TAIL, "Mul", "Add", "Transpose", "Cast"], 1, pictures=False)
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    assert use_plugins(plain) == [f"{NAMESPACE}::{TAIL}"]


@pytest.mark.parametrize("order", [("Floor", "Add"), ("Add", "Floor")])
def test_what_is_added_behind_a_floor_rounds_nothing(order):
    chain = Chain().shuffled()("Clip", 0.0, 1.0)("Mul", 255.0)
    for operator in order:
        chain(operator, *([0.5] if operator == "Add" else []))
    model = chain("Transpose", perm=[0, 2, 3, 1])("Cast", to=2).model(kind=2)
    apart = [TAIL, "Mul", *order, "Transpose", "Cast"]
    wanted = ["Conv", *(apart if order[0] == "Floor" else [Tail("pictures").name])]
    changed, x = used(model, wanted, 1), picture()
    assert (run(changed, x, plain=True) != run(model, x, plain=True)).mean() < 1e-3


@pytest.mark.parametrize("factor", [2, 4, 3])
def test_a_picture_that_is_cut_is_cut_in_front(factor):
    """As export/picture_graph.py cuts off what padding added: to a multiple of the picture's own size."""
    chain, ints = Chain().shuffled(), [np.array(v) for v in ([0, 0], [2, 3], [factor] * 2)]
    for operator, name, inputs in (("Shape", "size", ["x"]), ("Mul", "wanted", ["size", "by"])):
        words = {"start": 2, "end": 4} if operator == "Shape" else {}
        chain.nodes.append(onnx.helper.make_node(operator, inputs, [name], name, **words))
    chain.stored.append(onnx.numpy_helper.from_array(ints[2], "by"))
    chain("Slice", ints[0], "wanted", ints[1])("Squeeze", np.zeros(1, np.int64))("Clip", 0.0, 1.0)("Mul", 255.0)
    model = chain("Add", 0.5)("Transpose", perm=[1, 2, 0])("Cast", to=2).model(kind=2, rank=3)
    name = Tail("picture").name
    if factor == 3:  # half a pixel of what stands in front
        last = ["Slice", "Squeeze", "Clip", "Mul", "Add", "Transpose", "Cast"]
        used(model, ["Conv", PIXEL_SHUFFLE, "Shape", "Mul", *last], 1)
    else:
        used(model, ["Conv", "Shape", "Mul", "Div", "Slice", name], 1)


@pytest.mark.parametrize("change", ["not clipped", "other levels", "other axes", "half", "blue first"])
def test_what_is_no_picture_is_not_taken_for_one(change):
    dtype = np.float16 if change == "half" else np.float32
    chain = Chain(dtype).shuffled()
    if change != "not clipped":
        chain("Clip", 0.0, 1.0)
    chain("Mul", 254.0 if change == "other levels" else 255.0)
    chain("Transpose", perm=[0, 3, 2, 1] if change == "other axes" else [0, 2, 3, 1])
    if change == "blue first":
        chain("Gather", np.array([2, 1, 0]), axis=3)
    model = chain("Cast", to=2).model(kind=2)
    first = [PIXEL_SHUFFLE] if change == "not clipped" else [TAIL]
    if change == "not clipped":  # what is out of range may become any number
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        use_plugins(changed, pictures=True)
        assert [n.op_type for n in changed.graph.node] == ["Conv", *first, "Mul", "Transpose", "Cast"]
        return
    used(model, ["Conv", *first, *(n.op_type for n in model.graph.node[3:])], 1)


# Networks against torch


class Own(__import__("torch").nn.Module):
    """A network of one's own that ends in a shuffle of RGB."""

    def __init__(self):
        import torch

        super().__init__()
        torch.manual_seed(1)
        self.first, self.slope = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.PReLU()
        self.middle, self.last = torch.nn.Conv2d(16, 64, 3, padding=1), torch.nn.Conv2d(16, 27, 3, padding=1)

    def forward(self, x):
        import torch

        y = self.slope(torch.nn.functional.pixel_shuffle(self.middle(self.first(x)), 2))
        return torch.nn.functional.pixel_shuffle(self.last(y), 3).clamp(0, 1)


def test_a_network_of_one_s_own_has_no_node_left_behind_its_shuffles(tmp_path):
    module = Own()
    model = exported(module, 3, tmp_path / "net.onnx")
    assert use_plugins(model) == [f"{NAMESPACE}::{TAIL}"]
    assert [n.op_type for n in model.graph.node if n.op_type != "Constant"] == ["Conv", "Conv", TAIL, "Conv", TAIL]
    x = picture(12, 10)
    assert np.abs(run(model, x) - of_torch(module, x)).max() < 1e-5


@pytest.mark.parametrize("name", ["srgan_x4", "can24"])
def test_a_network_of_pictures_writes_them_with_its_last_shuffle(name, tmp_path):
    """In the form that export/picture_graph.py gives it today, for another range of values and another rounding."""
    import reference_models
    from export.picture_graph import PICTURE, picture_graph

    spec = replace(reference_models.get(name, {}), output=reference_models.get("srgan_x4", {}).output)
    exported(Own(), 3, tmp_path / "net.onnx")
    model = picture_graph(tmp_path / "net.onnx", spec)
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    use_plugins(changed, pictures=True)
    onnx.checker.check_model(changed, full_check=True)
    assert changed.graph.node[-1].op_type in {Tail("picture").name, Tail("pictures").name}
    assert not {"DepthToSpace", "PRelu", "Clip"} & {n.op_type for n in changed.graph.node}
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    shape = (1, 12, 10, 3)[4 - rank :]
    assert model.graph.input[0].name == PICTURE
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before, after = (run_picture(m, x) for m in (model, changed))
    assert before.shape == after.shape
    off = np.abs(before.astype(int) - after.astype(int))
    assert off.max() <= 1
    assert off.mean() < 1e-3
    assert before.std() > 5


def picture(height=13, width=11):
    return np.random.default_rng(0).random((1, 3, height, width), np.float32)


def of_torch(module, x):
    import torch

    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("r", [2, 3, 4])
def test_a_pixel_shuffle_node_is_the_function_where_there_is_no_plugin(r, pixel_shuffles):
    module, model = pixel_shuffles[r]
    onnx.checker.check_model(model, full_check=True)
    node = next(n for n in model.graph.node if n.domain == NAMESPACE)
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert told == {"r": r, "plugin_namespace": NAMESPACE.encode(), "plugin_version": b"1", "aot": 1}
    assert not any(n.op_type == "DepthToSpace" for n in model.graph.node)
    assert np.abs(run(model, picture()) - of_torch(module, picture())).max() < 1e-5


@pytest.mark.parametrize("r", [2, 3, 4])
def test_it_survives_conversion_to_float16(r, pixel_shuffles):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    module, model = pixel_shuffles[r]
    half = convert_float_to_float16(onnx.ModelProto.FromString(model.SerializeToString()))
    assert [n.op_type for n in half.graph.node].count(PIXEL_SHUFFLE) == 1
    got = run(half, picture().astype(np.float16)).astype(np.float32)
    assert 1e-6 < np.abs(got - of_torch(module, picture())).max() < 5e-3


def test_it_survives_quantization(pixel_shuffles, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        left = iter([{"x": picture()}, {"x": picture(16, 16)}])

        def get_next(self):
            return next(self.left, None)

    module, model = pixel_shuffles[3]
    onnx.save(model, tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
        reduce_range=True,  # for processors on which sums of larger products overflow
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    quantized = onnx.load(tmp_path / "int8.onnx")
    assert any(n.domain == NAMESPACE for n in quantized.graph.node)
    assert [f.name for f in quantized.functions] == [PIXEL_SHUFFLE]
    assert 1e-5 < np.abs(run(quantized, picture()) - of_torch(module, picture())).max() < 0.1


@pytest.mark.parametrize(
    ("layer", "activated"),
    [
        ("PixelDCL", True),
        pytest.param("PixelDCL", False, marks=pytest.mark.slow),
        pytest.param("IPixelDCL", True, marks=pytest.mark.slow),
        ("IPixelDCL", False),
        pytest.param("ResizedIPixelCL", True, marks=pytest.mark.slow),
        pytest.param("ResizedIPixelCL", False, marks=pytest.mark.slow),
    ],
)
def test_pixel_layers_become_one_node_each(layer, activated, tmp_path):
    import torch

    from reference_models.networks import pixel_dcn

    torch.manual_seed(0)
    module = getattr(pixel_dcn, layer)(3, 4, 3, torch.relu if activated else None)
    model = exported(module, 3, tmp_path / "net.onnx")
    assert use_plugins(model) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]
    onnx.checker.check_model(model, full_check=True)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count(PIXEL_INTERLEAVE) == 1
    assert not {"DepthToSpace", "Relu"} & set(kinds)
    x = picture(12, 10)
    assert np.abs(run(model, x) - of_torch(module, x)).max() < 1e-5


@pytest.fixture(scope="session")
def deconvolution(tmp_path_factory):
    """A PixelDCL layer and its model."""
    import torch

    from reference_models.networks.pixel_dcn import PixelDCL

    torch.manual_seed(0)
    module = PixelDCL(3, 16, 3, torch.relu)
    return module, exported(module, 3, tmp_path_factory.mktemp("dcl") / "net.onnx")


def test_a_masked_convolution_is_part_of_the_node_where_its_products_may_be_ours(deconvolution):
    module, original = deconvolution
    model = onnx.ModelProto.FromString(original.SerializeToString())
    assert use_plugins(model, ("FLOAT",)) == [f"{NAMESPACE}::{PIXEL_DCL}"]
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Conv", PIXEL_DCL]
    x = picture(12, 10)
    assert np.abs(run(model, x) - of_torch(module, x)).max() < 1e-5
    for products in ((), ("FLOAT16",)):
        other = onnx.ModelProto.FromString(original.SerializeToString())
        assert use_plugins(other, products) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]


def _with_quantiser(original, step=0.05):
    """The model with a Q/DQ pair behind its only output."""
    from onnx import helper, numpy_helper

    model = onnx.ModelProto.FromString(original.SerializeToString())
    graph, y = model.graph, original.graph.output[0].name
    values = (np.float32(step), np.int8(0))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), f"q{i}") for i, v in enumerate(values))
    for node in graph.node:
        node.output[:] = ["before" if name == y else name for name in node.output]
    graph.node.append(helper.make_node("QuantizeLinear", ["before", "q0", "q1"], ["quantised"]))
    graph.node.append(helper.make_node("DequantizeLinear", ["quantised", "q0", "q1"], [y]))
    return model


def test_a_quantiser_behind_a_deconvolution_goes_into_its_node(deconvolution):
    original, x = _with_quantiser(deconvolution[1]), picture(12, 10)
    for products, name in (((), PIXEL_INTERLEAVE_INT8), (("FLOAT",), PIXEL_DCL_INT8)):
        model = onnx.ModelProto.FromString(original.SerializeToString())
        assert use_plugins(model, products) == [f"{NAMESPACE}::{name}"]
        onnx.checker.check_model(model, full_check=True)
        assert [n.op_type for n in model.graph.node][-2:] == [name, "DequantizeLinear"]
        off = np.abs(run(model, x) - run(original, x))
        assert off.max() < 0.051
        assert (off > 1e-6).mean() < 1e-3


@pytest.mark.parametrize("behind", ["nothing", "same step", "other step"])
def test_maps_of_int8_with_one_step_are_interleaved_as_bytes(behind):
    chain = Chain(convolved=False)
    chain.quantised()
    for _ in range(3):  # x has as many planes as a map: three more readers of it are the other maps
        chain.nodes += [onnx.helper.make_node("Identity", ["t0"], [f"m{len(chain.nodes)}"])]
    maps = ["t1"]
    for i, node in enumerate(list(chain.nodes[2:])):
        chain.nodes.append(
            onnx.helper.make_node("DequantizeLinear", [node.output[0], *chain.nodes[1].input[1:]], [f"d{i}"])
        )
        maps.append(f"d{i}")
    order = np.arange(12).reshape(4, 3).T.ravel()
    chain("Concat", *maps[1:], axis=1)
    chain.nodes[-1].input[:] = maps
    chain("Gather", order, axis=1).shuffled()("Relu")
    if behind != "nothing":
        chain.quantised(0.02 if behind == "same step" else 0.03)
    model = chain.model()
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    assert use_plugins(changed) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE_OF_INT8}"]
    onnx.checker.check_model(changed, full_check=True)
    tail = {"nothing": [], "same step": [], "other step": ["QuantizeLinear", "DequantizeLinear"]}[behind]
    kinds = [n.op_type for n in changed.graph.node]
    assert kinds[kinds.index(PIXEL_INTERLEAVE_OF_INT8) :] == [PIXEL_INTERLEAVE_OF_INT8, "DequantizeLinear", *tail]
    assert not {"Concat", "Gather", "DepthToSpace", "Relu"} & set(kinds)
    x = picture()
    assert np.array_equal(run(changed, x, plain=True), run(model, x, plain=True))


@pytest.mark.parametrize("change", ["zeros", "weights", "read", "channels"])
def test_what_is_not_quite_the_masked_convolution_stays(change, deconvolution, monkeypatch):
    model = onnx.ModelProto.FromString(deconvolution[1].SerializeToString())
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    if change == "zeros":
        next(a for a in convs[2].attribute if a.name == "pads").ints[:] = [0, 1, 0, 0]
    elif change == "weights":
        convs[4].input[1], convs[5].input[1] = convs[5].input[1], convs[4].input[1]
    elif change == "read":
        model.graph.output.append(onnx.helper.make_tensor_value_info(convs[3].output[0], 1, None))
    else:
        monkeypatch.setattr(masked, "LEAST_CHANNELS", 17)
    assert use_plugins(model, ("FLOAT",)) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]


# Graphs of other precisions, as the exporter makes them


@pytest.fixture(scope="session")
def lowered(cache):
    """`lowered(name, options, precision)`: the model in this precision and its spec."""
    import reference_models
    from export.precision import LoweringRequest, lowered_network
    from export.recipe import Recipe
    from export.to_onnx import ExportRequest, export_network

    def make(name, options, precision):
        spec = reference_models.get(name, options)
        network = export_network(ExportRequest(spec, None, None), cache)
        pictures = (np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8),)
        request = LoweringRequest(network, spec, Recipe(precision, recovery="none"), pictures)
        return onnx.load(lowered_network(request, cache).main.onnx_path), spec

    return make


def _precisions():
    for name, options in (("espcn_x3", {}), ("srgan_x4", {}), ("pixel_dcn", {"depth": 2, "width": 16})):
        for precision in ("fp16", "bf16", "int8", "int8+fp16", "fp8"):
            quick = name == "espcn_x3" and precision in {"fp16", "int8+fp16"}
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, options, precision, marks=marks, id=f"{name} {precision}")


@pytest.mark.parametrize(("name", "options", "precision"), list(_precisions()))
def test_graphs_of_every_precision_take_plugins_and_stay_what_they_are(name, options, precision, lowered, tmp_path):
    """ONNX Runtime's CPU runs neither bf16 nor, at every level, fp8; TensorRT-RTX builds all of them."""
    from reference_models.colour import tensor_from_picture

    model, spec = lowered(name, options, precision)
    used = onnx.ModelProto.FromString(model.SerializeToString())
    names = use_plugins(used, ("FLOAT16", "INT8"))
    wanted = {
        "espcn_x3": PIXEL_SHUFFLE,
        "srgan_x4": INT8 if "int8" in precision else TAIL,
        "pixel_dcn": {"fp16": PIXEL_DCL, "int8": PIXEL_DCL_OF_INT8, "int8+fp16": PIXEL_DCL_OF_INT8}.get(
            precision, PIXEL_INTERLEAVE
        ),
    }[name]
    assert names == [f"{NAMESPACE}::{wanted}"]
    # SRGAN: a PReLU behind each of two shuffles, and in int8 a quantiser behind that.
    fewer = {"espcn_x3": 0, "srgan_x4": 4 if "int8" in precision else 2}.get(name)
    assert fewer is None or len(model.graph.node) - len(used.graph.node) == fewer
    onnx.checker.check_model(used, full_check=True)
    if precision in {"fp16", "int8", "int8+fp16"}:
        x = tensor_from_picture(np.random.default_rng(2).integers(0, 256, (32, 48, 3), np.uint8), spec)
        before, after = run(model, x), run(used, x)
        assert np.abs(after - before).max() < 2e-2 * max(1, np.abs(before).max())
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    from engines.trt.builder import BuildRequest, Profile, build_plan

    if name == "srgan_x4":  # its parser gives quantisers of a function that stands twice one name, and refuses that
        used = onnx.inliner.inline_local_functions(used)
    onnx.save(used, tmp_path / "net.onnx")
    size = spec.tensor_size(96, 64)
    settings = engine.complete_settings({})
    request = BuildRequest(str(tmp_path / "net.onnx"), "", precision, (Profile.of(size),), settings)
    assert len(build_plan(engine.api, request, lambda phase, share: None).plan) > 1000


def test_what_only_looks_like_it_stays():
    from onnx import helper, numpy_helper

    def model(order, mode="CRD", extra=()):
        nodes = [
            helper.make_node("Concat", ["x", "x", "x", "x"], ["m"], axis=1),
            helper.make_node("Gather", ["m", "order"], ["g"], axis=1),
            helper.make_node("DepthToSpace", ["g"], ["y"], blocksize=2, mode=mode),
        ]
        ends = [helper.make_tensor_value_info(n, 1, [1, c, "H", "W"]) for n, c in (("x", 2), ("y", 2), *extra)]
        stored = [numpy_helper.from_array(np.array(order), "order")]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    right = [0, 2, 4, 6, 1, 3, 5, 7]
    assert use_plugins(model(right)) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]
    assert use_plugins(model(right, extra=[("g", 8)])) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]  # somebody reads between
    assert use_plugins(model(list(range(8)))) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]  # another order of channels
    untouched = model(right, mode="DCR")
    before = untouched.SerializeToString()
    assert use_plugins(untouched) == []
    assert untouched.SerializeToString() == before


def test_rtx_which_has_no_plugins_builds_the_function(pixel_shuffles, tmp_path):
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    from engines.trt.builder import BuildRequest, Profile, build_plan

    onnx.save(pixel_shuffles[2][1], tmp_path / "net.onnx")
    settings = engine.complete_settings({})
    request = BuildRequest(str(tmp_path / "net.onnx"), "", "fp32", (Profile.of((32, 48)),), settings)
    assert len(build_plan(engine.api, request, lambda phase, share: None).plan) > 1000
