"""Sentences under a table from stored runs: a plugin's place, and plans slower than torch.compile."""

from __future__ import annotations

from typing import Any

import pytest

from bench.verdicts import defects, plugin_verdicts, sentences


def quality(psnr_db: float | None, finite: bool = True) -> dict[str, Any]:
    return {"vs_same_statistics": {"psnr_db": psnr_db, "finite": finite}}


@pytest.fixture
def pair(gate_run: Any) -> Any:
    """`pair(off ms, on ms, off dB, on dB, finite)`: two runs that differ in their plugins."""

    def make(off: float, on: float, off_db: float | None = 70.0, on_db: float | None = 70.0, **more: Any) -> list[Any]:
        runs = []
        for word, ms, db in (("off", off, off_db), ("on", on, on_db)):
            case = {"engine": "tensorrt", "settings": {"plugins": word, "level": "3"}, "variant": f"tensorrt:{word}"}
            finite = more.get("finite", True) or word == "off"
            runs.append(gate_run(word, ms, case=case, quality=quality(db, finite)))
        return runs

    return make


def test_a_plugin_that_is_faster_and_right_earns_its_place(pair: Any) -> None:
    assert plugin_verdicts(pair(100.0, 50.0)) == [
        "can24 720p fp32 image, tensorrt: plugin, 2.00 times as fast with it (100 → 50 ms)"
    ]
    (line,) = plugin_verdicts(pair(50.0, 100.0))
    assert line.endswith("native, 2.00 times as fast without it (50 → 100 ms)")
    (line,) = plugin_verdicts(pair(100.0, 100.1))
    assert "not told apart" in line


def test_every_choice_of_plugins_is_compared_with_none(pair: Any) -> None:
    off, on = pair(100.0, 50.0)
    (picture,) = pair(100.0, 80.0)[1:]
    picture["case"]["settings"]["plugins"] = "picture"
    assert plugin_verdicts([off, on, picture]) == [
        "can24 720p fp32 image, tensorrt: plugin, 2.00 times as fast with it (100 → 50 ms)",
        "can24 720p fp32 image, tensorrt with plugins=picture: plugin, 1.25 times as fast with it (100 → 80 ms)",
    ]


@pytest.mark.parametrize(
    "change", [{"way": "30 fps"}, {"options": {"depth": 5}}, {"threads": 1}, {"weights_sha256": "other"}]
)
def test_what_differs_otherwise_is_no_pair(pair: Any, change: dict[str, Any]) -> None:
    off, on = pair(100.0, 50.0)
    on["case"] |= change
    assert plugin_verdicts([off, on]) == []


@pytest.mark.parametrize(
    ("off_db", "on_db", "said"),
    [
        (70.0, 60.0, "native; the plugin's output is wrong (60.0 dB against FP32, 70.0 without)"),
        (None, 50.0, "50.0 dB against FP32, inf without"),
        (70.0, 69.5, "plugin"), (None, 95.0, "plugin"), (120.0, 100.0, "plugin"), (60.0, None, "plugin"),
    ],
)  # fmt: skip
def test_correctness_comes_first(pair: Any, off_db: float | None, on_db: float | None, said: str) -> None:
    (line,) = plugin_verdicts(pair(100.0, 50.0, off_db, on_db))
    assert said in line


def test_what_is_no_number_is_wrong(pair: Any) -> None:
    (line,) = plugin_verdicts(pair(100.0, 50.0, finite=False))
    assert "native; the plugin's output is wrong (it holds what is no number)" in line


def test_the_device_s_clock_counts_where_there_is_one(pair: Any) -> None:
    off, on = pair(100.0, 100.0)
    for run, ms in ((off, 4.0), (on, 2.0)):
        run["latency_ms"]["device"] = {"compute": {"samples": [[ms] * 3] * 5}}
    (line,) = plugin_verdicts([off, on])
    assert line.endswith("plugin, 2.00 times as fast with it (4 → 2 ms)")


def test_runs_that_differ_in_more_are_no_pair(pair: Any) -> None:
    off, on = pair(100.0, 50.0)
    on["case"]["settings"]["level"] = "5"
    assert plugin_verdicts([off, on]) == []
    off, on = pair(100.0, 50.0)
    on["status"] = "failed"
    assert plugin_verdicts([off, on]) == []


def test_a_plan_that_is_slower_than_torch_compile_is_a_defect(gate_run: Any) -> None:
    def run(engine: str, ms: float, **case: Any) -> Any:
        return gate_run(engine, ms, case={"engine": engine, "variant": engine, "device": "cuda:0", **case})

    plan, slow, fast = run("tensorrt", 60.0), run("torch_compile", 90.0), run("torch_compile", 40.0)
    assert defects([plan, slow, fast]) == ["can24 720p fp32 image: tensorrt takes 1.50 times as long as torch_compile"]
    assert defects([plan, slow]) == []
    assert defects([plan, run("torch_compile", 40.0, precision="fp16")]) == []
    assert sentences([plan, fast])[0].startswith("defect: slower than torch.compile: can24")
    assert sentences([fast]) == []
