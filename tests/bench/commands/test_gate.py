"""`bench gate` as scripts meet it: every exit code, the files that it writes, and wrong use."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]
Command = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """`files(baseline runs, candidate runs)` → the two paths."""

    def write(*sides: list[dict[str, Any]]) -> tuple[str, str]:
        paths = []
        for name, runs in zip(("base.json", "mine.json"), sides, strict=True):
            (tmp_path / name).write_text(json.dumps({"schema": 1, "runs": runs}))
            paths.append(str(tmp_path / name))
        return paths[0], paths[1]

    return write


def words(paths: tuple[str, str], *more: str) -> list[str]:
    return ["gate", "--baseline", paths[0], "--candidate", paths[1], *more]


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (100, (0, "Pass: ")),
        (92, (0, "Pass: 1 better")),
        (120, (3, "Regression: 1 worse")),
        (104.8, (4, "Inconclusive: 1")),
    ],
)
def test_the_exit_code_is_the_verdict_and_stands_first(
    gate_run: Make, files: Any, command: Command, ms: float, expected: tuple[int, str]
) -> None:
    done = command(*words(files([gate_run("a")], [gate_run("b", ms)])))
    assert (done.code, done.err) == (expected[0], "")
    assert done.out.startswith(expected[1])


def test_a_folder_stands_for_the_runs_file_in_it(gate_run: Make, files: Any, command: Command, tmp_path: Path) -> None:
    baseline, candidate = files([gate_run("a")], [gate_run("b", 120)])
    (tmp_path / "out").mkdir()
    Path(candidate).rename(tmp_path / "out" / "runs.json")
    assert command(*words((baseline, f"{tmp_path / 'out'}/"))).code == 3
    (tmp_path / "empty").mkdir()
    command(*words((baseline, str(tmp_path / "empty")))).assert_refused("folder without runs.json")


def test_an_empty_candidate_could_not_be_measured(gate_run: Make, files: Any, command: Command) -> None:
    done = command(*words(files([gate_run("a")], [])))
    assert done.code == 5
    assert done.out.startswith("Could not measure: 1 could not measure")


def test_rules_from_words_and_file(gate_run: Make, files: Any, command: Command, tmp_path: Path) -> None:
    paths = files([gate_run("a")], [gate_run("b", 108)])
    config = tmp_path / "gate.toml"
    config.write_text('[max]\nlatency = "20%"\n')
    assert command(*words(paths, "--config", config)).code == 0
    assert command(*words(paths, "--config", config, "--max", "latency:5%")).code == 3
    assert (
        "rules: --max latency:5% --min psnr:0.1dB\n"
        in command(*words(paths, "--max", "latency:5%", "--min", "psnr:0.1dB")).out
    )


def test_normalise_compares_machines(gate_run: Make, files: Any, command: Command) -> None:
    paths = files([gate_run("a")], [gate_run("b", machine={"cpu": "Other"})])
    assert command(*words(paths)).code == 5
    done = command(*words(paths, "--normalise", "--max", "latency:30%"))
    assert done.code == 0
    assert "may mislead by 10%" in done.out


def test_all_files_are_written_whatever_the_verdict(
    gate_run: Make, files: Any, command: Command, tmp_path: Path
) -> None:
    for side, code in (([gate_run("b", 120)], 3), ([], 5)):
        outputs = {name: tmp_path / f"out-{code}.{name}" for name in ("junit", "bmf", "gha", "markdown")}
        options = [word for name, path in outputs.items() for word in (f"--{name}", path)]
        assert command(*words(files([gate_run("a")], side), *options)).code == code
        assert all(path.read_text() for path in outputs.values())
        assert (tmp_path / f"out-{code}-bigger.gha").is_file()


def test_an_earlier_verdict_does_not_stand_where_there_is_none(
    gate_run: Make, files: Any, command: Command, tmp_path: Path
) -> None:
    outputs = {name: tmp_path / f"out.{name}" for name in ("junit", "bmf", "gha", "markdown")}
    options = [word for name, path in outputs.items() for word in (f"--{name}", path)]
    sides = files([gate_run("a")], [gate_run("b")])
    assert command(*words(sides, *options)).code == 0
    written = [*outputs.values(), tmp_path / "out-bigger.gha"]
    assert all(path.read_text() for path in written)
    assert command(*words(sides, *options, "--markdown", tmp_path / "no" / "x.md")).code == 2
    assert all(path.read_text() for path in written)  # what is refused at once has done nothing
    Path(sides[1]).write_text("")
    assert command(*words(sides, *options)).code == 2
    assert not any(path.exists() for path in written)


def test_what_is_read_is_never_written(gate_run: Make, files: Any, command: Command, tmp_path: Path) -> None:
    sides = files([gate_run("a")], [gate_run("b")])
    config, bigger = tmp_path / "gate.toml", tmp_path / "x-bigger.json"
    config.write_text('[max]\nlatency = "5%"\n')
    bigger.write_bytes(Path(sides[0]).read_bytes())
    kept = {path: path.read_bytes() for path in (*map(Path, sides), config, bigger)}
    for option, path in (("--junit", sides[0]), ("--bmf", sides[1]), ("--markdown", config)):
        command(*words(sides, "--config", config, option, path)).assert_refused(option, "is read")
    command(*words((str(bigger), sides[1]), "--gha", tmp_path / "x.json")).assert_refused("--gha", "is read")
    command(*words(sides, "--junit", tmp_path / "o", "--bmf", tmp_path / "o")).assert_refused("--bmf", "another option")
    assert {path: path.read_bytes() for path in kept} == kept


def test_where_no_case_could_be_judged_no_figure_is_blamed(gate_run: Make, files: Any, command: Command) -> None:
    outcome = command(
        *words(files([gate_run("a")], [gate_run("b", case={"precision": "fp16"})]), "--max", "latency:5%")
    )
    assert outcome.code == 5
    assert "every case" not in outcome.out


def test_a_figure_that_no_judged_case_has_is_named_beside_a_missing_case(
    gate_run: Make, files: Any, command: Command
) -> None:
    baseline = [gate_run("a", quality={}), gate_run("c", case={"resolution": "1080p"}, quality={})]
    outcome = command(*words(files(baseline, [gate_run("b", quality={})]), "--max", "plan_size:5%"))
    assert outcome.code == 5
    assert "no run of this case" in outcome.out
    assert "every case" in outcome.out


def test_wrong_use(gate_run: Make, files: Any, command: Command, tmp_path: Path) -> None:
    paths = files([gate_run("a")], [gate_run("b")])
    command("gate", "--baseline", paths[0]).assert_refused("--candidate")
    command(*words((paths[0], str(tmp_path / "none.json")))).assert_refused("none.json")
    command(*words(paths, "--max", "latancy:5%")).assert_refused("Did you mean latency?")
    command(*words(paths, "--max", "latency=5%")).assert_refused("Write latency:5%")
    command(*words(paths, "--min", "latency:5%")).assert_refused("less is better")
    command(*words(paths, "--config", "none.toml")).assert_refused("none.toml")
    command(*words(paths, "--junit", tmp_path / "no" / "x.xml")).assert_refused("--junit", "folder")
    (tmp_path / "odd.json").write_text('{"schema": 1, "runs": [{"id": "x"}]}')
    command(*words((paths[0], str(tmp_path / "odd.json")))).assert_refused("odd.json", "`case`")


def test_the_exit_codes_are_in_the_help(command: Command) -> None:
    text = command("gate", "--help").out
    assert re.search(r"0 pass, 3 regression, 5 could not measure", text)


ROOT = Path(__file__).resolve().parents[3]


def test_the_commands_of_the_guide_and_of_the_ci_jobs_are_understood() -> None:
    from bench.cli import _parser

    texts = {path.name: path.read_text() for path in (ROOT / "docs" / "gate.md", *(ROOT / "docs" / "ci").iterdir())}
    lines = re.findall(r"^bench .+$", texts["gate.md"], re.MULTILINE)
    for name in ("github-actions.yml", "gitlab-ci.yml"):
        joined = re.sub(r"\\\n|\n(?=\s+--)", " ", texts[name])
        (line,) = re.findall(r"^ *\.venv/bin/(bench ab .+)$", joined, re.MULTILINE)
        line = line.replace("$MODEL", re.findall(r"MODEL: (.+)", texts[name])[0])
        lines.append(re.sub(r"\$\{\{.+?\}\}|\$\w+", "0123abc", line))
    assert len(lines) == 11
    for line in lines:
        assert callable(_parser().parse_args(shlex.split(line)[1:]).command), line


def test_the_ci_jobs_are_yaml_of_the_form_that_their_systems_read() -> None:
    yaml = pytest.importorskip("yaml")
    workflow, gitlab = (
        yaml.safe_load((ROOT / "docs" / "ci" / n).read_text()) for n in ("github-actions.yml", "gitlab-ci.yml")
    )
    assert all({"uses", "run"} & set(step) for step in workflow["jobs"]["gate"]["steps"])
    assert gitlab["bench gate"]["allow_failure"] == {"exit_codes": [4]}
