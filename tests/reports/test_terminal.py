"""What `bench compare` prints."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from reports.comparison import compare_rows
from reports.row import row_from_run
from reports.terminal import comparison_text

Make = Callable[..., dict[str, Any]]

EXPECTED = """\
A: A
B: B
differs          A       B
versions: torch  2.13.0  2.14.0

case                               verdict  ratio   95 %            A       B       memory         PSNR
can24 720p onnxruntime fp32 image  slower   1.200×  1.182 to 1.218  100 ms  120 ms  500 → 500 MiB  60.0 dB

1 row of B not compared:
  can32 720p onnxruntime fp32 image: no like case on the other side

1 slower
"""


def printed(a: list[dict[str, Any]], b: list[dict[str, Any]], width: int = 150) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(comparison_text(compare_rows([row_from_run(r) for r in a], [row_from_run(r) for r in b])))
    assert isinstance(console.file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


def test_exactly(make_run: Make) -> None:
    new = {"versions": {"torch": "2.14.0"}}
    b = [make_run("b", 120, **new), make_run("c", case={"model": "can32"}, **new)]
    text = printed([make_run("a")], b)
    assert text.startswith(EXPECTED)
    rule = " ".join(text.removeprefix(EXPECTED).split())
    assert rule.startswith(
        "Ratios are B over A: below 1, B is faster. The rule is that of `bench gate --max latency:5%`."
    )
    assert "its whole 95 % interval over processes beyond 3 %" in rule


def test_what_is_compared_and_that_nothing_differs(make_run: Make) -> None:
    text = printed([make_run("a")], [make_run("b", case={"variant": "openvino"})])
    assert "compared: variant: onnxruntime with openvino" in text
    assert "the same on both sides" in text
    assert "can24 720p: onnxruntime fp32 image → openvino fp32 image" in text


def test_nothing_in_common(make_run: Make) -> None:
    text = printed([make_run("a")], [make_run("b", case={"model": "can32"})])
    assert "no case was measured on both sides" in text
    assert "nothing to compare" in text


def test_words_of_a_run_are_no_markup(make_run: Make) -> None:
    name = "[red]x[/] :100: [/]"
    text = printed([make_run("a", case={"model": name})], [make_run("b", case={"model": name}, commit="[bold]c")])
    assert f"{name} 720p" in text
    assert "[bold]c" in text
