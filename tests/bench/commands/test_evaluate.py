"""`bench evaluate`: a table of decibels, the same rows as JSON, and refusals before the first slow step."""

from __future__ import annotations

import io
import json

import psutil
import pytest

import bench.spawn
from bench.commands.evaluate import table_from_rows
from bench.spawn import JobFailed

SMALL = ["--model", "can:depth=3:width=8", "--res", "64x48", "--precision", "fp16,int8", "--recovery", "none"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model", "can24", "--precision", "fp32"], ["--precision fp32", "fp16, bf16, int8"]),
        (["--model", "can24", "--precision", "auto", "--floor", "40dB"], ["--precision auto"]),
        (["--model", "can24", "--precision", "int9"], ["int9", "Did you mean int8?"]),
        (["--model", "can24", "--engine", "openvino", "--precision", "fp8"], ["fp8", "openvino"]),
        (["--model", "can24", "--statistics", "thumbnail"], ["thumbnail"]),
        (["--model", "can24", "--recovery", "magic"], ["magic"]),
        (["--model", "can24", "--images", "absent.png"], ["absent.png"]),
        (["--model", "can24", "--json", "absent/rows.json"], ["absent"]),
        (["--model", "can25"], ["can25", "Did you mean can24?"]),
    ],
    ids=str,
)
def test_wrong_use(words, named, command):
    command("evaluate", *words).assert_refused(*named)


def test_the_table_and_the_rows_agree(command, tmp_path):
    path = tmp_path / "rows.json"
    outcome = command("evaluate", *SMALL, "--json", path)
    assert outcome.code == 0, outcome
    content = json.loads(path.read_text())
    assert content["schema"] == 1
    assert [row["recipe"]["precision"] for row in content["rows"]] == ["fp16", "int8"]
    for row in content["rows"]:
        assert row["model"] == "can:depth=3:width=8" or row["model"].startswith("can")
        assert f"{row['quality']['psnr_db']:.1f}" in outcome.out
    assert "untrained" in outcome.out
    assert "against FP32 of the same statistics" in outcome.out


def test_every_kind_of_statistics_has_rows_and_it_is_told_what_was_judged(command, tmp_path):
    path = tmp_path / "rows.json"
    words = ["--model", "can24", "--res", "64x48", "--precision", "int8", "--engine", "openvino", "--recovery", "none"]
    outcome = command("evaluate", *words, "--weights", "rof", "--statistics", "image,frozen", "--json", path)
    assert outcome.code == 0, outcome
    rows = json.loads(path.read_text())["rows"]
    assert [row["statistics"] for row in rows] == ["image", "frozen"]
    for row in rows:
        line = next(text for text in outcome.out.splitlines() if text.startswith(f"can24 {row['statistics']} "))
        assert f" {row['quality']['psnr_db']:.1f} " in line
        told = f"can24 {row['statistics']} int8: rounded to nearest, ranges by minmax; Q/DQ as for openvino"
        assert told in outcome.out
    assert "weights: can24 rof" in outcome.out


def test_rows_found_before_the_worker_is_killed_are_kept(command, tmp_path, monkeypatch):
    run_job = bench.spawn.run_job

    def killed_after_a_row(job, environment, on_event):
        def on_event_and_kill(event):
            on_event(event)
            if event["event"] == "row":
                for child in psutil.Process().children():
                    if "bench.worker" in child.cmdline():
                        child.kill()

        return run_job(job, environment, on_event_and_kill)

    monkeypatch.setattr(bench.spawn, "run_job", killed_after_a_row)
    path = tmp_path / "rows.json"
    words = ["--model", "can:depth=3:width=8", "--res", "64x48,1080p", "--precision", "fp16"]
    outcome = command("evaluate", *words, "--json", path)
    assert outcome.code == 5, outcome
    first, second = json.loads(path.read_text())["rows"]
    assert [first["resolution"], second["resolution"]] == ["64x48", "1080p"]
    assert f"{first['quality']['psnr_db']:.1f}" in outcome.out
    assert "killed" in second["reason"]
    assert second["reason"] in " ".join(outcome.out.split())
    assert second["reason"] in " ".join(outcome.err.split())


@pytest.fixture
def second_worker_dies(monkeypatch):
    run_job, calls = bench.spawn.run_job, []

    def dying(job, environment, on_event):
        calls.append(job)
        if len(calls) > 1:
            raise JobFailed("killed by signal 9", "the last words of its log")
        return run_job(job, environment, on_event)

    monkeypatch.setattr(bench.spawn, "run_job", dying)
    return calls


@pytest.mark.parametrize("more", [[], ["--original", "rof"]], ids=["precision", "original"])
def test_rows_of_a_network_are_kept_where_the_next_one_s_worker_dies(command, tmp_path, second_worker_dies, more):
    path = tmp_path / "rows.json"
    words = ["--model", "can:depth=3:width=8,can:depth=3:width=4", "--res", "64x48", "--json", path, *more]
    outcome = command("evaluate", *words, *([] if more else ["--precision", "fp16"]))
    assert outcome.code == 5, outcome
    assert len(second_worker_dies) == 2
    rows = json.loads(path.read_text())["rows"]
    assert "quality" in rows[0]
    assert "killed by signal 9" in outcome.err
    assert "the last words of its log" in outcome.err
    assert f"{rows[0]['quality']['psnr_db']:.{2 if more else 1}f}" in outcome.out


def test_nothing_is_shown_or_written_where_nothing_was_found(command, tmp_path, second_worker_dies):
    second_worker_dies.append("one before")
    path = tmp_path / "rows.json"
    outcome = command("evaluate", *SMALL, "--json", path)
    assert (outcome.code, outcome.out) == (5, "")
    assert not path.exists()


def row(precision, size, psnr_db, *, finite=True, reason=None, picture="a"):
    found = {
        "model": "m", "trained": True, "weights": "w", "engine": "tensorrt", "statistics": None,
        "recipe": {"precision": precision}, "resolution": size,
        "picture": picture, "reason": reason,
    }  # fmt: skip
    if reason is None:
        found["quality"] = {"psnr_db": psnr_db, "ssim": 0.5 if psnr_db else None, "finite": finite}
    return found


def printed(rows):
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table_from_rows(rows))
    return console.export_text()


def test_the_worst_picture_counts():
    text = printed([row("int8", "720p", 50.0), row("int8", "720p", 40.26, picture="b")])
    assert "40.3" in text
    assert "50.0" not in text
    assert "worst of 2 pictures" in text


def test_equal_is_infinite_and_broken_has_no_figure():
    text = printed(
        [row("fp16", "720p", None), row("int8", "720p", 40.0, finite=False), row("fp8", "720p", 0, reason="no")]
    )
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("m ")}
    assert "∞" in lines["fp16"]
    assert "–" in lines["int8"]
    assert "–" in lines["fp8"]
    assert "m fp8: no" in text
