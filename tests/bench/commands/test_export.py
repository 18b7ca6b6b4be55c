"""`bench export`: an ONNX file that says what it is and computes what torch does, or a refusal before it is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
ENDS = {"input": "bgr: 3 planes", "output": "bgr: 3 planes, in [0, 1], truncate to uint8, ×1", "sizes": "any"}

WORDS: list[tuple[list[str], list[str]]] = [
    (["--model", "can24", "--output", "x.onnx", "--statistics", "thumbnail"], ["thumbnail", "image or frozen"]),
    (["--model", "can24", "--output", "x.onnx", "--precision", "fp17"], ["fp17", "Did you mean fp16?"]),
    (
        ["--model", "can24", "--output", "x.onnx", "--precision", "fp16", "--engine", "openvino"],
        ["--precision fp16", "engine `openvino` has none", "auto, bf16, fp32, int8"],
    ),
    (["--model", "can24", "--output", "x.onnx", "--engine", "tensort"], ["tensort", "Did you mean tensorrt?"]),
    (["--model", "can24", "--output", "x.onnx", "--precision", "auto"], ["--precision auto", "Add --floor"]),
    (["--model", "can24", "--output", "x.onnx", "--precision", "int8", "--floor", "42dB"], ["--floor"]),
    (["--model", "can24", "--output", "x.txt"], ["x.txt", "FILE.onnx"]),
    (["--model", "can24", "--output", "absent/x.onnx"], ["absent/x.onnx", "existing folder"]),
    (["--model", "can24,can32", "--output", "x.onnx"], ["can24,can32"]),
    (["--model", "can24", "--output", "x.onnx", "--option", "depth=5"], ["`can24` has no option", "no options"]),
    (["--model", "can", "--output", "x.onnx", "--option", "width=3"], ["width=3", "a whole number from 4 to 512"]),
    (["--model", "can32_multi", "--output", "x.onnx", "--operator", "x"], ["operator=x", "l0_smoothing"]),
    (["--model", "can", "--output", "x.onnx", "--option", "=3"], ["--option =3", "NAME=VALUE"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command("export", *words).assert_refused(*named)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_the_first_slow_step(
    command: Command, tmp_path: Path
) -> None:
    block = tmp_path / "file"
    block.write_text("in the way")
    for target in (tmp_path, block / "x.onnx"):
        outcome = command("export", "--model", "can24", "--output", target)
        outcome.assert_refused()
        assert "prepare" not in outcome.err
    assert block.read_text() == "in the way"


def test_export_to_a_folder_that_only_looks_writable_is_refused_before_the_first_slow_step(command: Command) -> None:
    """/proc passes every permission check of root."""
    outcome = command("export", "--model", "can24", "--output", "/proc/x.onnx")
    outcome.assert_refused("/proc/x.onnx")
    assert "prepare" not in outcome.err


def test_an_exported_file_says_what_it_is(command: Command, tmp_path: Path) -> None:
    import onnx

    target = tmp_path / "can24.onnx"
    outcome = command("export", "--model", "can24", "--output", target)
    assert outcome.code == 0
    facts = {p.key: p.value for p in onnx.load(target).metadata_props}
    assert (facts["model"], facts["statistics"]) == ("can24", "image")
    assert ENDS.items() <= facts.items()
    assert hashlib.sha256(target.read_bytes()).hexdigest() in outcome.out


def test_export_writes_a_file_that_loads_elsewhere_at_another_size(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    import onnx
    import onnxruntime
    import torch

    from reference_models import create_model

    target = tmp_path / "net.onnx"
    outcome = command("export", "--model", "can24", "--weights", weights["can24"], "--output", target)
    assert outcome.code == 0, outcome.err
    assert "can24" in outcome.out
    onnx.checker.check_model(str(target), full_check=True)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    model = create_model("can24", str(weights["can24"]))
    for height, width in ((31, 57), (1, 1)):
        x = np.random.default_rng(width).random((1, 3, height, width), dtype=np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session.run(["y"], {"x": x})[0], expected, atol=1e-3)


def test_export_says_which_file_by_its_sha256(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    outcome = command("export", "--model", "can24", "--output", target)
    assert outcome.code == 0, outcome.err
    assert hashlib.sha256(target.read_bytes()).hexdigest() in outcome.out
    assert "weights l0_smoothing" in outcome.out


def test_a_network_that_was_chosen_is_exported_and_its_file_says_so(command: Command, tmp_path: Path) -> None:
    import onnx

    target = tmp_path / "net.onnx"
    words = ("--model", "can", "--option", "depth=4", "--option", "width=6", "--option", "normalisation=none")
    outcome = command("export", *words, "--output", target)
    assert outcome.code == 0, outcome.err
    model = onnx.load(target)
    assert {p.key: p.value for p in model.metadata_props}["model"] == "can depth=4 width=6 normalisation=none"
    shapes = {i.name: tuple(i.dims) for i in model.graph.initializer}  # equal kernels are stored once
    assert [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv"] == [
        (6, 3, 3, 3), (6, 6, 3, 3), (6, 6, 3, 3), (3, 6, 1, 1),
    ]  # fmt: skip
    assert "can depth=4 width=6 normalisation=none" in outcome.out
    assert "statistics none" in outcome.out


def test_planes_and_sizes_that_the_file_takes_are_told(command: Command, tmp_path: Path) -> None:
    outcome = command("export", "--model", "espcn_x2", "--output", tmp_path / "net.onnx")
    assert outcome.code == 0, outcome.err
    assert "input x (1, 1, H, W) float32" in outcome.out
    assert "input: luma: 1 planes" in outcome.out
    assert "output: luma: 1 planes, in [0, 1], nearest to uint8, ×2" in outcome.out
    assert "sizes: any" in outcome.out


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("vdsr:scale=3", "input: luma: 1 planes, the picture enlarged ×3 (bicubic) first"),
        ("can32_multi:operator=rof", "13 planes, the last 10 constant: 0 0 0 0 0 0 1 0 0 0"),
        ("red10:planes=3", "sizes: any"),
    ],
)
def test_what_must_be_done_before_and_after_is_told(model: str, told: str, command: Command, tmp_path: Path) -> None:
    outcome = command("export", "--model", model, "--output", tmp_path / "net.onnx")
    assert outcome.code == 0, outcome.err
    assert told in outcome.out


# Other precisions

TINY = ("export", "--model", "can:depth=3:width=8", "--recovery", "none")


@pytest.fixture
def photograph(tmp_path: Path, save: Callable[..., Path]) -> Path:
    return save(tmp_path / "photograph.png", 80, 60)


def test_int8_is_in_the_file_and_it_says_so(command: Command, tmp_path: Path, photograph: Path) -> None:
    import onnx
    import onnxruntime

    target = tmp_path / "net.onnx"
    outcome = command(*TINY, "--precision", "int8", "--calibration", photograph, "--output", target)
    assert outcome.code == 0, outcome.err
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    assert {p.key: p.value for p in model.metadata_props}["precision"] == "int8"
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith(".weight")}
    assert kinds == dict.fromkeys(("convs.0.weight", "convs.1.weight", "last.weight"), onnx.TensorProto.INT8)
    assert onnx.TensorProto.UINT8 not in {t.data_type for t in model.graph.initializer}  # TensorRT wants zero at 0
    assert "int8, opset 20" in outcome.out
    assert "3 of 3 layers in int8" in outcome.out
    assert "against torch before it was lowered" in outcome.out
    assert hashlib.sha256(target.read_bytes()).hexdigest() in outcome.out
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    assert session.run(["y"], {"x": np.zeros((1, 3, 9, 14), np.float32)})[0].shape == (1, 3, 9, 14)
    assert not list(tmp_path.glob("*.json"))


def test_who_will_run_it_decides_where_pairs_stand(command: Command, tmp_path: Path, photograph: Path) -> None:
    import onnx

    pairs = {}
    for engine in ("tensorrt", "openvino", "onnxruntime"):
        target = tmp_path / f"{engine}.onnx"
        words = ("--precision", "int8", "--engine", engine, "--calibration", photograph, "--output", target)
        assert command(*TINY, *words).code == 0
        pairs[engine] = sum(node.op_type == "QuantizeLinear" for node in onnx.load(target).graph.node)
    assert pairs["tensorrt"] == pairs["openvino"] == 3
    assert pairs["onnxruntime"] > 3


def test_a_precision_that_the_engine_makes_itself_is_told(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    outcome = command(*TINY, "--precision", "bf16", "--engine", "openvino", "--output", target)
    assert outcome.code == 0, outcome.err
    assert "bf16: openvino makes it of this FP32 graph itself" in outcome.out
    assert "fp32, opset" in outcome.out


def test_what_a_search_found_is_written_beside_and_replayed_by_its_name(
    command: Command, tmp_path: Path, photograph: Path
) -> None:
    target, again = tmp_path / "net.onnx", tmp_path / "again.onnx"
    common = (*TINY, "--engine", "openvino", "--calibration", photograph)
    outcome = command(*common, "--precision", "auto", "--floor", "20dB", "--output", target)
    assert outcome.code == 0, outcome.err
    beside = tmp_path / "net.onnx.layers.json"
    assert f"{beside}: its layers; `--layers` reads it" in outcome.out
    assert "searched for 20 dB on 2 held-back pictures: 1 plans" in outcome.out
    assert command(*common, "--precision", "int8", "--layers", beside, "--output", again).code == 0
    graphs = [onnx_graph(path) for path in (target, again)]
    assert graphs[0] == graphs[1]


def onnx_graph(path: Path) -> bytes:
    import onnx

    return onnx.load(path).graph.SerializeToString(deterministic=True)


def test_what_cannot_be_made_is_wrong_use_and_leaves_nothing(
    command: Command, tmp_path: Path, photograph: Path
) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"format": "fullres layers 1", "layers": {"conv9": "fp32"}}))
    common = (*TINY, "--calibration", photograph, "--output", tmp_path / "net.onnx")
    command(*common, "--precision", "int8", "--layers", path).assert_refused(
        "no layer `conv9`", "convs.0, convs.1, last"
    )
    words = ("--precision", "auto", "--floor", "119dB", "--engine", "openvino")
    command(*common, *words).assert_refused("--floor 119dB", "a lower floor")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layers.json", "photograph.png"]
