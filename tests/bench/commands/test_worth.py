"""`bench worth`: wrong use is refused before anything is made; one real run; the table from made-up figures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.commands.worth import shown

Command = Callable[..., Any]

WORDS: list[tuple[list[str], list[str]]] = [
    (["--precision", "fp32"], ["--precision fp32", "nothing in it is quantised", "int8"]),
    (["--precision", "bf16", "--engine", "openvino"], ["--precision bf16", "nothing in it is quantised"]),
    (["--precision", "int9"], ["int9", "Did you mean int8?"]),
    (["--precision", "fp8", "--engine", "onnxruntime"], ["no fp8 on cpu"]),
    (["--precision", "auto"], ["--floor"]),
    (["--floor", "40dB"], ["--floor", "only `--precision auto` searches"]),
    (["--engine", "torch_eager"], ["engine `torch_eager`", "does not tell", "onnxruntime, openvino"]),
    (["--engine", "tensorrt"], ["engine `tensorrt`", "does not tell"]),
    (["--engine", "onnxrutime"], ["Did you mean onnxruntime?"]),
    (["--engine", "onnxruntime,openvino"], ["one of each"]),
    (["--engine", "onnxruntime", "--res", "320p,480p"], ["one of each"]),
    (["--statistics", "thumbnail"], ["--statistics thumbnail", "image or frozen"]),
    (["--budget", "0"], ["--budget 0", "1 to 86400 seconds"]),
    (["--images", "absent.png"], ["absent.png"]),
    (["--calibration", "absent"], ["absent"]),
    (["--json", "nowhere/a.json"], ["--json nowhere/a.json", "folder does not exist"]),
    (["--recovery", "much"], ["--recovery", "much"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("worth", "--model", "can24", *words)
    outcome.assert_refused(*named)
    assert "prepare" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def own_file(path: Path, *operators: str) -> Path:
    """An ONNX file of these operators, one after the other, on three planes; no node has a name."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes, stored = [], []
    random = np.random.default_rng(1)
    names = ["x", *(f"t{place}" for place in range(1, len(operators))), "y"]
    for place, operator in enumerate(operators):
        more: dict[str, Any] = {"pads": [1] * 4} if operator == "Conv" else {}
        inputs = [names[place]]
        if operator == "Conv":
            inputs.append(f"w{place}")
            weight = random.normal(size=(3, 3, 3, 3)).astype(np.float32) / 5
            stored.append(numpy_helper.from_array(weight, f"w{place}"))
        nodes.append(helper.make_node(operator, inputs, [names[place + 1]], **more))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_network_without_a_layer_that_can_be_quantised_is_refused(command: Command, tmp_path: Path) -> None:
    file = own_file(tmp_path / "a.onnx", "Relu")
    outcome = command("worth", "--model", file, "--res", "64x48", "--recovery", "none")
    assert outcome.code == 2
    assert "has no layer that can be quantised" in outcome.err


@pytest.mark.parametrize("network", ["own", pytest.param("can", marks=pytest.mark.slow)])
def test_one_run_shows_every_layer_and_one_line_of_verdict(network: str, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "worth.json"
    words = ["--model", "can:depth=3:width=8", "--statistics", "frozen"]
    if network == "own":
        words = ["--model", str(own_file(tmp_path / "net.onnx", "Conv", "LeakyRelu", "Conv", "Relu", "Conv"))]
    words += ["--res", "64x48", "--engine", "onnxruntime", "--recovery", "none", "--budget", "1", "--threads", "1"]
    outcome = command("worth", *words, "--json", file)
    assert outcome.code == 0, outcome.err
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0].split()[:4] == ["layer", "fp32", "ms", "int8"]
    found = json.loads(file.read_text())
    names = [row["name"] for row in found["rows"]]
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names
    assert len(names) == 6
    assert lines[-1] == found["verdict"]
    assert found["verdict"].split(":")[0] in {"worth it", "not worth it", "not told"}
    assert found["schema"] == 1
    assert (found["engine"], found["precision"], found["width"]) == ("onnxruntime", "int8", 64)
    assert found["trained"] == (network == "own")
    assert {row["type"] for row in found["rows"] if row["mac_share"]} == {"int8"}
    assert "worth " in outcome.err


