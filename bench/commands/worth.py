"""`bench worth`: whether INT8 is worth it here, and what eats its gain."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import (
    add_lowering,
    add_model,
    add_network,
    add_settings,
    lowering_from_arguments,
    option_words,
    split_words,
)
from bench.exit_codes import OK
from bench.preparing import exported, only_one, refuse_thumbnail, told
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.case import Case

ORDER = 19
SHOWN = 5
"""Q/DQ and reformat nodes that are named below the table."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "worth",
        help="is INT8 worth it here? layer by layer, with a verdict",
        description="Times of every layer in FP32 and INT8 by the engine's own profiler, what Q/DQ and reformat nodes "
        "take, the loss of each layer alone, and whole inferences without profiler, in turn in one process. CPU only.",
        epilog="example:\n  bench worth --model can24 --statistics frozen --res 720p --engine onnxruntime",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--engine", metavar="E", help="onnxruntime or openvino, or E:NAME=VALUE; default: the fastest that is usable"
    )
    parser.add_argument("--precision", default="int8", metavar="P", help="int8 (default), or auto with --floor")
    parser.add_argument("--res", default="720p", metavar="R", help="of the output: 320p to 4k or WIDTHxHEIGHT")
    parser.add_argument("--images", metavar="FILE", help="input picture (default: a photograph)")
    add_network(parser, many=False)
    add_lowering(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all usable cores)")
    add_settings(parser)
    parser.add_argument(
        "--budget",
        type=float,
        default=20,
        metavar="SECONDS",
        help="of whole inferences (default 20); six rounds are always taken",
    )
    parser.add_argument("--json", metavar="FILE", help="where the result is written too")
    parser.set_defaults(command=_worth)


def _worth(arguments: argparse.Namespace) -> int:
    from bench.places import check_calibration, check_output_file
    from reference_models.pictures import read_picture

    refuse_thumbnail(arguments.statistics)
    if not 1 <= arguments.budget <= 86400:
        raise UserError(f"`--budget {arguments.budget:g}`: out of range", "1 to 86400 seconds", "Try 20")
    case = _case(arguments)
    check_calibration(arguments.calibration, quantised=True)
    if arguments.json:
        check_output_file(Path(arguments.json), "--json")
    if arguments.images:
        read_picture(arguments.images)
    with progress_on(console_for(stderr=True)) as reporter:
        result = _result(case, arguments, reporter)
    facts = {
        "model": case.model, "trained": case.trained, "statistics": case.statistics, "engine": case.variant,
        "precision": case.precision, "resolution": case.resolution, "width": case.width, "height": case.height,
        "threads": case.threads,
    }  # fmt: skip
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"schema": 1, **facts, **result}, indent=1))
    console_for().print(shown({**facts, **result}))
    return OK


def _result(case: Case, arguments: argparse.Namespace, reporter: Any) -> dict[str, Any]:
    import engines
    from bench.spawn import JobFailed, run_job

    low = exported(case, arguments.calibration, reporter)
    fp32 = exported(replace(case, precision="fp32", recipe=None), arguments.calibration, reporter)
    job = {
        "job": "worth",
        "spec": case.spec.to_json(),
        "networks": [fp32, low],
        **{key: getattr(case, key) for key in ("engine", "device", "threads", "precision")},
        "settings": dict(case.settings),
        "picture": str(Path(arguments.images).absolute()) if arguments.images else None,
        "calibration": arguments.calibration,
        "size": case.input_size,
        "output_size": (case.width, case.height),
        "budget_s": arguments.budget,
    }
    with reporter.stage(f"worth {case.title}") as show:
        try:
            environment = engines.get(case.engine).environment(case.settings)
            return run_job(job, environment, lambda event: show(0, event.get("name", "")))
        except JobFailed as failure:
            raise told(failure) from None


