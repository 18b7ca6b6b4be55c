"""Runs → the table in the terminal, with what one must know to believe it below. Prints nothing by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Run = dict[str, Any]


def table_from_runs(runs: Sequence[Run]) -> RenderableType:
    """The table of these runs, in the order given, and its footnotes."""
    parts: list[RenderableType] = [_table(runs)]
    parts += [Text.from_markup(note) for note in _notes(runs)]
    return Group(*parts)


def _table(runs: Sequence[Run]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    table.add_column("model", no_wrap=True)
    table.add_column("in → out", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("statistics", no_wrap=True)
    for name in ("median ms", "95 %", "fps", "MPx/s", "MiB", "PSNR dB", "SSIM", "of limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*_row(run))
    return table


def _row(run: Run) -> list[str]:
    case = run["case"]
    head = [
        case["model"] + ("" if case["trained"] else " [yellow]untrained[/]"),
        _sizes(case),
        case["engine"],
        case["precision"],
        case["statistics"] or "–",
    ]
    if run["status"] != "ok":
        colour = "red" if run["status"] == "failed" else "yellow"
        return [*head, f"[{colour}]{run['status']}[/]"]
    latency = run["latency_ms"]
    mark = " [yellow]unstable[/]" if run["unstable"] else ""
    return [
        *head,
        _number(latency["p50"]) + mark,
        _interval(latency),
        _number(run["throughput_fps"]),
        _number(run["work"]["mpixel_per_s"]),
        f"{run['memory']['host_peak_mib']:.0f}",
        *_quality(run["quality"]["vs_reference"]),
        _percent(run["work"].get("limit_share")),
    ]


def _sizes(case: dict[str, Any]) -> str:
    (_, _, h, w), (_, _, oh, ow) = case["input_shape"], case["output_shape"]
    return f"{w}x{h}" if (h, w) == (oh, ow) else f"{w}x{h} → {ow}x{oh}"


def _interval(latency: dict[str, Any]) -> str:
    if not latency["ci95"]:
        return "none"
    low, high = latency["ci95"]
    return f"±{(high - low) / 2 / latency['p50']:.1%}"


def _quality(quality: dict[str, Any] | None) -> tuple[str, str]:
    if quality is None:
        return "–", "–"
    if not quality["finite"]:
        return "[red]NaN[/]", "[red]NaN[/]"
    psnr = "∞" if quality["identical"] else f"{quality['psnr_db']:.1f}"
    return psnr, "–" if quality["ssim"] is None else f"{quality['ssim']:.4f}"


def _number(value: float) -> str:
    """Four significant digits at most: more are noise on any machine."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _notes(runs: Sequence[Run]) -> list[str]:
    ok = [run for run in runs if run["status"] == "ok"]
    notes = [""]
    for run in runs:
        if run["status"] != "ok":
            colour = "red" if run["status"] == "failed" else "yellow"
            notes.append(f"[{colour}]{run['status']}[/]: {_label(run)}: {escape(run['reason'])}")
        notes += [f"[yellow]unstable[/]: {_label(run)}: {escape(reason)}" for reason in run["unstable"]]
    if any(not run["case"]["trained"] for run in runs):
        notes.append(
            "[yellow]untrained[/]: initial weights. Speed and memory are those of the network; PSNR and SSIM say only "
            "that engines agree."
        )
    if ok:
        notes += _contract_notes(ok)
    return notes


def _contract_notes(ok: Sequence[Run]) -> list[str]:
    run = ok[0]
    machine, peaks = run["machine"], run["work"]["peaks"]
    processes = "/".join(str(n) for n in sorted({len(r["latency_ms"]["samples"]) for r in ok}))
    lines = [
        "median ms: one picture, network only (no decoding, no colour conversion), "
        f"{run['contract']['threads']} threads, {processes} processes a case; 95 %: interval of that median over "
        "processes.",
        "PSNR, SSIM: against FP32 torch with the network's published statistics, same weights and picture, planes in "
        "\\[0, 1], not clipped. MiB: peak of the whole process.",
        f"machine: {escape(machine['cpu'])}, {machine['cores_usable']} cores, {machine['memory_mib'] / 1024:.0f} GiB",
    ]
    if peaks.get("fp32_gflop_s"):
        bf16 = f", bf16 {peaks['bf16_gflop_s']:.0f}" if peaks.get("bf16_gflop_s") else ""
        lines[-1] += (
            f"; measured peaks: fp32 {peaks['fp32_gflop_s']:.0f}{bf16} GFLOP/s ({peaks['fp32_by']}), "
            f"copy {peaks['copy_gb_s']:.0f} GB/s. of limit: share of what these allow."
        )
    return [f"[dim]{line}[/]" for line in lines]


def _label(run: Run) -> str:
    case = run["case"]
    words = [case["model"], case["resolution"], case["engine"], case["precision"], case["statistics"] or ""]
    return escape(" ".join(word for word in words if word))
