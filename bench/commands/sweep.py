"""`bench sweep`: as run, over many cases; what the output folder already holds is not measured again."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.run import add_measuring, checked_plan, measure_and_print, print_measured, print_runs
from bench.exit_codes import OK
from bench.terminal import console_for, drop_output
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.run import Plan

ORDER = 15


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep",
        help="as run, resumable: what is in the output folder is not measured again",
        description="Measures every combination of the choices that DIR/runs.json does not hold yet. A case counts as "
        "held when model, weights, engine, settings, library versions, pictures and machine are the same and its run "
        "ended well. Start the same command again after an interruption; several shards may share a folder.",
        epilog="example:\n  bench sweep --model can24,can32 --res 320p,720p --engine openvino --output out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measuring(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of runs.json and pictures")
    parser.add_argument(
        "--within",
        metavar="TIME",
        help="9min, 90s, 1.5h: ends by then, reports of machine and table included. Sizes that lie far apart come "
        "first; what is left is measured by the same command again",
    )
    parser.add_argument("--shard", metavar="I/N", help="only every N-th case, beginning with the I-th")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="measure on a Ray cluster (pip install 'fullres[ray]'): HOST:PORT, auto for the one of this machine, or "
        "local; every case alone on as many CPUs as --threads, or on a GPU; cases count as held on whichever machine",
    )
    parser.set_defaults(command=_sweep, json=None)


def _sweep(arguments: argparse.Namespace) -> int:
    from bench import record, store
    from bench.places import run_places
    from bench.resume import parse_shard, still_to_measure
    from bench.within import parse_duration

    start, within = time.monotonic(), parse_duration(arguments.within)
    shard = parse_shard(arguments.shard)
    if within and (arguments.cluster or arguments.profile):
        other = "--cluster" if arguments.cluster else "--profile"
        raise UserError(f"`--within` with {other}: that one does not end in time", "one of the two", "Leave one out")
    if arguments.cluster:
        from bench.cluster import check_cluster

        check_cluster()
    plan = checked_plan(arguments)
    path, folder = run_places(None, arguments.output)
    plan = replace(plan, store_path=path, picture_folder=folder, end=start + within if within else None)
    shared = record.facts(plan.argv, plan.picture_digests, plan.calibration_sha256) | {
        "originals": dict(plan.originals)
    }
    stored = store.load(path) if Path(path).exists() else []
    told = [run for run in stored if "layers" in run] if plan.profile else stored
    cases, held = still_to_measure(shard.of(plan.cases), shared, told, anywhere=bool(arguments.cluster))
    console = console_for(stderr=True)
    console.print(f"{len(held)} of {len(held) + len(cases)} cases are in {path}", soft_wrap=True, markup=False)
    if cases:
        left_out = shard.of(plan.left_out) if not held else ()
        if arguments.cluster:
            return _on_cluster(replace(plan, cases=cases, left_out=left_out), arguments.cluster, held)
        return measure_and_print(replace(plan, cases=cases, left_out=left_out), held)
    store.tidy(path)  # the last one may have been killed after it had stored everything
    with contextlib.suppress(BrokenPipeError):
        print_runs(held, path, folder)
        return OK
    drop_output()
    return OK


def _on_cluster(plan: Plan, address: str, held: Sequence[dict[str, Any]]) -> int:
    """Measures the plan on a cluster, prints its runs after those held, and gives the exit code."""
    from bench.cluster import sweep_on_cluster

    console = console_for(stderr=True)

    def measured() -> list[dict[str, Any]]:
        return sweep_on_cluster(plan, address, lambda line: console.print(line, soft_wrap=True, markup=False))

    return print_measured(measured, replace(plan, picture_folder=None), held)
