"""`bench evaluate`: what a precision costs in quality, over sizes, on any machine."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import (
    PRECISION_HELP,
    add_lowering,
    add_model,
    add_network,
    option_words,
    split_words,
)
from bench.exit_codes import COULD_NOT_MEASURE, OK
from bench.preparing import as_graphs, lowerings, refuse_thumbnail, told
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case

ORDER = 18


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="quality without timing: of a precision, or of trained weights over folders of pictures",
        description="PSNR and SSIM of a network in other precisions against FP32 of the same statistics, weights and "
        "picture; with --original, of networks and weights against the operator or the true picture that they were "
        "trained for, the mean over every folder. Graphs are computed strictly as they stand, by no engine: needs no "
        "GPU, and says nothing of speed.",
        epilog="examples:\n"
        "  bench evaluate --model can24 --statistics frozen --precision fp16,int8 --res 320p,1080p\n"
        "  bench evaluate --model can32 --original l0_smoothing --weights on_a.safetensors,on_b.safetensors \\\n"
        "      --images A=test_a/,B=test_b/\n"
        "  bench evaluate --model espcn_x3,srcnn_955 --original 'super-resolution x3' --images Set5/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser, many=True)
    parser.add_argument(
        "--original",
        metavar="TASK",
        help="judge against what the network was trained for (`bench train --help` lists tasks): an operator such as "
        "l0_smoothing, or 'super-resolution x3'; --weights and --images may then name several",
    )
    parser.add_argument(
        "--precision",
        metavar="P[,...]",
        help=PRECISION_HELP.replace("fp32 (default), ", "") + " (default: fp16,bf16,int8,fp8; with --original: fp32)",
    )
    parser.add_argument(
        "--engine", default="tensorrt", metavar="E", help="who would run it: decides where Q/DQ pairs stand"
    )
    parser.add_argument(
        "--res",
        metavar="R[,...]",
        help="sizes of the output: 320p to 4k or WIDTHxHEIGHT (default 720p; with --original the pictures' own)",
    )
    parser.add_argument("--images", metavar="[NAME=]FILE|DIR[,...]", help="input pictures (default: a photograph)")
    add_network(parser, many=True)
    add_lowering(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all usable cores)")
    parser.add_argument("--json", metavar="FILE", help="where the rows are written too")
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from bench.places import check_calibration, check_output_file
    from bench.spawn import JobFailed, run_job
    from reference_models.pictures import DEFAULT_PICTURE_NAME, list_pictures, read_picture

    refuse_thumbnail(arguments.statistics)
    if arguments.original:
        return _originals(arguments)
    arguments.precision, arguments.res = arguments.precision or "fp16,bf16,int8,fp8", arguments.res or "720p"
    groups = _cases(arguments)
    check_calibration(arguments.calibration)
    if arguments.json:
        check_output_file(Path(arguments.json), "--json")
    pictures: list[tuple[str, str | None]] = [(DEFAULT_PICTURE_NAME, None)]
    if arguments.images:
        paths = [path for word in split_words(arguments.images) for path in list_pictures(word)]
        pictures = [(path.name, str(path)) for path in paths]
        for path in paths:
            read_picture(path)
    rows: list[dict[str, Any]] = []
    error: Exception | None = None
    with progress_on(console_for(stderr=True)) as reporter:
        for cases in groups:
            case = cases[0]
            with reporter.stage(f"evaluate {case.model}") as show:
                job = {
                    "job": "evaluate",
                    "spec": case.spec.to_json(),
                    "weights": case.weights,
                    "statistics": [case.statistics],
                    "calibration": arguments.calibration,
                    "threads": case.threads,
                    "pictures": pictures,
                    "sizes": {c.resolution: c.input_size for c in cases},
                    "lowerings": lowerings(cases),
                }
                found: list[dict[str, Any]] = []
                try:
                    run_job(job, None, _gathered(found, show))
                except JobFailed as failure:
                    error = told(failure)
                    found += _unreached(job, len(found), failure.reason)
            facts = {
                "model": case.model, "trained": case.trained, "weights": case.weights_name,
                "statistics": case.statistics, "engine": arguments.engine,
            }  # fmt: skip
            rows += [{**facts, **row} for row in found]
            if error:
                break
    return _end(arguments.json, rows, table_from_rows, error)


def _end(
    path: str | None, rows: Sequence[dict[str, Any]], table: Callable[[Sequence[dict[str, Any]]], Any],
    error: Exception | None,
) -> int:  # fmt: skip
    """Shows and stores what was found, and then says what kept the rest from being found.

    Raises:
        UserError: that.
    """
    known = any("quality" in row for row in rows)
    if path and (known or not error):
        Path(path).write_text(json.dumps({"schema": 1, "rows": rows}, indent=1))
    if known or not error:
        console_for().print(table(rows))
    if error:
        raise error
    return COULD_NOT_MEASURE if any("quality" not in row for row in rows) else OK


def _originals(arguments: argparse.Namespace) -> int:
    """Weights against what they were trained for."""
    from bench.generalisation_table import jobs_of, judged_rows, table_of_originals
    from bench.places import check_calibration, check_output_file

    check_calibration(arguments.calibration)
    if arguments.json:
        check_output_file(Path(arguments.json), "--json")
    jobs = jobs_of(arguments)
    with progress_on(console_for(stderr=True)) as reporter:
        rows, error = judged_rows(jobs, lambda title: reporter.stage(title, 1))
    return _end(arguments.json, rows, table_of_originals, error)


def _gathered(rows: list[dict[str, Any]], show: Callable[[float, str], None]) -> Callable[[Mapping[str, Any]], None]:
    """What a worker tells on its way: rows are kept, phases shown."""

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "row":
            rows.append(event["row"])
        else:
            show(0, event.get("name", ""))

    return on_event


def _unreached(job: Mapping[str, Any], found: int, reason: str) -> list[dict[str, Any]]:
    """Rows without a figure for what a worker had not come to when it ended, having found that many."""
    recipes = {lowering["key"]: lowering["recipe"] for lowering in job["lowerings"]}.values()
    return [
        {"resolution": size, "picture": name, "recipe": recipe, "reason": reason}
        for size, (name, _), recipe in itertools.product(job["sizes"], job["pictures"], recipes)
    ][found:]


def _cases(arguments: argparse.Namespace) -> list[list[Case]]:
    """Per model and kind of statistics its cases, one for each precision and resolution.

    Raises:
        UserError: wrong use.
    """
    from bench.case import Request, expand

    words = split_words(arguments.precision)
    if unfit := [word for word in words if word in {"fp32", "tf32", "auto"}]:
        raise UserError(
            f"`--precision {unfit[0]}`: it is not compared with FP32",
            "fp16, bf16, int8, int8+fp16, fp8",
            "Leave it out",
        )
    request = Request(
        split_words(arguments.model), split_words(arguments.res), ["onnxruntime"],
        statistics=split_words(arguments.statistics), device="cpu", weights=arguments.weights,
        threads=arguments.threads, options=option_words(arguments),
    )  # fmt: skip
    if not words:
        raise UserError("`--precision`: none named", "fp16, bf16, int8, int8+fp16, fp8", "Name one")
    plain = expand(request)[0]
    groups: dict[tuple[str, str | None], list[Case]] = {}
    for case in plain:
        groups.setdefault((case.model, case.statistics), []).extend(as_graphs(case, arguments, words))
    return list(groups.values())


def table_from_rows(rows: Sequence[dict[str, Any]]) -> Any:
    """Model and precision down, sizes across: PSNR in dB, the worst of the pictures."""
    from rich.console import Group
    from rich.table import Table

    sizes = list(dict.fromkeys(row["resolution"] for row in rows))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("model", "precision", *(f"{size} dB" for size in sizes), "SSIM"):
        table.add_column(name, justify="left" if name in {"model", "precision"} else "right", no_wrap=True)
    keys = dict.fromkeys((row["model"], row["statistics"], row["recipe"]["precision"]) for row in rows)
    notes = []
    for model, statistics, precision in keys:
        own = [
            r for r in rows if (r["model"], r["statistics"], r["recipe"]["precision"]) == (model, statistics, precision)
        ]
        cells = [_worst([r for r in own if r["resolution"] == size], "psnr_db") for size in sizes]
        untrained = "" if own[0]["trained"] else " untrained"
        words = " ".join(filter(None, (model + untrained, own[0]["statistics"])))
        table.add_row(words, precision, *(_figure(c, ".1f") for c in cells), _figure(_worst(own, "ssim"), ".4f"))
        notes += [f"{model} {precision}: {r['reason']}" for r in own if r["reason"]][:1]
        notes += [f"{words} {precision}: {told}" for told in dict.fromkeys(map(_how, own)) if told]
    weights = dict.fromkeys(f"{row['model']} {Path(row['weights']).name}" for row in rows if row["trained"])
    notes += [f"weights: {', '.join(weights)}"] if weights else []
    count = len({row["picture"] for row in rows})
    notes.append(
        f"against FP32 of the same statistics; worst of {count} picture{'s' * (count > 1)}; graphs computed strictly "
        "as they stand, sums in FP32; planes in [0, 1], not clipped"
    )
    return Group(table, *notes)


def _how(row: Mapping[str, Any]) -> str:
    """How a quantised graph came to be, and whose it is."""
    lowering = row.get("lowering") or {}
    if "chosen" not in lowering:
        return ""
    ranges = f", ranges by {lowering['clipping']}" if lowering["clipping"] else ""
    bits = ", weights of 7 bits" if row["recipe"].get("weight_bits") == 7 else ""
    in_float = [name for name, kind in lowering.get("layers", {}).items() if kind not in {"int8", "fp8"}]
    kept = f"; {', '.join(in_float)} in float" if in_float else ""
    return f"{lowering['chosen']}{ranges}; Q/DQ as for {row['engine']}{bits}{kept}"


def _worst(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """None where a row has no result; infinity where nothing differs."""
    found = []
    for row in rows:
        quality = row.get("quality")
        if quality is None or not quality["finite"]:
            return None
        found.append(float("inf") if quality[name] is None else quality[name])
    return min(found, default=None)


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else "∞" if value == float("inf") else format(value, form)
