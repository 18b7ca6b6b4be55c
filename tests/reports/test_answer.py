"""The answer first: what is named fastest, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.answer import answers, keeps, latest, natural, pareto, yardstick
from reports.row import Row, row_from_run

Make = Callable[..., dict[str, Any]]


def row(make_run: Make, name: str, ms: float, psnr: float | None = 60.0, place: int = 0, **changes: Any) -> Row:
    run = make_run(name, ms, **changes)
    if run["status"] == "ok":
        run["quality"]["vs_reference"] |= {"psnr_db": psnr, "identical": psnr is None}
    return row_from_run(run, place=place)


def engine(name: str, precision: str = "fp32") -> dict[str, str]:
    return {"engine": name, "variant": name, "precision": precision}


def test_the_fastest_that_keeps_the_floor_wins_not_the_fastest(make_run: Make) -> None:
    rows = [
        row(make_run, "a", 10, 40.0, case=engine("openvino", "int8")),
        row(make_run, "b", 20, 50.0, case=engine("openvino", "bf16")),
        row(make_run, "c", 100, None, case=engine("torch_eager")),
    ]
    (found,) = answers(rows, 45)
    assert found.best is rows[1]
    assert found.speed_up == 5.0
    assert answers(rows, 39)[0].best is rows[0]
    assert answers(rows, 200)[0].best is rows[2]  # identical is infinitely good


def test_where_none_keeps_it_the_nearest_is_known(make_run: Make) -> None:
    rows = [row(make_run, "a", 10, 30.0, case=engine("x")), row(make_run, "b", 20, 35.0, case=engine("y"))]
    (found,) = answers(rows, 45)
    assert (found.best, found.nearest, found.speed_up) == (None, rows[1], None)


def test_broken_failed_and_unjudged_rows_are_no_answer(make_run: Make) -> None:
    broken = make_run("a", 1)
    broken["quality"]["vs_reference"]["finite"] = False
    null = make_run("b", 1, case=engine("null"))
    null["quality"]["vs_reference"] = None
    failed = make_run("c", status="failed", reason="x", latency_ms=None)
    assert not any(keeps(row_from_run(run), -99) for run in (broken, null, failed))
    assert answers([row_from_run(failed)]) == []


def test_rows_whose_intervals_overlap_are_named(make_run: Make) -> None:
    rows = [
        row(make_run, "a", 100, case=engine("x")),
        row(make_run, "b", 103, case=engine("y")),
        row(make_run, "c", 120, case=engine("z")),
    ]
    assert [r.id for r in answers(rows)[0].close] == ["b"]  # intervals of 2 % on each side


def test_sizes_weights_machines_and_threads_are_questions_of_their_own(make_run: Make) -> None:
    other = {"resolution": "1080p", "output_shape": [1, 3, 1080, 1920]}
    rows = [
        row(make_run, "a", 1), row(make_run, "b", 2, case=other), row(make_run, "c", 3, case={"trained": False}),
        row(make_run, "d", 4, machine={"cpu": "Other"}), row(make_run, "e", 5, contract={"threads": 1}),
        row(make_run, "f", 6, case={"weights_sha256": "cd"}),
    ]  # fmt: skip
    assert sorted(a.first.id for a in answers(rows)) == list("abcdef")


def test_the_last_measurement_of_a_case_counts_unless_it_failed(make_run: Make) -> None:
    first = row(make_run, "a", 10, time="2026-01-01")
    second = row(make_run, "b", 11, time="2026-01-02")
    failed = row(make_run, "c", 1, status="failed", reason="x", latency_ms=None, time="2026-01-03")
    assert latest([second, first, failed]) == [second]
    assert latest([row(make_run, "d", 12, place=1, time="2025-01-01"), second])[0].id == "d"


def test_the_yardstick_is_eager_torch_as_published(make_run: Make) -> None:
    rows = [
        row(make_run, "a", 1, case=engine("torch_eager") | {"statistics": "frozen"}),
        row(make_run, "b", 1, case=engine("torch_eager", "bf16")),
        row(make_run, "c", 1, case=engine("torch_eager")),
    ]
    assert yardstick(rows, "cpu") is rows[2]
    assert yardstick(rows[:2], "cpu") is rows[0]
    assert yardstick(rows[1:2], "cpu") is None
    assert yardstick(rows, "cuda:0") is None


def test_the_front_holds_exactly_the_rows_that_no_other_beats(make_run: Make) -> None:
    figures = [(10, 40.0), (20, 50.0), (15, 39.0), (30, 50.0), (30, None), (25, 49.0), (20, 45.0), (22, 50.0)]
    rows = [row(make_run, str(i), ms, db, case=engine(str(i))) for i, (ms, db) in enumerate(figures)]

    def beaten(r: Row) -> bool:
        others = (o for o in rows if o is not r)
        return any((o.latency_ms or 0) <= (r.latency_ms or 0) and (o.psnr_db or 0) >= (r.psnr_db or 0) for o in others)

    assert {r.id for r in pareto(rows)} == {r.id for r in rows if not beaten(r)} == {"0", "1", "4"}


def test_names_are_sorted_as_people_do() -> None:
    assert sorted(["net10", "net2", "can", "net2b"], key=natural) == ["can", "net2", "net2b", "net10"]
    assert sorted(["3x", "x3", "3"], key=natural)


def test_an_older_success_is_marked_where_the_newest_run_failed(make_run: Make) -> None:
    good = row(make_run, "a", 10, time="2026-01-01")
    failed = row(make_run, "b", 1, status="failed", reason="x", latency_ms=None, time="2026-01-02")
    (found,) = answers([good, failed])
    assert found.best is good
    assert found.cautions == ["its newest run failed"]
    assert answers([good])[0].cautions == []
    again = row(make_run, "c", 10, time="2026-01-03")
    assert answers([good, failed, again])[0].cautions == []


def test_rows_of_one_process_are_never_told_apart(make_run: Make) -> None:
    best = row(make_run, "a", 100, case=engine("x"))
    slower = row(make_run, "b", 120, case=engine("y"))
    single = row(make_run, "c", 120, case=engine("y"), latency_ms={"samples": [[120.0] * 9], "p50": 120.0})
    assert [r.id for other in (slower, single) for r in answers([best, other])[0].close] == ["c"]


def test_the_yardstick_is_of_the_device_of_the_answer(make_run: Make) -> None:
    cpu = row(make_run, "t", 500, case=engine("torch_eager"))
    gpu = row(make_run, "g", 5, case=engine("x") | {"device": "cuda:0"})
    assert answers([cpu, gpu])[0].speed_up is None
    torch = row(make_run, "u", 10, case=engine("torch_eager") | {"device": "cuda:0"})
    assert answers([cpu, gpu, torch])[0].speed_up == 2.0


def test_a_latency_that_cannot_be_is_no_answer(make_run: Make) -> None:
    assert not keeps(row(make_run, "a", 5e-324, spread=0, throughput_fps=1.0, work={"gflop_per_s": 1.0}), 45)


def test_any_digit_may_be_in_a_name() -> None:
    assert sorted(["m1²", "m٣", "m1"], key=natural)


def test_what_is_faster_and_too_coarse_is_known(make_run: Make) -> None:
    figures = {"int8": (25, 41.0), "fp8": (20, 30.0), "int8+fp16": (40, 47.0), "fp16": (60, 71.0), "fp32": (200, None)}
    rows = [row(make_run, name, ms, db, case=engine("openvino", name)) for name, (ms, db) in figures.items()]
    broken = make_run("nan", 1, case=engine("openvino", "bf16"))
    broken["quality"]["vs_reference"] |= {"finite": False, "psnr_db": None}
    (found,) = answers([*rows, row_from_run(broken)], 45)
    assert found.best is rows[2]
    assert [r.precision for r in found.too_coarse] == ["fp8", "int8"]
    assert answers(rows, 99)[0].too_coarse == [rows[1], rows[0], rows[2], rows[3]]
    assert answers(rows[:2], 99)[0].too_coarse == []  # no answer: nothing is faster than it


def test_the_floor_may_be_against_the_original(make_run: Make) -> None:
    runs = [make_run(name, ms, case=engine(name)) for name, ms in (("fast", 10), ("slow", 20))]
    for run, db in zip(runs, (29.0, 33.0), strict=True):
        run["quality"]["vs_original"] = {"psnr_db": db, "ssim": 0.9}
    (of_reference,) = answers([row_from_run(run) for run in runs], 30)
    (of_original,) = answers([row_from_run(run, against="original") for run in runs], 30)
    assert (of_reference.first.id, of_reference.best and of_reference.best.id) == ("fast", "fast")
    assert (of_original.best and of_original.best.id, [r.id for r in of_original.too_coarse]) == ("slow", ["fast"])
