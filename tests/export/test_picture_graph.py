"""A graph on pictures gives the bytes that colour.py gives around the same network, for every way in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reference_models
from export.picture_graph import PICTURE, RESULT, check_can_take_pictures, picture_graph
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