RESULT: dict[str, Any] = {
    "model": "can24", "trained": False, "statistics": "frozen", "engine": "openvino", "precision": "int8",
    "width": 64, "height": 48, "threads": 2, "verdict": "worth it: because",
    "rows": [
        {"name": "convs.0", "fp32_ms": 4.0, "ms": 1.6, "mac_share": 0.75, "alone_db": 41.26, "type": "int8"},
        {"name": "last", "fp32_ms": 1.0, "ms": None, "mac_share": 0.24, "alone_db": None, "type": "not told"},
        {"name": "tail", "fp32_ms": 0.1, "ms": 0.2, "mac_share": 0.01, "alone_db": 60.0, "type": "int8"},
        {"name": "Q/DQ", "fp32_ms": None, "ms": 0.5, "mac_share": None, "alone_db": None, "type": None},
    ],
    "profiled_ms": {"fp32": 5.0, "int8": 2.1},
    "whole": {
        "fp32": {"ms": 4.8, "ci95": [4.7, 4.9], "samples": [4.8] * 6},
        "bf16": {"ms": 3.6, "ci95": None, "samples": [3.6] * 6},
        "int8": {"ms": 2.0, "ci95": [1.9, 2.1], "samples": [2.0] * 6},
    },
    "times_as_fast": {"fp32": {"value": 2.41, "ci95": [2.3, 2.5]}, "bf16": {"value": 1.8, "ci95": None}},
    "nodes": [{"name": f"n{i}.q", "kind": "QuantizeLinear", "ms": 0.1 * (6 - i), "place": "Q/DQ"} for i in range(6)],
    "load": {"whole": {"foreign_share": 0.02}, "profiled": {"foreign_share": 0.314}},
}  # fmt: skip
EXPECTED = """\
layer               fp32 ms int8 ms times as fast   MACs alone dB computed in
convs.0                4.00    1.60          2.50 75.0 %     41.3 int8
last                   1.00       –               24.0 %        – not told
tail                   0.10    0.20          0.50  1.0 %     60.0 int8
Q/DQ                      –    0.50
all, profiled          5.00    2.10          2.38
whole, not profiled    4.80    2.00          2.41
can24 untrained, frozen, 64x48, openvino, 2 threads
whole inferences, 6 rounds in turn, median and its 95 % interval: fp32 4.80 (4.70 to 4.90) ms, bf16 3.60 ms, int8 2.00 \
(1.90 to 2.10) ms
int8 as fast as, round by round: 2.41 (2.30 to 2.50) times fp32, 1.80 times bf16
alone dB: PSNR against FP32 on calibration pictures where that layer alone is quantised
longest of 6 Q/DQ and reformat nodes: n0.q (QuantizeLinear) 0.60 ms, n1.q (QuantizeLinear) 0.50 ms, n2.q \
(QuantizeLinear) 0.40 ms, n3.q (QuantizeLinear) 0.30 ms, n4.q (QuantizeLinear) 0.20 ms
slower in int8 than in fp32 by themselves: tail
profiled: other programs used 31 % of the processor time

worth it: because
"""


def plain(result: dict[str, Any]) -> list[str]:
    """The lines, with one space where there are several."""
    console = Console(width=240, file=io.StringIO(), record=True)
    console.print(shown(result))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_the_table_is_this_text() -> None:
    assert plain(RESULT) == [" ".join(line.split()) for line in EXPECTED.splitlines()]


def test_a_quiet_machine_and_layers_that_all_gain_need_no_words() -> None:
    rows = [row for row in RESULT["rows"] if row["name"] != "tail"]
    text = "\n".join(plain({**RESULT, "rows": rows, "nodes": [], "load": {"whole": {"foreign_share": None}}}))
    for word in ("slower", "other programs", "longest of"):
        assert word not in text
