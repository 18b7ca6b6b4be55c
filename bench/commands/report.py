"""`bench report`: runs files → one HTML page, a Markdown summary and figures."""

from __future__ import annotations

import argparse
import html
from typing import Any

from bench.arguments import decibels, share
from bench.exit_codes import OK
from bench.terminal import console_for, progress_on

ORDER = 12


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="runs files → one HTML page, a summary and figures",
        description="Writes DIR/index.html (one file, needs no network), DIR/summary.md (for a pull request) and "
        "DIR/figures. The answer comes first: per model and resolution the fastest row that keeps the floor.",
        epilog="example:\n  bench run --model can24 --res 720p --output out/\n  bench report out/ --output report/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="runs files, or folders with a runs.json")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--floor", default="45dB", metavar="DB", help="PSNR that an answer must keep (default 45dB)")
    parser.add_argument(
        "--against",
        choices=("reference", "original"),
        default="reference",
        help="what that PSNR is against: FP32 with the same weights (default), or the original operator or picture",
    )
    parser.add_argument(
        "--pictures", metavar="DIR", help="where the runs' pictures are (default: beside each runs file)"
    )
    parser.add_argument("--baseline", metavar="RUNS", help="a runs file or folder that the others are compared with")
    add_judging(parser)
    parser.set_defaults(command=_report)


def add_judging(parser: argparse.ArgumentParser) -> None:
    """What a comparison calls the same, and what it may compare."""
    parser.add_argument("--margin", default="5%", metavar="SHARE", help="smaller changes are the same (default 5%%)")
    parser.add_argument("--across-machines", action="store_true", help="judge runs of different machines all the same")


def _report(arguments: argparse.Namespace) -> int:
    from bench.places import runs_file
    from reports.command import write_report

    floor_db, margin = decibels(arguments.floor, "--floor", -100, 1000), share(arguments.margin, "--margin")
    with progress_on(console_for(stderr=True)) as reporter, reporter.stage("report"):
        found = write_report(
            [runs_file(path) for path in arguments.runs],
            arguments.output,
            floor_db=floor_db,
            against=arguments.against,
            baseline=arguments.baseline and runs_file(arguments.baseline),
            margin=margin,
            across_machines=arguments.across_machines,
            picture_folder=arguments.pictures,
        )
    print(plain(found.verdict))
    print(f"{found.index}: {found.runs} runs, {found.size_bytes / 1e6:.1f} MB; beside it summary.md and figures/")
    return OK


def plain(markdown: str) -> str:
    """A line of summary.md as a terminal shows it: no emphasis, no character references, no spaces without width."""
    return html.unescape(markdown.replace("**", "")).replace("\u200b", "")
