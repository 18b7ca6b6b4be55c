"""Progress by what reaches the console: lines in a log, one live line in a terminal, and no markup but our own."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.progress import TerminalReporter


def log() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100, force_terminal=False), file


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100, force_terminal=True, color_system=None, force_interactive=True), file


def test_a_log_gets_one_line_a_stage_whatever_happens_in_it() -> None:
    console, file = log()
    with TerminalReporter(console) as reporter:
        for title in ("prepare can24", "can24 1440p null fp32"):
            with reporter.stage(title, total=2.0) as show:
                for i in range(50):
                    show(i / 10, f"{i} samples")
    assert file.getvalue() == "prepare can24\ncan24 1440p null fp32\n"


def test_a_log_that_has_heard_nothing_for_long_is_told_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    console, file = log()
    told = ((3.0, "export"), (11.0, "ranges"), (12.0, "patches"), (30.0, "ranges"), (41.0, ""), (42.0, "patches"))
    now = [0.0]
    monkeypatch.setattr("bench.progress.time.monotonic", lambda: now[0])
    with TerminalReporter(console) as reporter, reporter.stage("prepare vdsr") as show:
        for now[0], doing in told:
            show(0, doing)
    assert file.getvalue() == "prepare vdsr\n  ranges\n  patches\n"


def test_a_log_has_no_terminal_codes() -> None:
    console, file = log()
    with TerminalReporter(console) as reporter, reporter.stage("machine's peaks") as show:
        show(0, "x")
    assert "\x1b" not in file.getvalue()


def test_a_terminal_shows_what_is_being_done() -> None:
    console, file = terminal()
    with TerminalReporter(console) as reporter, reporter.stage("can24 · process 1", total=10.0) as show:
        show(5.0, "12 samples after 3 warm-ups")
        reporter._progress.refresh()
        text = file.getvalue()
    assert "can24 · process 1" in text
    assert "12 samples after 3 warm-ups" in text


def drawn(title: str, width: int) -> str:
    """The last line that a terminal of this width gets."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, force_interactive=True)
    with TerminalReporter(console) as reporter, reporter.stage(title, total=10.0) as show:
        show(5.0, "12 samples after 3 warm-ups")
        reporter._progress.refresh()
        return file.getvalue().rpartition("\x1b[2K")[2]


LONG = "case 3 of 8, 40 to 50 s left · can32 1440p onnxruntime fp32 image · process 3"


@pytest.mark.parametrize(
    ("title", "width", "bar", "doing"),
    [("short", 80, True, True), (LONG, 150, True, True), (LONG, 125, False, True), (LONG, 90, False, False)],
)
def test_a_narrow_terminal_keeps_title_and_time_and_drops_the_rest(
    title: str, width: int, bar: bool, doing: bool
) -> None:
    line = drawn(title, width)
    assert title in line
    assert "0:00:0" in line
    assert ("━" in line, "12 samples after 3 warm-ups" in line) == (bar, doing)
    assert len(line) <= width


def test_a_title_that_does_not_fit_is_cut_at_its_end() -> None:
    line = drawn(LONG, 60)
    assert "case 3 of 8, 40 to 50 s left · can32" in line
    assert "0:00:0" in line
    assert len(line) <= 60


def test_the_bar_never_passes_its_end_and_stands_still_without_a_total() -> None:
    console, _ = terminal()
    with TerminalReporter(console) as reporter:
        with reporter.stage("known", total=2.0) as show:
            show(1.0, "")
            assert reporter._progress.tasks[0].completed == 1.0
            show(99.0, "")
            assert reporter._progress.tasks[0].completed == 2.0
        with reporter.stage("unknown") as show:
            show(99.0, "")
            assert reporter._progress.tasks[0].completed == 0
            assert reporter._progress.tasks[0].total is None


def test_a_stage_is_gone_when_it_is_over_even_by_an_error() -> None:
    console, _ = terminal()
    with TerminalReporter(console) as reporter:
        with pytest.raises(KeyboardInterrupt), reporter.stage("x"):
            raise KeyboardInterrupt
        assert reporter._progress.tasks == []


def test_nothing_is_left_in_the_terminal_and_the_cursor_is_shown_again() -> None:
    console, file = terminal()
    with pytest.raises(ValueError, match="x"), TerminalReporter(console) as reporter, reporter.stage("x"):
        raise ValueError("x")
    assert file.getvalue().rfind("\x1b[?25h") > file.getvalue().rfind("\x1b[?25l")
    assert reporter._progress.live.is_started is False


@pytest.mark.parametrize("name", ["photo[/x].png", "[red]a[/]", "[/]", "a[bold", "back\\"])
def test_names_of_pictures_and_models_are_no_markup(name: str) -> None:
    """`bench apply` shows the name of every picture, and users name their pictures as they like."""
    for console, file in (log(), terminal()):
        with TerminalReporter(console) as reporter, reporter.stage(f"apply {name}") as show:
            show(0, f"doing {name}")
            reporter._progress.refresh()
        assert f"apply {name}" in file.getvalue()
        if console.is_terminal:
            assert f"doing {name}" in file.getvalue()
