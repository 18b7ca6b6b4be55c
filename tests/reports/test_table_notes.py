"""The lines below the table: each fact once, none lost, and nothing said that does not apply."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from rich.text import Text

from reports.table_notes import NUMBER, notes, overlapping, unstable

Make = Callable[..., dict[str, Any]]


def said(runs: list[dict[str, Any]]) -> list[str]:
    return [Text.from_markup(line, emoji=False).plain for line in notes(runs)]


def starting(runs: list[dict[str, Any]], words: str) -> list[str]:
    return [line for line in said(runs) if line.startswith(words)]


# What is not told apart


def test_groups_of_intervals_are_the_largest_in_which_all_overlap() -> None:
    assert overlapping([(0, 2), (1, 3), (2.5, 4)]) == [[0, 1], [1, 2]]  # the first and the last do not
    assert overlapping([(0, 9), (1, 2), (3, 4)]) == [[0, 1], [0, 2]]
    assert overlapping([(5, 6), (0, 9), (5.5, 7)]) == [[0, 1, 2]]
    assert overlapping([(0, 1), (1, 2)]) == [[0, 1]]  # a common end is common
    assert overlapping([(0, 1), (2, 3)]) == overlapping([(0, 1)]) == overlapping([]) == []


def test_every_pair_that_overlaps_is_in_a_group_and_no_other() -> None:
    lot = random.Random(0)
    for _ in range(200):
        ends = [sorted((lot.randint(0, 20), lot.randint(0, 20))) for _ in range(lot.randint(0, 7))]
        intervals = [(float(a), float(b)) for a, b in ends]
        found = {pair for group in overlapping(intervals) for pair in itertools.combinations(group, 2)}
        assert found == {
            (i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(intervals), 2)
            if max(a[0], b[0]) <= min(a[1], b[1])
        }


def case(make_run: Make, engine: str, ms: float, spread: float = 0.05, **choices: Any) -> dict[str, Any]:
    return make_run(f"{engine}{ms}{choices}", ms, spread, case={"engine": engine, "variant": engine, **choices})


def test_rows_whose_intervals_overlap_are_named_in_one_line(make_run: Make) -> None:
    """The intervals are ±10 %: 90 to 110, 99 to 121, 180 to 220."""
    runs = [case(make_run, name, ms) for name, ms in (("onnxruntime", 100), ("torch_eager", 110), ("null", 200))]
    expected = ["not told apart: onnxruntime and torch_eager at 720p (intervals overlap)"]
    assert starting(runs, "not told apart") == expected
    assert starting([runs[0], runs[2]], "not told apart") == []
    runs.append(case(make_run, "openvino", 105))
    expected = ["not told apart: onnxruntime, torch_eager and openvino at 720p (intervals overlap)"]
    assert starting(runs, "not told apart") == expected


@pytest.mark.parametrize(
    "choice", [{"model": "can32"}, {"resolution": "1080p"}, {"statistics": "frozen"}, {"options": {"depth": 3}},
               {"trained": False}, {"weights_sha256": "cd" * 32}],
)  # fmt: skip
def test_rows_of_other_networks_sizes_and_statistics_are_not_compared(make_run: Make, choice: dict[str, Any]) -> None:
    assert starting([case(make_run, "a", 100), case(make_run, "b", 100, **choice)], "not told apart") == []


def test_the_line_names_what_differs_and_no_more(make_run: Make) -> None:
    """Two precisions of one engine, of two networks."""
    runs = [
        case(make_run, "openvino", 100, model=model, precision=precision)
        for model in ("can24", "can32")
        for precision in ("fp32", "bf16")
    ]
    assert starting(runs, "not told apart") == [
        "not told apart: fp32 and bf16 at 720p of can24, 720p of can32 (intervals overlap)"
    ]


def test_a_row_without_an_interval_or_result_is_not_compared(make_run: Make) -> None:
    runs = [case(make_run, "a", 100), case(make_run, "b", 100), case(make_run, "c", 100)]
    runs[1]["latency_ms"]["ci95"] = None
    runs[2] |= {"status": "failed", "reason": "no", "latency_ms": None}
    assert starting(runs, "not told apart") == []


# What is unstable, failed, skipped


def test_a_sentence_of_several_rows_is_said_once_with_the_numbers_of_each() -> None:
    rows = [
        ("a", ["the interval is ±28% of the median: they disagree", "other programs used 12% of the time"]),
        ("b", ["the interval is ±9.5% of the median: they disagree", "other programs used 12% of the time"]),
        ("c", ["other programs used 12% of the time", "samples drift by 6% within a process"]),
    ]
    assert unstable(rows) == [
        "the interval is ±28% (a), ±9.5% (b) of the median: they disagree",
        "other programs used 12% of the time (all rows)",
        "c: samples drift by 6% within a process",
    ]


def test_several_numbers_that_differ_stay_together() -> None:
    sentence = "warm-up had not settled in {} of {} processes: raise --budget"
    rows = [(name, [sentence.format(*counts)]) for name, counts in (("a", (2, 3)), ("b", (1, 4)), ("c", (2, 3)))]
    assert unstable(rows) == ["warm-up had not settled in 2 of 3 (a, c), 1 of 4 (b) processes: raise --budget"]
    rows[1] = ("b", [sentence.format(1, 3)])
    assert unstable(rows) == ["warm-up had not settled in 2 (a, c), 1 (b) of 3 processes: raise --budget"]


def test_numbers_of_many_rows_stand_in_the_table_s_order() -> None:
    rows = [(name, [f"other programs used {n}% of it"]) for n, name in enumerate("abcd", 1)]
    expected = ["other programs used 1%, 2%, 3%, 4% (all rows, in this order) of it"]
    assert unstable(rows) == expected
    expected = ["other programs used 1% (a), 2% (b), 3% (c), 4% (d) of it"]
    assert unstable([*rows, ("e", [])]) == expected


def test_rows_that_were_not_measured_are_not_among_all(make_run: Make) -> None:
    runs = [case(make_run, name, 100) for name in "abc"]
    for run in runs[:2]:
        run["unstable"] = ["noisy"]
    assert starting(runs[:2], "! unstable") == ["! unstable: noisy (all rows)"]
    assert starting(runs, "! unstable") == ["! unstable: noisy (a, b)"]
    runs[2] |= {"status": "skipped", "reason": "no", "latency_ms": None}
    assert starting(runs, "! unstable") == ["! unstable: noisy (all measured rows)"]


def test_the_reasons_of_one_row_stay_in_one_line() -> None:
    assert unstable([("a", ["x 1", "y 2"]), ("b", []), ("c", ["z"])]) == ["a: x 1; y 2", "c: z"]
    assert unstable([]) == []


def test_no_number_and_no_row_is_lost() -> None:
    lot = random.Random(1)
    sentences = ("the interval is ±{}% of it", "rate changed by {:+d}% in {} cases", "plain", "bf16 took {}")

    def reasons() -> list[str]:
        chosen = lot.sample(sentences, lot.randint(0, 4))
        return [sentence.format(lot.randint(1, 4), lot.randint(1, 4)) for sentence in chosen]

    for _ in range(100):
        rows = [(f"row{number}", reasons()) for number in range(lot.randint(1, 5))]
        lines = unstable(rows)
        for label, found in rows:
            for reason in found:
                start = NUMBER.split(reason)[0]
                (line,) = [line for line in lines if start in line and (label in line or "all rows" in line)]
                assert all(match[0] in line for match in NUMBER.finditer(reason))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("±28% of 3.5 at -16% and +2", ["±28%", "3.5", "-16%", "+2"]),
        ("fp32 bf16 can24 1080p x3 3x3 v1.2.x", []),
    ],
)
def test_numbers_are_not_parts_of_words(text: str, numbers: list[str]) -> None:
    assert [match for match in NUMBER.findall(text) if match != "1.2"] == numbers


def test_rows_are_called_by_what_they_differ_in(make_run: Make) -> None:
    runs = [case(make_run, "a", 100), case(make_run, "b", 200)]
    for run in runs:
        run["unstable"] = ["noisy"]
    runs[1]["unstable"].append("late")
    assert starting(runs, "! unstable") == ["! unstable: noisy (all rows)", "! unstable: b: late"]
    runs[1]["case"]["resolution"] = "1080p"
    assert starting(runs, "! unstable")[1] == "! unstable: 1080p b: late"
    assert starting(runs[1:], "! unstable") == ["! unstable: can24 1080p b fp32 image: noisy; late"]


def test_rows_that_failed_for_one_reason_share_a_line(make_run: Make) -> None:
    runs = [case(make_run, name, 100) for name in "abcd"]
    for run, reason in zip(runs[:3], ("no bf16", "no bf16", "killed at 3 MiB"), strict=True):
        run |= {"status": "skipped" if reason == "no bf16" else "failed", "reason": reason, "latency_ms": None}
    runs[3]["picture_failed"] = "disk full"
    lines = said(runs)
    assert lines[1:4] == ["failed: c: killed at 3 MiB", "skipped: a, b: no bf16", "no picture: d: disk full"]


# What the figures mean


@pytest.mark.parametrize(("statistics", "told"), [("image", True), (None, False)])
def test_published_statistics_are_named_only_where_a_network_has_some(
    make_run: Make, statistics: str | None, told: bool
) -> None:
    (line,) = starting([case(make_run, "a", 100, statistics=statistics)], "PSNR, SSIM")
    assert ("published statistics" in line) == told
    assert line.startswith("PSNR, SSIM: against FP32 torch" + (" with the" if told else ", same weights"))


@pytest.mark.parametrize(("share", "told"), [(0.99, False), (1.004, False), (1.006, True), (1.7, True), (None, False)])
def test_a_share_above_the_limit_is_explained_where_the_table_shows_one(
    make_run: Make, share: float | None, told: bool
) -> None:
    runs = [case(make_run, "a", 100), case(make_run, "b", 100)]
    runs[1]["work"]["limit_share"] = share
    assert bool(starting(runs, "of limit above 100 %")) == told


@pytest.mark.parametrize(
    ("rate", "words"), [(1.05, "fewer products"), (1.5, "while the machine was slower (100 GFLOP")]
)
def test_a_limit_that_was_measured_on_a_slower_machine_is_called_that(make_run: Make, rate: float, words: str) -> None:
    run = case(make_run, "a", 100)
    run["work"] |= {"limit_share": 1.3, "peaks": {**run["work"]["peaks"], "fp32_gflop_s": 100.0}}
    run["machine_gflop_s"] = [100.0, 100.0 * rate]
    run["case"]["threads"] = run["machine"]["cores_usable"]
    (line,) = starting([run], "of limit above 100 %")
    assert words in line
    run["case"]["threads"] += 1  # then the two rates are of different numbers of cores
    assert "fewer products" in starting([run], "of limit above 100 %")[0]


# Quantised rows


def int8(make_run: Make, engine: str, psnr_db: float | None = 43.8, chosen: str = "errors cancelled") -> dict[str, Any]:
    lowering = {
        "scheme": "Q/DQ on inputs, activations int8", "layers": {"a": "int8", "b": "int8", "c": "fp32"},
        "low_mac_share": 0.957, "chosen": chosen, "calibration": {"pictures": 3, "side": 512},
        "tried": [{"step": chosen, "calibration_psnr_db": 44.0}],
    }  # fmt: skip
    run = case(make_run, engine, 100, precision="int8", statistics="frozen")
    run["lowering"] = lowering
    run["quality"]["vs_same_statistics"] = {
        "psnr_db": psnr_db, "ssim": 0.98, "max_abs": 0.1, "identical": psnr_db is None, "finite": True,
    }  # fmt: skip
    return run


def test_rows_in_int8_say_which_layers_are_and_what_was_taken(make_run: Make) -> None:
    layers = "2 of 3 layers in int8, 1 of 3 layers in fp32 (96% of the multiply-accumulates quantised); "
    scheme = "Q/DQ on inputs, activations int8; taken: "
    runs = [
        int8(make_run, "a"),
        int8(make_run, "b"),
        int8(make_run, "c", chosen="channels equalised"),
        case(make_run, "d", 9),
    ]
    assert starting(runs, "quantised") == [
        f"quantised: a int8 frozen, b int8 frozen: {layers}{scheme}errors cancelled",
        f"quantised: c int8 frozen: {layers}{scheme}channels equalised",
    ]
    assert starting([case(make_run, "d", 9)], "quantised") == []
    runs[0]["lowering"]["search"] = {
        "floor_db": 42.0, "psnr_db": 42.57, "held_back": 2, "curve": [], "cost": "time",
    }  # fmt: skip
    assert starting(runs[:1], "quantised") == [
        f"quantised: can24 720p a int8 frozen: {layers}{scheme}errors cancelled; "
        "floor 42 dB against FP32 of the same statistics kept on 2 held-back pictures: 42.6 dB"
    ]
    halved = case(make_run, "e", 9, precision="fp16") | {"lowering": {"kept_fp32": ["sum"]}}
    assert starting([halved], "quantised") == []


def test_what_the_precision_alone_costs_is_told_where_statistics_cost_too(make_run: Make) -> None:
    runs = [
        int8(make_run, "onnxruntime", 41.23), int8(make_run, "openvino", 43.8), int8(make_run, "x", None),
        case(make_run, "onnxruntime", 150, statistics="frozen"),
    ]  # fmt: skip
    assert starting(runs, "same statistics") == [
        "same statistics in FP32: onnxruntime int8 41.2 dB, openvino int8 43.8 dB, x int8 identical"
    ]


def test_with_published_statistics_the_table_says_it_already(make_run: Make) -> None:
    run = int8(make_run, "a")
    run["quality"]["vs_same_statistics"] = run["quality"]["vs_reference"]
    assert starting([run], "same statistics") == []
    del run["quality"]["vs_same_statistics"]
    assert starting([run], "same statistics") == []
    run["quality"]["vs_same_statistics"] = {"finite": False, "psnr_db": None}
    assert starting([run], "same statistics")[0].endswith("NaN")


def test_a_share_of_the_limit_is_explained_only_where_one_is_shown(make_run: Make) -> None:
    """A processor has no peak in int8."""
    run, other = int8(make_run, "a"), case(make_run, "b", 100)
    run["work"]["limit_share"] = None
    assert not any("of limit" in line for line in said([run]))
    assert any("of limit: share" in line for line in said([run, other]))
    assert any("measured peaks: fp32 900" in line for line in said([run]))


def test_rates_of_eight_bits_stand_beside_the_others(make_run: Make) -> None:
    run = int8(make_run, "a")
    run["work"]["peaks"] = {**run["work"]["peaks"], "bf16_gflop_s": 1500.0, "int8_gflop_s": 3000.0, "fp8_gflop_s": None}
    assert any("measured peaks: fp32 900, bf16 1500, int8 3000 GFLOP/s" in line for line in said([run]))


# What the network replaces


def test_an_operators_own_time_stands_beside_how_many_times_as_fast_each_network_is(make_run: Make) -> None:
    original = {"task": "rof", "operator": "rof", "threads": 2, "samples_ms": [180.0, 220.0], "p50_ms": 200.0}
    runs = [case(make_run, name, ms) | {"original": original} for name, ms in (("onnxruntime", 100), ("null", 400))]
    for run in runs:
        beside = {"name": "the input", "psnr_db": 26.04, "ssim": 0.5, "identical": False, "finite": True}
        run["quality"]["vs_original"] = {"psnr_db": 30.0, "ssim": 0.9, "baseline": beside}
    assert starting(runs, "original") == [
        "original: operator rof takes 200 ms (2 runs, 2 threads): onnxruntime 2 times as fast, null 0.5 times as fast; "
        "the input 26.0 dB"
    ]


def test_rows_that_differ_by_their_tile_alone_are_both_named(make_run: Make) -> None:
    whole, cut = (
        case(make_run, "onnxruntime", ms) | {"unstable": [reason]} for ms, reason in ((100, "noise"), (200, "drift"))
    )
    cut["case"]["tile"] = "64"
    said_of = " ".join(said([whole, cut]))
    assert "whole pictures" in said_of
    assert "tile 64" in said_of
    assert "()" not in said_of


def test_weights_that_ship_are_named(make_run: Make) -> None:
    run = case(make_run, "onnxruntime", 100)
    run["case"] |= {"trained": True, "weights": "bsds"}
    (line,) = starting([run], "weights")
    assert line.startswith(f"weights that ship: {run['case']['model']} bsds (")
    for weights, trained in (("mine.safetensors", True), ("its own", True), ("untrained", False)):
        run["case"] |= {"trained": trained, "weights": weights}
        assert starting([run], "weights that") == []


def test_an_operator_that_failed_is_said_with_its_reason(make_run: Make) -> None:
    run = case(make_run, "onnxruntime", 100) | {"original_failed": "out of memory"}
    assert starting([run], "original") == ["original: could not be made: out of memory"]


def test_without_an_original_nothing_is_said_of_one(make_run: Make) -> None:
    assert starting([case(make_run, "onnxruntime", 100)], "original") == []


def test_tiles_say_their_cost_their_seams_and_how_memory_was_predicted(make_run: Make) -> None:
    run = case(make_run, "a", 100)
    run["tiling"] = {"count": 3, "window": [1622, 2160], "halo": {"left": 256, "right": 250, "top": 0, "bottom": 0},
                     "work_share": 1.267, "too_large": ["2 of 2176x2160"]}  # fmt: skip
    run["quality"]["seam"] = {"seam_db": 120.0, "elsewhere_db": 121.5, "db": 1.5, "width_px": 4}
    run["memory"] |= {"host_peak_mib": 1250.0, "host_predicted_mib": 1225.0}
    (line,) = starting([run, case(make_run, "b", 100)], "tiles")
    assert "3 of 1622x2160, halo 256 px, 1.27 x work, error at seams +1.5 dB, predicted 1225 MiB (-2%)" in line
    assert line.endswith("ran out of memory first with 2 of 2176x2160")
    run["quality"]["seam"] |= {"db": None}
    assert "no error at seams" in starting([run], "tiles")[0]
    run["tiling"] |= {"count": 1, "too_large": []}
    assert ": whole picture, predicted 1225 MiB (-2%)" in starting([run], "tiles")[0]


@pytest.mark.parametrize(
    ("made_on", "words"),
    [
        (["cpu", "cpu"], "not clipped. MiB"),
        ([None, None], "not clipped. MiB"),
        (["cuda:0", "cuda:0"], "not clipped; torch on cuda:0, as exact as the CPU on a part. MiB"),
        (["cuda:0, cpu", "cpu"], "not clipped; torch on cuda:0, cpu and cpu, as exact as the CPU on a part. MiB"),
    ],
)
def test_references_of_a_gpu_are_said(make_run: Make, made_on: list[str | None], words: str) -> None:
    runs = [case(make_run, engine, 10.0) for engine in ("a", "b")]
    for run, where in zip(runs, made_on, strict=True):
        run["quality"]["vs_reference"]["made_on"] = where
    (line,) = starting(runs, "PSNR, SSIM")
    assert words in line


def test_the_longest_layers_of_a_profiled_run_are_named(make_run: Make) -> None:
    runs = [case(make_run, engine, 10.0) for engine in ("a", "b")]
    runs[0]["layers"] = [{"layer": f"conv{n}", "kind": "Conv", "ms": float(n)} for n in range(5)]
    (line,) = [line for line in said(runs) if "layers of" in line]
    assert line == "5 layers of a, 10 ms together; longest: conv4 4 ms, conv3 3 ms, conv2 2 ms"
    assert "`bench report` draws them" in said(runs)
    assert not any("layers of" in line for line in said(runs[1:]))
