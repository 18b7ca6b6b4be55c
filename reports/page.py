"""A report → one HTML file that needs nothing else: skeleton, style, contents, policy. Reads no runs file.

The policy allows the page's own script and style by their hashes and pictures that it holds itself; nothing else runs
or is fetched, whatever a runs file says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from types import ModuleType

from reports import ordered_sections
from reports.markup import Html, tag
from reports.report import MOST_BYTES, Report

FIXED_BYTES = 10_000_000
"""Of the sections that leave nothing out by themselves; the rest is for the raw runs and the pictures."""
SKELETON_BYTES = 60_000
"""Head, header and contents, at most: their words are cut to a length."""


def page(report: Report) -> str:
    """The whole page. A section that has nothing to show is left out."""
    style, script = (resources.files("reports").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    texts = _texts(report, MOST_BYTES - len(style) - len(script) - SKELETON_BYTES)
    shown = [(_name(module.__name__), module.TITLE, text) for module, text in texts.items() if text]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"FullRes report: {subject(report)}"),
        Html(f"<style>{style}</style>"),
    )
    contents = tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in shown), aria_label="Contents")
    parts = [tag("section", tag("h2", title), body, id=name) for name, title, body in shown]
    body = tag("body", _header(report), contents, tag("main", *parts), Html(f"<script>{script}</script>"))
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"


def _texts(report: Report, most: int) -> dict[ModuleType, Html]:
    """The sections' texts, together at most so many bytes.

    Sections with a TURN are asked last, in that order, and told what room is left. Of the others the longest are
    replaced by a sentence while all together have more than FIXED_BYTES.
    """
    modules = ordered_sections()
    texts = {module: Html(module.render(report)) for module in modules if not hasattr(module, "TURN")}
    sizes = {module: len(text.encode()) for module, text in texts.items()}
    for module in sorted(sizes, key=lambda each: -sizes[each]):
        if sum(sizes.values()) > FIXED_BYTES:
            texts[module] = _too_long(sizes[module])
            sizes[module] = len(texts[module].encode())
    room = most - sum(sizes.values())
    for module in sorted((each for each in modules if each not in texts), key=lambda each: int(each.TURN)):
        texts[module] = Html(module.render(replace(report, room=room)))
        room -= len(texts[module].encode())
    return {module: texts[module] for module in modules}


def _too_long(size: int) -> Html:
    text = f"Left out: {size / 1e6:.0f} MB, and the page holds {MOST_BYTES / 1e6:.0f} MB at most."
    return tag("p", text + " The figures stand in the folder figures beside it, the numbers in the runs files.")


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def subject(report: Report) -> str:
    """What was measured on what, in a few words."""
    rows = report.rows
    models = _some(sorted({row.model for row in rows}), "networks")
    by_size = sorted(rows, key=lambda row: row.megapixels)
    sizes = _some(list(dict.fromkeys(row.resolution for row in by_size)), "sizes")
    machines = _some(sorted({row.machine_name for row in rows}), "machines")
    return f"{models} at {sizes} on {machines}" if rows else "no runs"


def _some(values: Sequence[str], many: str) -> str:
    return ", ".join(values) if len(values) <= 3 else f"{len(values)} {many}"


def _header(report: Report) -> Html:
    rows = report.rows
    ok = sum(row.ok for row in rows)
    times = sorted(row.time for row in rows if row.time)
    when = (
        f", measured {times[0][:10]}" + (f" to {times[-1][:10]}" if times[0][:10] != times[-1][:10] else "")
        if times
        else ""
    )
    severe = sum(doubt.severe for doubt in report.doubts)
    warned = tag("a", f"{severe} serious {'warning' if severe == 1 else 'warnings'}", href="#caution", class_="alarm")
    engines = _some(sorted({row.variant for row in rows}), "engines")
    said = f"{len(rows)} runs, {ok} with a result{when}. " + (f"Engines: {engines}." if rows else "")
    return tag(
        "header",
        tag("h1", "FullRes report"),
        tag("p", subject(report), class_="subject"),
        tag("p", said, " ", warned if severe else ""),
    )


def _name(module: str) -> str:
    return module.rpartition(".")[2]
