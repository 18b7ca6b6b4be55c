"""The verdict by made-up figures, turns by a clock that ticks, and one real run of each placement for its structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import engines
from bench.judge import Ratio
from bench.worth import LEAST_ROUNDS, MOST_ROUNDS, WARM_UP, Facts, in_turn, runs_for, times_as_fast, verdict_of, worth
from engines.engine import LayerTime
from export.network import Graph, Network, file_sha256
from export.precision import LoweringRequest, lowered_network
from export.processor import exact_weight_bits
from export.recipe import Recipe
from reference_models import get
from reference_models.errors import UserError
from reference_models.pictures import calibration_pictures, fit_picture, write_picture

# The verdict


def facts(*fp32: float, psnr_db: float | None = 41.24, share: float = 0.336, **more: Any) -> Facts:
    """Ratio to FP32, low and high of its interval."""
    return Facts("int8", {"fp32": Ratio(fp32[0], (fp32[1], fp32[2]) if fp32[1:] else None)}, psnr_db, share, **more)


VERDICTS: list[tuple[Facts, str]] = [
    (facts(2.6, 2.5, 2.7), "worth it: 2.60 times as fast as FP32, 41.2 dB against FP32"),
    (facts(1.2, 1.1, 1.3), "worth it: 1.20 times as fast as FP32, 41.2 dB against FP32"),
    (facts(2.6, 2.5, 2.7, psnr_db=float("inf")), "worth it: 2.60 times as fast as FP32, inf dB against FP32"),
    (facts(0.9, 0.88, 0.95), "not worth it: 0.90 times as fast as FP32; Q/DQ and reformat nodes take 34 %"),
    (facts(1.05, 1.01, 1.09), "not worth it: 1.05 times as fast as FP32; Q/DQ and reformat nodes take 34 %"),
    (
        facts(0.9, 0.88, 0.95, share=0.05, in_float=("convs.0", "last")),
        "not worth it: 0.90 times as fast as FP32; Q/DQ and reformat nodes take 5 %; 2 layers stayed in float: "
        "convs.0, last",
    ),
    (
        facts(1.2, 1.05, 1.3),
        "not told: the ratio lies within the noise (1.05 to 1.30 times as fast as FP32, 1.1 would count)",
    ),
    (
        facts(1.0, 0.9, 1.1),
        "not told: the ratio lies within the noise (0.90 to 1.10 times as fast as FP32, 1.1 would count)",
    ),
    (facts(1.2), "not told: too few rounds for an interval (1.20 times as fast as FP32)"),
    (facts(2.6, 2.5, 2.7, psnr_db=30.0), "worth it: 2.60 times as fast as FP32, 30.0 dB against FP32"),
    (facts(2.6, 2.5, 2.7, psnr_db=24.0), "not worth it: 24.0 dB against FP32, below 30, at 2.60 times as fast as FP32"),
    (facts(2.6, 2.5, 2.7, psnr_db=None), "not worth it: its output is not finite"),
]


@pytest.mark.parametrize(("given", "line"), VERDICTS, ids=[line[:40] for _, line in VERDICTS])
def test_the_verdict_is_one_exact_line(given: Facts, line: str) -> None:
    assert verdict_of(given) == line


def test_int8_is_held_against_the_fastest_other_precision() -> None:
    against = {"fp32": Ratio(2.6, (2.5, 2.7)), "bf16": Ratio(0.8, (0.75, 0.85))}
    assert verdict_of(Facts("int8", against, 41.2, 0.1)) == (
        "not worth it: 0.80 times as fast as BF16 (2.60 times FP32); Q/DQ and reformat nodes take 10 %"
    )
    against["bf16"] = Ratio(1.4, (1.3, 1.5))
    assert verdict_of(Facts("int8", against, 41.2, 0.1)) == (
        "worth it: 1.40 times as fast as BF16 (2.60 times FP32), 41.2 dB against FP32"
    )
    against["bf16"] = Ratio(3.0, (2.9, 3.1))
    assert verdict_of(Facts("int8", against, 41.2, 0.1)).startswith("worth it: 2.60 times as fast as FP32, ")


# Whole inferences in turn


class Clock:
    """Seconds; steps move it on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, *seconds: float) -> Callable[[], None]:
        """Takes these seconds in turn, the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_slow_steps_are_timed_once_a_round_in_turn() -> None:
    clock = Clock()
    samples = in_turn([clock.step("a", 4.0, 2.0), clock.step("b", 1.0)], 0.0, clock)
    assert samples == [[2000.0] * LEAST_ROUNDS, [1000.0] * LEAST_ROUNDS]
    assert clock.log == ["a"] * WARM_UP + ["b"] * WARM_UP + ["a", "b"] * LEAST_ROUNDS


def test_short_steps_run_once_untimed_before_each_sample() -> None:
    clock = Clock()
    step = clock.step("a", *[0.0078125, 0.015625] * 50)
    (samples,) = in_turn([step], 0.0, clock)
    assert samples == [15.625] * LEAST_ROUNDS
    assert len(clock.log) == WARM_UP + 2 * LEAST_ROUNDS


def test_rounds_end_with_the_budget_or_when_there_are_enough() -> None:
    clock = Clock()
    assert len(in_turn([clock.step("a", 0.5)], 10.0, clock)[0]) == 18  # and two to warm up
    assert len(in_turn([clock.step("a", 0.5)], 1e9, clock)[0]) == MOST_ROUNDS


def test_the_ratio_is_taken_round_by_round_so_that_drift_of_both_does_not_count() -> None:
    drift = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    ratio = times_as_fast([3 * d for d in drift], drift)
    assert (ratio.value, ratio.interval) == (3.0, (3.0, 3.0))
    assert times_as_fast([2.0, 4.0], [1.0, 1.0]) == Ratio(3.0, None)


def test_a_ratio_is_that_of_the_medians_beside_it_and_its_interval_holds_it() -> None:
    """Rounds say 2 times, all but a few of them; the medians are 10 and 7, since both sides have two modes."""
    rounds = [(10.0, 5.0)] * 8 + [(14.0, 7.0)] * 7 + [(10.0, 9.0)] * 3 + [(14.0, 9.0)] * 2
    other, own = zip(*rounds, strict=True)
    assert times_as_fast(other, own) == Ratio(10 / 7, (10 / 7, 2.0))


@pytest.mark.parametrize(
    ("ms", "runs"), [(0.0001, 300), (1.0, 300), (10.0, 30), (30.0, 10), (300.0, 10), (400.0, 7), (1000.0, 3), (9e4, 3)]
)
def test_ten_profiled_runs_or_three_seconds_and_many_where_they_cost_nothing(ms: float, runs: int) -> None:
    assert runs_for(ms) == runs


# The job

LAYERS = ("first", "middle", "last")
SIZE = (240, 200)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Three convolutions with LeakyReLU between them; nodes have no names, as in files of other exporters."""
    random = np.random.default_rng(3)
    shapes = {"first": (16, 3, 3, 3), "middle": (16, 16, 3, 3), "last": (3, 16, 1, 1)}
    weights = {k: (random.normal(size=s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for k, s in shapes.items()}
    nodes, data = [], "x"
    for name in LAYERS:
        out, pad = "y" if name == "last" else f"{name}.out", shapes[name][2] // 2
        nodes.append(helper.make_node("Conv", [data, f"{name}.weight"], [out], pads=[pad] * 4))
        if name != "last":
            data = f"{name}.leaky"
            nodes.append(helper.make_node("LeakyRelu", [out], [data], alpha=0.2))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in "xy"]
    initializers = [numpy_helper.from_array(value, f"{name}.weight") for name, value in weights.items()]
    graph = helper.make_graph(nodes, "toy", ends[:1], ends[1:], initializers)
    path = tmp_path_factory.mktemp("toy") / "toy.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Network("toy", None, Graph(str(path), file_sha256(path), "", "", {}, "onnx"), None, (), 20)


@pytest.fixture
def result(toy: Network, cache: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`result(engine, placement, kept)` of the toy in int8."""
    picture = fit_picture(calibration_pictures()[0][1], 64, 56)
    write_picture(tmp_path / "calibration.png", picture)

    def call(engine: str, placement: Any, kept: tuple[str, ...] = ()) -> dict[str, Any]:
        bits = exact_weight_bits()
        recipe = Recipe("int8", placement, True, "minmax", "none", kept, weight_bits=bits)
        low = lowered_network(LoweringRequest(toy, get("can24"), recipe, [picture]), cache)
        job = {
            "engine": engine, "device": "cpu", "threads": 1, "settings": {}, "precision": "int8",
            "networks": [toy.to_json(), low.to_json()], "spec": get("can24").to_json(), "picture": None,
            "calibration": str(tmp_path), "size": SIZE, "output_size": SIZE, "budget_s": 0.1,
        }  # fmt: skip
        return worth(job, lambda *words, **more: None)

    return call


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["rows"]}


@pytest.mark.parametrize(("engine", "placement"), [("onnxruntime", "integer"), ("openvino", "inputs")])
def test_every_layer_has_both_times_its_share_and_its_loss(
    engine: str, placement: str, result: Callable[..., dict[str, Any]]
) -> None:
    if reason := engines.get(engine).missing():
        pytest.skip(reason)
    found = result(engine, placement)
    rows = by_name(found)
    assert list(rows) == [*LAYERS, "Q/DQ", "reformat", "other"]
    macs = {"first": 9 * 3 * 16, "middle": 9 * 16 * 16, "last": 16 * 3}  # per pixel
    for name in LAYERS:
        assert rows[name]["fp32_ms"] is not None
        assert rows[name]["ms"] is not None
        assert rows[name]["mac_share"] == pytest.approx(macs[name] / sum(macs.values()))
        assert rows[name]["type"] == "int8"
        assert 15 < rows[name]["alone_db"] < 80
    # What one layer costs is more than all of them leave: errors of independent layers add up.
    power = sum(10 ** (-rows[name]["alone_db"] / 10) for name in LAYERS)
    assert found["psnr_db"] == pytest.approx(-10 * np.log10(power), abs=8)
    assert rows["Q/DQ"]["fp32_ms"] is None
    assert rows["Q/DQ"]["ms"] is not None
    for precision, column in (("fp32", "fp32_ms"), ("int8", "ms")):
        assert sum(row[column] or 0 for row in rows.values()) == pytest.approx(found["profiled_ms"][precision])
    eaten = sum(rows[place]["ms"] or 0 for place in ("Q/DQ", "reformat"))
    assert sum(node["ms"] for node in found["nodes"]) == pytest.approx(eaten)
    assert [node["ms"] for node in found["nodes"]] == sorted((n["ms"] for n in found["nodes"]), reverse=True)
    samples = {len(side["samples"]) for side in found["whole"].values()}
    assert len(samples) == 1
    assert samples.pop() >= LEAST_ROUNDS
    assert set(found["times_as_fast"]) == set(found["whole"]) - {"int8"}
    assert found["in_float"] == []
    assert [found["load"][phase]["wall_s"] > 0 for phase in ("whole", "profiled")] == [True, True]


def test_pairs_on_inputs_alone_leave_onnxruntime_in_float_and_that_is_said(
    result: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its structure is real; its times are made up, as they were measured at full size: more than FP32 takes."""
    engine = engines.get("onnxruntime")
    real = type(engine).layer_times

    def timed(self: Any, graph: Any, options: Any, x: Any, runs: int) -> Any:
        told = real(self, graph, options, x, runs)
        assert told is not None
        return [LayerTime(n.name, n.kind, 2.0 if n.kind in {"FusedConv", "Conv"} else 0.25) for n in told]

    def turns(steps: Any, budget_s: float) -> list[list[float]]:
        for step in steps:
            step()
        return [[6.0] * 6, [8.0] * 6]

    monkeypatch.setattr(type(engine), "layer_times", timed)
    monkeypatch.setattr("bench.worth.in_turn", turns)
    found = result("onnxruntime", "inputs")
    rows = by_name(found)
    assert {node["place"] for node in found["nodes"]} == {"Q/DQ"}
    assert {"x.q", "x.dq", "first.leaky.q", "middle.leaky.dq", "last.weight.dq"} <= {n["name"] for n in found["nodes"]}
    assert rows["Q/DQ"]["ms"] == 0.25 * len(found["nodes"]) == 2.25
    assert [rows[name]["ms"] for name in LAYERS] == [2.0] * 3
    assert [rows[name]["type"] for name in LAYERS] == ["fp32"] * 3
    assert found["verdict"] == (
        "not worth it: 0.75 times as fast as FP32; Q/DQ and reformat nodes take 27 %; 3 layers stayed in float: "
        "first, middle, last"
    )


def test_layers_that_are_kept_in_float_are_no_fallback_and_their_loss_is_told_too(
    result: Callable[..., dict[str, Any]],
) -> None:
    found = result("onnxruntime", "integer", ("middle",))
    rows = by_name(found)
    assert [rows[name]["type"] for name in LAYERS] == ["int8", "fp32", "int8"]
    assert found["in_float"] == []
    assert all(rows[name]["alone_db"] is not None for name in LAYERS)


def test_an_engine_that_does_not_tell_is_refused(
    result: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engines.get("onnxruntime")), "layer_times", lambda *words: None)
    with pytest.raises(UserError, match="engine `onnxruntime`: it does not tell what its layers take"):
        result("onnxruntime", "integer")
