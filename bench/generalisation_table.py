"""`bench evaluate --original`: words → jobs of bench/generalisation.py → its rows as a table. Prints nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import option_words, split_words
from bench.preparing import for_engine, lowerings, told
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case

OWN_SIZE = "own"
"""Of `--res`: every picture at its own size, as the papers judge."""


def jobs_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One job per network; everything that can be wrong about the words has been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.case import Request, expand, resolution_size
    from bench.originals import originals_of
    from export.cache import cache_folder

    sets = _sets(arguments.images)
    sizes = split_words(arguments.res or OWN_SIZE)
    if len(sizes) != 1:
        raise UserError(f"`--res {arguments.res}`: several sizes with --original", "own, or one size", "Name one")
    size = None if sizes[0] == OWN_SIZE else resolution_size(sizes[0])
    asked = dict.fromkeys(split_words(arguments.precision or "fp32"))
    found = []
    for model in split_words(arguments.model):
        chosen: list[Case] = []
        for word in split_words(arguments.weights) or (None,):
            request = Request(
                [model], ["720p"], ["onnxruntime"], statistics=split_words(arguments.statistics), device="cpu",
                weights=word, threads=arguments.threads, options=option_words(arguments),
            )  # fmt: skip
            chosen.append(expand(request)[0][0])
        case = chosen[0]
        originals_of([case], arguments.original)
        low = [word for word in asked if word != "fp32"]
        lowered = [for_engine(case, argparse.Namespace(**{**vars(arguments), "precision": word})) for word in low]
        found.append(
            {
                "job": "generalise",
                "spec": case.spec.to_json(),
                "model": case.model,
                "weights": [(c.weights_name, c.weights) for c in chosen],
                "original": arguments.original,
                "statistics": [case.statistics],
                "calibration": arguments.calibration,
                "lowerings": lowerings(lowered),
                "fp32": "fp32" in asked,
                "sets": sets,
                "size": size,
                "threads": case.threads,
                "targets": str(cache_folder() / "targets"),
            }
        )
    return found


def _sets(words: str | None) -> list[tuple[str, list[str | None]]]:
    """`[NAME=]FILE|DIR[,...]` → names and files; None is the default picture."""
    from reference_models.pictures import DEFAULT_PICTURE_NAME, list_pictures, read_picture

    found: dict[str, list[str | None]] = {}
    for word in split_words(words):
        name, equals, path = word.partition("=")
        if not equals or Path(word).exists():
            name, path = Path(word).name, word
        if name in found:
            raise UserError(f"`--images {words}`: two sets are called {name}", "names of their own", "NAME=DIR")
        pictures = list_pictures(path)
        for picture in pictures:
            read_picture(picture)
        found[name] = [str(picture) for picture in pictures]
    return list(found.items()) or [(DEFAULT_PICTURE_NAME, [None])]


def judged_rows(jobs: Sequence[Mapping[str, Any]], show: Callable[[str], Any]) -> tuple[list[dict[str, Any]], str]:
    """Rows of all jobs, each with its model, and what the figures mean.

    Args:
        show: called with a title; a context that gives a function of progress and words.
    """
    from bench.spawn import JobFailed, run_job

    rows: list[dict[str, Any]] = []
    words = []
    for job in jobs:
        with show(f"evaluate {job['model']}") as report:

            def on_event(event: Mapping[str, Any], report: Callable[[float, str], None] = report) -> None:
                report(event.get("share", 0), event.get("name", ""))

            try:
                made = run_job(job, None, on_event)
            except JobFailed as failure:
                raise told(failure) from None
        facts = {"model": job["model"], "original": job["original"], "statistics": job["statistics"][0]}
        rows += [{**facts, **row} for row in made["rows"]]
        words.append(made["convention"])
    return rows, "; ".join(dict.fromkeys(words))


def table_of_originals(rows: Sequence[dict[str, Any]], convention: str, size: str) -> Any:
    """Networks and weights down, sets across: the mean over the set's pictures. What needs no network stands first."""
    from rich.console import Group
    from rich.table import Table

    sets = list(dict.fromkeys(row["set"] for row in rows))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("model", "weights", "precision"):
        table.add_column(name)
    for name in sets:
        table.add_column(f"{name} dB", justify="right")
        table.add_column("SSIM", justify="right", no_wrap=True)
    seen = set()
    for key in dict.fromkeys(_key(row) for row in rows):
        own = [row for row in rows if _key(row) == key]
        cells = []
        for name in sets:
            mine = [row for row in own if row["set"] == name]
            cells += [_mean(mine, "psnr_db", ".2f"), _mean(mine, "ssim", ".4f")]
        if own[0]["weights"] is None:
            if (own[0]["without"], *cells) in seen:  # the same for every network of one task and one input
                continue
            seen.add((own[0]["without"], *cells))
            table.add_row(own[0]["without"], "", "", *cells, style="dim")
            continue
        model = " ".join(filter(None, (own[0]["model"], own[0]["statistics"])))
        table.add_row(model, own[0]["weights"], own[0]["precision"], *cells)
    counts = {name: len({row["picture"] for row in rows if row["set"] == name}) for name in sets}
    pictures = ", ".join(f"{name} {count}" for name, count in counts.items())
    at = "at their own size" if size == OWN_SIZE else f"at {size}"
    reasons = dict.fromkeys(f"{row['model']} {row['precision']}: {row['reason']}" for row in rows if row["reason"])
    notes = [
        f"against {rows[0]['original']}; pictures: {pictures}, {at}",
        convention,
        "precisions computed strictly as their graphs stand, sums in FP32; no time is measured",
    ]
    return Group(table, *reasons, *notes)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("model", "weights", "precision", "without"))


def _mean(rows: Sequence[Mapping[str, Any]], name: str, form: str) -> str:
    """`–` where a picture has no figure, `∞` where nothing differs in one."""
    values = []
    for row in rows:
        quality = row.get("quality")
        if quality is None or not quality["finite"]:
            return "–"
        if quality[name] is None:
            if name == "psnr_db" and quality["identical"]:
                return "∞"
            return "–"
        values.append(quality[name])
    return format(sum(values) / len(values), form)
