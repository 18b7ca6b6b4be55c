"""`bench evaluate --original`: words → jobs of bench/generalisation.py → its rows as a table. Prints nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import option_words, split_words
from bench.preparing import as_graphs, lowerings, told
from export.recipe import HALF
from reference_models.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.case import Case

OWN_SIZE = "own"
"""Of `--res`: every picture at its own size, as the papers judge."""


def jobs_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One job per network and kind of statistics; everything that can be wrong about the words has been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.case import resolution_size
    from export.cache import cache_folder

    sets = _sets(arguments.images)
    sizes = split_words(arguments.res or OWN_SIZE)
    if len(sizes) != 1:
        raise UserError(f"`--res {arguments.res}`: several sizes with --original", "own, or one size", "Name one")
    shared = {
        "job": "generalise",
        "original": arguments.original,
        "engine": arguments.engine,
        "calibration": arguments.calibration,
        "sets": sets,
        "size": None if sizes[0] == OWN_SIZE else resolution_size(sizes[0]),
        "targets": str(cache_folder() / "targets"),
    }
    precisions = list(dict.fromkeys(split_words(arguments.precision or "fp32")))
    return [{**shared, **_job(arguments, choices, precisions)} for choices in _choices(arguments)]


def _choices(arguments: argparse.Namespace) -> list[list[Case]]:
    """Networks and statistics, each with its weights.

    Raises:
        UserError: wrong use.
    """
    from bench.case import Request, expand
    from bench.originals import originals_of

    def cases_of(model: str, weights: str | None) -> list[Case]:
        request = Request(
            [model], ["720p"], ["onnxruntime"], statistics=split_words(arguments.statistics), device="cpu",
            weights=weights, original=arguments.original, threads=arguments.threads, options=option_words(arguments),
        )  # fmt: skip
        return list(expand(request)[0])

    found: dict[tuple[str, str | None], list[Case]] = {}
    for model in dict.fromkeys(split_words(arguments.model)):
        for word in split_words(arguments.weights) or (None,):
            for case in cases_of(model, word):
                found.setdefault((case.model, case.statistics), []).append(case)
    originals_of([cases[0] for cases in found.values()], arguments.original)
    return list(found.values())


def _job(arguments: argparse.Namespace, cases: Sequence[Case], precisions: Sequence[str]) -> dict[str, Any]:
    from bench.record import file_sha256

    case = cases[0]
    weights = [
        {
            "name": c.weights_name,
            "file": c.weights,
            "trained": c.trained,
            "sha256": file_sha256(c.weights) if c.weights else None,
        }
        for c in cases
    ]
    lowered = as_graphs(case, arguments, [word for word in precisions if word != "fp32"])
    return {
        "spec": case.spec.to_json(),
        "model": case.model,
        "statistics": [case.statistics],
        "weights": weights,
        "lowerings": lowerings(lowered),
        "fp32": "fp32" in precisions,
        "threads": case.threads,
    }


def _sets(words: str | None) -> list[tuple[str, list[str | None]]]:
    """`[NAME=]FILE|DIR[,...]` → names and files; None is the default picture."""
    from reference_models.pictures import DEFAULT_PICTURE_NAME, list_pictures, read_picture

    found: dict[str, list[str | None]] = {}
    for word in split_words(words):
        name, equals, path = word.partition("=")
        if not equals or Path(word).exists():
            name, path = Path(word).resolve().name, word
        if name in found:
            raise UserError(f"`--images {words}`: two sets are called {name}", "names of their own", "NAME=DIR")
        pictures = list_pictures(path)
        for picture in pictures:
            read_picture(picture)
        found[name] = [str(picture) for picture in pictures]
    return list(found.items()) or [(DEFAULT_PICTURE_NAME, [None])]


def judged_rows(
    jobs: Sequence[Mapping[str, Any]], show: Callable[[str], Any]
) -> tuple[list[dict[str, Any]], Exception | None]:
    """Rows of all jobs, each with its model, statistics and whose placement of Q/DQ it has; up to a job that fails, and
    what is to be said of that.

    Args:
        show: called with a title; a context that gives a function of progress and words.
    """
    from bench.spawn import JobFailed, run_job

    rows: list[dict[str, Any]] = []
    for job in jobs:
        with show(f"evaluate {job['model']}") as report:

            def on_event(event: Mapping[str, Any], report: Callable[[float, str], None] = report) -> None:
                report(event.get("share", 0), event.get("name", ""))

            try:
                made = run_job(job, None, on_event)
            except JobFailed as failure:
                return rows, told(failure)
        facts = {"model": job["model"], "statistics": job["statistics"][0]}
        facts |= {key: job[key] for key in ("original", "engine")}
        rows += [{**facts, **row} for row in made["rows"]]
    return rows, None


def table_of_originals(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Networks and weights down, sets across: the mean over the set's pictures; what needs no network stands first.

    Rows whose figures mean something else, such as luma and RGB, stand in tables of their own.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for words in dict.fromkeys(row["convention"] for row in rows):
        alike = [row for row in rows if row["convention"] == words]
        parts += [_table(alike), Text(words)]
    counts = {name: len({row["picture"] for row in rows if row["set"] == name}) for name in _sets_of(rows)}
    size = rows[0]["size"]
    at = f"at {size[0]}x{size[1]}" if size else "at their own size"
    recipes = [row["recipe"] for row in rows if row.get("recipe")]
    bits = {recipe.get("weight_bits", 8) for recipe in recipes if recipe["precision"] not in HALF} - {8}
    words = f"Q/DQ as for {rows[0]['engine']}{''.join(f', weights of {n} bits' for n in bits)}"
    notes = [
        f"against {rows[0]['original']}; pictures: {', '.join(f'{n} {count}' for n, count in counts.items())}, {at}",
        f"{words}; graphs computed strictly as they stand, sums in FP32" if recipes else "",
        *dict.fromkeys(_failed(row) for row in rows if row["reason"]),
    ]
    return Group(*parts, *(Text(note) for note in notes if note))


def _failed(row: Mapping[str, Any]) -> str:
    named = " ".join(filter(None, (row["model"], row["precision"])))
    return f"{named}: {row['reason']}"


def _sets_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["set"] for row in rows))


def _table(rows: Sequence[dict[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("model", "weights", "precision"):
        table.add_column(name)
    for name in _sets_of(rows):
        table.add_column(Text(f"{name} dB"), justify="right")
        table.add_column("SSIM", justify="right", no_wrap=True)
    short = _short({row["weights"] for row in rows if row["weights"]})
    seen = set()
    for key in sorted(dict.fromkeys(_key(row) for row in rows), key=lambda key: key[2] is not None):
        own = [row for row in rows if _key(row) == key]
        cells = []
        for name in _sets_of(rows):
            mine = [row for row in own if row["set"] == name]
            cells += [_mean(mine, "psnr_db", ".2f"), _mean(mine, "ssim", ".4f")]
        if own[0]["weights"] is None:  # the same for every network of one task and one input
            if (own[0]["without"], *cells) not in seen:
                seen.add((own[0]["without"], *cells))
                table.add_row(own[0]["without"], "", "", *cells, style="dim")
            continue
        model = " ".join(filter(None, (own[0]["model"], own[0]["statistics"])))
        table.add_row(*map(Text, (model, short[own[0]["weights"]], own[0]["precision"])), *cells)
    return table


def _short(weights: Collection[str]) -> dict[str, str]:
    """Files without their folders, where that tells them apart; other names as they are."""
    files = {name: Path(name).name for name in weights}
    return files if len(set(files.values())) == len(files) else {name: name for name in weights}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("model", "statistics", "weights", "precision", "without"))


def _mean(rows: Sequence[Mapping[str, Any]], name: str, form: str) -> str:
    """`–` where a picture has no figure, else `∞` where nothing differs in one."""
    found = [row.get("quality") for row in rows]
    if any(quality is None or not quality["finite"] for quality in found):
        return "–"
    values = [quality[name] for quality in found if quality]
    if name == "psnr_db" and any(value is None for value in values):
        return "∞"
    return "–" if None in values else format(sum(values) / len(values), form)
