"""A graph on pictures gives the bytes that colour.py gives around the same network, for every way in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reference_models
from export.network import PICTURE, RESULT
from export.picture_graph import check_can_take_pictures, picture_graph, picture_network
from reference_models.colour import picture_from_tensor, tensor_from_picture
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

RGB = replace(reference_models.get("srgan_x4"), upscale=1, output_range=(0.0, 1.0))
KINDS: dict[str, ModelSpec] = {
    "rgb": RGB,
    "bgr, truncated": reference_models.get("can24"),
    "another range": replace(RGB, output_range=(-1.0, 1.0)),
    "constant planes": replace(RGB, constant_planes=(0.25, 0.0, 1.0), input_planes=6),
    "padded": replace(RGB, size_multiple=4, min_size=12),
    "rgb, enlarged first": replace(RGB, pre_upscale=3),
    "luma": replace(reference_models.get("vdsr"), pre_upscale=1),
    "luma, enlarged first by 2": replace(reference_models.get("vdsr"), pre_upscale=2),
    "luma, enlarged by 3": reference_models.get("espcn_x3"),
    "luma, enlarged by 4": replace(reference_models.get("espcn_x4"), rounding="truncate"),
    "classes": replace(RGB, output="classes", output_planes=21),
}


def write_network(path: Path, spec: ModelSpec) -> Path:
    """One 3x3 convolution of random weights, then a PixelShuffle."""
    from onnx import TensorProto, helper, numpy_helper, save

    random, scale = np.random.default_rng(4), spec.upscale
    shape = (spec.output_planes * scale**2, spec.input_planes, 3, 3)
    weights = random.normal(0, 0.6, shape).astype(np.float32)
    weights[:, :, 1, 1] += 0.3
    nodes = [helper.make_node("Conv", ["x", "w"], ["c" if scale > 1 else "y"], pads=[1, 1, 1, 1])]
    if scale > 1:
        nodes.append(helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=scale, mode="CRD"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, planes, f"{name}h", f"{name}w"])
        for name, planes in (("x", spec.input_planes), ("y", spec.output_planes))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def session(content: object) -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_colour_py(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    path = write_network(tmp_path / "net.onnx", spec)
    inner, whole = session(str(path)), session(picture_graph(path, spec).SerializeToString())
    for height, width in ((33, 47), (1, 1), (2, 3), (12, 64)):
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        y = inner.run(["y"], {"x": tensor_from_picture(picture, spec)})[0]  # type: ignore[attr-defined]
        wanted = picture_from_tensor(y, spec, picture)
        got = whole.run([RESULT], {PICTURE: picture})[0]  # type: ignore[attr-defined]
        assert (got.shape, got.dtype) == (wanted.shape, np.uint8)
        np.testing.assert_array_equal(got, wanted, err_msg=f"{height}x{width}")
        assert height < 12 or np.unique(got).size > 20 or spec.output == "classes"


@pytest.mark.parametrize("kind", KINDS)
def test_without_float64_a_value_is_off_by_one_at_most_and_hardly_ever(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    path = write_network(tmp_path / "net.onnx", spec)
    model = picture_graph(path, spec, exact=False)
    assert not any(t.data_type == 11 for t in model.graph.initializer)  # DOUBLE
    picture = np.random.default_rng(1).integers(0, 256, (33, 470, 3), np.uint8)
    whole, exact = (session(m.SerializeToString()) for m in (model, picture_graph(path, spec)))
    got, wanted = (s.run([RESULT], {PICTURE: picture})[0] for s in (whole, exact))  # type: ignore[attr-defined]
    apart = np.abs(got.astype(int) - wanted)
    assert (apart > 0).mean() < 1e-3
    assert apart.max() <= 1 or spec.output == "classes"


@pytest.mark.parametrize("exact", [True, False])
def test_pictures_are_bytes_at_the_very_ends_alone(exact: bool, tmp_path: Path) -> None:
    """TensorRT takes uint8 nowhere else."""
    for kind, spec in KINDS.items():
        graph = picture_graph(write_network(tmp_path / f"{len(kind)}.onnx", spec), spec, exact).graph
        readers = {node.op_type for node in graph.node if PICTURE in node.input}
        writers = [node.op_type for node in graph.node if RESULT in node.output]
        to_bytes = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == 2]
        assert readers <= {"Cast", "Shape"}, kind
        assert writers == ["Cast"], kind
        assert len(to_bytes) == 1, kind


def test_a_network_on_pictures_is_made_once_and_refuses_what_has_no_graph(networks, cache) -> None:
    spec = reference_models.get("can24")
    made = [picture_network(networks["frozen"], spec, cache, exact) for exact in (True, False, True)]
    assert (made[0], made[0].main.ends) == (made[2], ("picture", "result"))
    assert made[0].main.onnx_path != made[1].main.onnx_path
    assert (made[0].main.planes, made[0].main.takes_pictures, networks["frozen"].main.takes_pictures) == (
        3,
        True,
        False,
    )
    seen = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    y = session(networks["frozen"].main.onnx_path).run(["y"], {"x": tensor_from_picture(seen, spec)})[0]
    got = session(made[0].main.onnx_path).run([RESULT], {PICTURE: seen})[0]
    np.testing.assert_array_equal(got, picture_from_tensor(y, spec, seen))
    with pytest.raises(UserError, match="thumbnail"):
        picture_network(networks["thumbnail"], spec, cache)


@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_rtx_builds_it(kind: str, tmp_path: Path) -> None:
    import engines
    from engines.trt.builder import BuildRequest, Profile, build_plan

    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    spec = KINDS[kind]
    path = tmp_path / "picture.onnx"
    path.write_bytes(picture_graph(write_network(tmp_path / "net.onnx", spec), spec, exact=False).SerializeToString())
    sizes = Profile((21, 30), (33, 47), (40, 64))
    request = BuildRequest(str(path), "ab", "fp32", (sizes,), engine.complete_settings({}))
    facts = build_plan(engine.api, request, lambda phase, share: None).facts
    assert facts["inputs"] == [{"name": PICTURE, "dtype": "uint8", "shape": [-1, -1, 3]}]
    assert [(end["name"], end["dtype"]) for end in facts["outputs"]] == [(RESULT, "uint8")]


def test_truncating_and_rounding_are_not_the_same_graph(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    made = []
    for rounding in ("truncate", "nearest"):
        spec = replace(RGB, rounding=rounding)
        whole = session(picture_graph(write_network(tmp_path / "net.onnx", spec), spec).SerializeToString())
        made.append(whole.run([RESULT], {PICTURE: picture})[0])  # type: ignore[attr-defined]
    assert (made[0] != made[1]).any()


@pytest.mark.parametrize("name", ["colorization", "pixel_vae"])
def test_what_is_not_written_as_a_graph_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UserError, match=r"L\*a\*b\*|only the size") as error:
        check_can_take_pictures(reference_models.get(name))
    assert "engines.load" in error.value.todo