def _case(arguments: argparse.Namespace) -> Case:
    """
    Raises:
        UserError: wrong use: several of one kind, an engine that does not tell times of layers, a precision in which
            nothing is quantised.
    """
    import engines
    from bench.case import PRECISIONS, Request, expand
    from export.recipe import QUANTISED

    quantised = (*QUANTISED, "auto")
    if arguments.precision not in PRECISIONS:
        raise unknown("--precision", arguments.precision, "precision", quantised, "Give one of these")
    if arguments.precision not in quantised:
        raise UserError(
            f"`--precision {arguments.precision}`: nothing in it is quantised", ", ".join(quantised), "Choose int8"
        )
    words = split_words(arguments.engine) or [engines.fastest("cpu", arguments.precision)]
    for name in (word.partition(":")[0] for word in words):
        if "cpu" not in engines.get(name).tells_layer_times:
            known = ", ".join(n for n in engines.names() if "cpu" in engines.get(n).tells_layer_times)
            raise UserError(f"engine `{name}`: it does not tell what its layers take", known, "Choose one of these")
    request = Request(
        split_words(arguments.model), split_words(arguments.res), words, [arguments.precision],
        statistics=split_words(arguments.statistics), device="cpu", weights=arguments.weights,
        threads=arguments.threads, settings=arguments.settings, options=option_words(arguments),
        lowering=lowering_from_arguments(arguments),
    )  # fmt: skip
    cases, left_out = expand(request)
    only_one(cases, left_out)
    return cases[0]


def shown(result: Mapping[str, Any]) -> Any:
    """The table by layer, whole inferences, the longest Q/DQ and reformat nodes, and the verdict."""
    from rich.console import Group
    from rich.table import Table

    precision = result["precision"]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("layer", "fp32 ms", f"{precision} ms", "times as fast", "MACs", "alone dB", "computed in"):
        table.add_column(name, justify="left" if name in {"layer", "computed in"} else "right", no_wrap=True)
    for row in result["rows"]:
        share = "" if row["mac_share"] is None else f"{row['mac_share']:.1%}".replace("%", " %")
        alone = "" if row["mac_share"] is None else _figure(row["alone_db"], ".1f")
        table.add_row(row["name"], *_times(row["fp32_ms"], row["ms"]), share, alone, row["type"] or "")
    totals, whole = result["profiled_ms"], result["whole"]
    table.add_section()
    table.add_row("all, profiled", *_times(totals["fp32"], totals[precision]))
    before, after, _ = _times(whole["fp32"]["ms"], whole[precision]["ms"])
    table.add_row("whole, not profiled", before, after, f"{result['times_as_fast']['fp32']['value']:.2f}")
    return Group(table, *_notes(result), "", result["verdict"])


def _times(before: float | None, after: float | None) -> tuple[str, str, str]:
    ratio = f"{before / after:.2f}" if before and after else ""
    return _figure(before, ".2f"), _figure(after, ".2f"), ratio


def _notes(result: Mapping[str, Any]) -> list[str]:
    from bench.stats import FOREIGN

    threads = f"{result['threads']} thread{'s' * (result['threads'] > 1)}"
    words = [
        result["model"] + ("" if result["trained"] else " untrained"), result["statistics"] or "",
        f"{result['width']}x{result['height']}", result["engine"], threads,
    ]  # fmt: skip
    rounds = len(result["whole"]["fp32"]["samples"])
    spreads = [f"{name} {_spread(side['ms'], side['ci95'])} ms" for name, side in result["whole"].items()]
    ratios = [f"{_spread(side['value'], side['ci95'])} times {n}" for n, side in result["times_as_fast"].items()]
    notes = [
        ", ".join(filter(None, words)),
        f"whole inferences, {rounds} rounds in turn, median and its 95 % interval: " + ", ".join(spreads),
        f"{result['precision']} as fast as, round by round: " + ", ".join(ratios),
        "alone dB: PSNR against FP32 on calibration pictures where that layer alone is quantised",
    ]
    longest: Sequence[Mapping[str, Any]] = result["nodes"][:SHOWN]
    if longest:
        named = ", ".join(f"{node['name']} ({node['kind']}) {node['ms']:.2f} ms" for node in longest)
        notes.append(f"longest of {len(result['nodes'])} Q/DQ and reformat nodes: {named}")
    slower = [r["name"] for r in result["rows"] if r["mac_share"] and r["fp32_ms"] and (r["ms"] or 0) > r["fp32_ms"]]
    if slower:
        notes.append(f"slower in {result['precision']} than in fp32 by themselves: {', '.join(slower)}")
    for phase, load in result["load"].items():
        if (foreign := load["foreign_share"] or 0) > FOREIGN:
            notes.append(f"{phase}: other programs used {foreign:.0%} of the processor time".replace("%", " %"))
    return notes


def _spread(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
