"""The terminal's table: exact text from stored runs, and nothing in a run that could pass for the table's own words."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import store
from reports.table import table_from_runs

DATA = Path(__file__).resolve().parents[1] / "data"

MIXED = """\
model            in → out             engine         precision  statistics  median ms        ±      fps     MPx/s   MiB  PSNR dB     SSIM  of limit
can32            2560x1440            onnxruntime    fp32       image            1234     2.0%     0.81      2.99   963    118.2  >0.9999       61%
can32 untrained  2560x1440            torch_eager    fp32       image            5679  13.2% !    0.176     0.649  2049        ∞   1.0000        9%
can32            2560x1440            openvino       bf16       frozen           98.8   none !     10.1      37.3   700      NaN      NaN      100%
espcn            854x480 → 2560x1440  onnxruntime    fp32       –                12.3     0.4%     81.0       299   123     54.3   0.9877       50%
can32            2560x1440            null           fp32       image        0.000123     0.8%  8130081  29970732    46        –        –         –
can32            2560x1440            openvino       int8       image         skipped
can32            2560x1440            torch_compile  fp32       image          failed
can32            64x8                 onnxruntime    fp32       image            1.00     1.0%      995     0.509    50     90.0        –        2%

failed: can32 1440p torch_compile fp32 image: the worker died of SIGSEGV
skipped: can32 1440p openvino int8 image: engine `openvino` has no int8 on cpu, only fp32, bf16
! unstable: can32 1440p torch_eager fp32 image: the interval is ±13% of the median: processes or samples disagree; the hypervisor took 3% of the processor time
! unstable: can32 1440p openvino bf16 frozen: too few samples for an interval: raise --budget or --processes
untrained: weights as the network starts out; CAN's leave most planes zero, and a device that saves power on zeros may look faster. PSNR and SSIM say only that
engines agree. Measure with --weights.
median ms: one picture, network only (no decoding, no colour conversion), 2 threads, 3/5 processes a case; ±: 95 % interval of that median over processes.
PSNR, SSIM: against FP32 torch with the network's published statistics, same weights and picture, planes in [0, 1], not clipped. MiB: peak of the whole process.
device cpu; machine: Some CPU [rev 2], 2 cores, 16 GiB; measured peaks: fp32 180 GFLOP/s (onnxruntime), copy 22 GB/s. of limit: share of what these allow.
"""  # noqa: E501

PAIR = """\
can24  2560x1440  fp32  image
engine                 median ms     ±   fps  MPx/s  MiB  PSNR dB     SSIM  of limit
onnxruntime                  250  2.0%  4.00   14.7  500    120.0  >0.9999       80%
onnxruntime:graph=off        500  2.0%  2.00   7.37  400    120.0  >0.9999       40%
"""

PAIR_ON_80_COLUMNS = """\
can24  2560x1440  fp32  image
engine                 median ms     ±   fps  MiB  PSNR dB     SSIM  of limit
onnxruntime                  250  2.0%  4.00  500    120.0  >0.9999       80%
onnxruntime:graph=off        500  2.0%  2.00  400    120.0  >0.9999       40%
"""


def stored(name: str) -> list[dict[str, Any]]:
    return store.load(DATA / f"table_{name}.json")


def printed(runs: list[dict[str, Any]], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(table_from_runs(runs, width))
    assert isinstance(console.file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


def test_every_kind_of_row_exactly() -> None:
    """Ok, untrained and identical, unstable, NaN, no interval, upscaled, null, skipped, failed, too small for SSIM."""
    assert printed(stored("mixed")) == MIXED


def test_what_all_rows_share_stands_above_the_table() -> None:
    assert printed(stored("pair")).startswith(PAIR + "\n")


def test_a_narrow_terminal_gets_fewer_figures_and_is_told_so() -> None:
    text = printed(stored("pair"), width=80)
    assert text.startswith(PAIR_ON_80_COLUMNS + "\n")
    assert text.endswith("MPx/s left out to fit 80 columns; the runs file has all\n")
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 72, 90, 100, 120])
def test_no_figure_is_cut_at_any_width(width: int) -> None:
    text = printed(stored("pair"), width)
    assert "…" not in text
    rows = text.splitlines()[2:4]
    assert [row.split()[1] for row in rows] == ["250", "500"]


def test_a_single_run_has_all_its_columns() -> None:
    text = printed(stored("mixed")[:1])
    assert text.splitlines()[0].split()[:2] == ["model", "in"]
    assert "3 processes a case" in text


def test_bf16_peak_is_shown_where_it_was_measured() -> None:
    assert "fp32 180, bf16 320 GFLOP/s (onnxruntime)" in printed(stored("pair"))


def test_runs_without_a_result_need_no_figures() -> None:
    runs = stored("mixed")[5:7]
    text = printed(runs)
    assert "the worker died of SIGSEGV" in text
    assert "median ms: one picture" not in text


def test_peaks_that_could_not_be_measured_are_not_shown() -> None:
    runs = stored("mixed")[:1]
    runs[0]["work"] |= {"peaks": {"failed": "out of memory"}, "limit_share": None}
    assert printed(runs).endswith("machine: Some CPU [rev 2], 2 cores, 16 GiB\n")


def test_an_interval_of_one_process_is_not_called_one_over_processes() -> None:
    """It says nothing about the next process, which is what a reader would take from it."""
    text = printed(stored("pair"))
    assert "interval of that median over processes" not in text
    assert "1 processes" not in text


# What a run says is shown as it is


HOSTILE = [
    "[red]gotcha[/]", "[/]", "[bold", "a\\", "[link=https://example.org]x[/link]", "conv.cc:100: no kernel", "\\[x]",
]  # fmt: skip
"""Rich's markup, and its emoji codes: `:100:` is one, and stands in many a library's message."""


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("key", ["model", "engine", "variant", "precision", "statistics"])
def test_words_of_a_case_are_no_markup(key: str, text: str) -> None:
    runs = stored("mixed")[:2]
    runs[0]["case"][key] = text
    runs[0]["unstable"] = ["so that the label is printed"]
    lines = printed(runs).splitlines()
    assert sum(text in line for line in lines) >= (1 if key == "engine" else 2)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("key", ["model", "engine", "precision", "statistics"])
def test_words_that_all_rows_share_are_no_markup(key: str, text: str) -> None:
    runs = stored("pair")
    for run in runs:
        run["case"].pop("variant", None)
        run["case"][key] = text
    assert text in printed(runs)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_reason_is_no_markup(status: str, text: str) -> None:
    run = copy.deepcopy(stored("mixed")[0])
    run |= {"status": status, "reason": f"{text} and more"}
    assert f"{text} and more" in printed([run])


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_unstable_and_the_machine_are_no_markup(text: str) -> None:
    run = copy.deepcopy(stored("mixed")[0])
    run["unstable"] = [f"{text} it was"]
    run["machine"]["cpu"] = f"{text} CPU"
    shown = printed([run])
    assert f"{text} it was" in shown
    assert f"{text} CPU" in shown


def test_colours_are_those_of_the_table() -> None:
    console = Console(file=io.StringIO(), width=160, highlight=False, force_terminal=True, color_system="standard")
    console.print(table_from_runs(stored("mixed")))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b[31mfailed\x1b[0m" in text
    assert "\x1b[33mskipped\x1b[0m" in text
    assert "\x1b[31mNaN\x1b[0m" in text
    assert "\x1b[33muntrained\x1b[0m" in text


# Numbers
