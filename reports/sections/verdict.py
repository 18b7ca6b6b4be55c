"""The answer first: per network, size and machine the fastest row that keeps the stated quality."""

from __future__ import annotations

from collections.abc import Sequence

from reports.answer import Answer, distinction, distinctions
from reports.figures import figure, half_width, judged, milliseconds, original_parts, psnr
from reports.markup import Html, simple_table, tag
from reports.report import Report
from reports.row import Row

TITLE = "The answer"
ORDER = 10
HEAD = ("network and size", "median", "fastest that keeps it", "95 %", "fps", "MiB", "PSNR")
MORE = ("against torch", "not told apart", "faster, but below")


def render(report: Report) -> str:
    found = report.answers
    if not found:
        return tag("p", "No row has a result: there is nothing to choose from.", class_="bad")
    machines = len({answer.first.machine_key for answer in found}) > 1
    original = ("to the original",) if report.has_original else ()
    head = (*HEAD, *original, *MORE, *(("machine",) if machines else ()))
    varied = distinctions([answer.first for answer in found])
    lines = []
    for answer in found:
        figures = _figures(answer, report)
        lines.append([_subject(answer.first, varied), *figures, *([answer.first.machine_name] if machines else [])])
    return tag("p", _text(report)) + simple_table(head, lines, "The answers")


def _text(report: Report) -> str:
    against = "" if report.floor.endswith("original") else " PSNR against the FP32 reference with the same weights"
    return (
        f"Per network and size the fastest row that keeps {report.floor}{against}. Rows that keep it too and whose "
        "intervals overlap that of the fastest are named: these runs do not tell them apart. Torch is eager torch in "
        "fp32 on the same device. Named last is what was faster and does not keep it."
    )


def _subject(first: Row, varied: Sequence[str]) -> Html:
    size = first.size if first.resolution == first.size else f"{first.resolution} ({first.size})"
    below = [tag("div", text, class_="size") for text in (size, distinction(first, varied)) if text]
    return Html(network(first) + "".join(below))


def _figures(answer: Answer, report: Report) -> list[object]:
    best = answer.best
    columns = len(HEAD) + len(MORE) - 3 + report.has_original
    if best is None:
        near = answer.nearest
        said = f"; the best is {near.how} with {judged(near)}" if near else "; none was judged"
        return ["–", tag("span", f"none keeps {report.floor}{said}", class_="bad"), *["–"] * columns]
    speed = f"{answer.speed_up:.2f}×" if answer.speed_up and best is not answer.yardstick else "–"
    name = Html(tag("strong", best.how) + "".join(" " + mark(word) for word in answer.cautions))
    close = ", ".join(row.how for row in answer.close[:4]) + (" …" if len(answer.close) > 4 else "")
    kept = [milliseconds(best), name, half_width(best), figure(best, "throughput_fps")]
    kept += [figure(best, "memory.host_peak_mib"), psnr(best), *([_original(best)] if report.has_original else [])]
    return [*kept, speed, tag("div", close or "–", class_="words"), _coarse(answer.too_coarse)]


def _original(row: Row) -> Html:
    """The figure, and below it what it has to be seen beside."""
    decibels, *beside = original_parts(row)
    return Html(tag("span", decibels) + "".join(tag("div", text, class_="size") for text in beside))


def _coarse(rows: Sequence[Row]) -> object:
    """The fastest rows of too low a quality, each with what it has."""
    said = ", ".join(f"{row.how} ({milliseconds(row)}, {judged(row)})" for row in rows[:2])
    return tag("div", (said or "–") + (" …" if len(rows) > 2 else ""), class_="words")


def network(row: Row) -> Html:
    return Html(tag("span", row.model) + ("" if row.trained else " " + mark("untrained")))


def mark(word: str) -> Html:
    return tag("span", word, class_=f"mark {'failed' if 'failed' in word else word.replace(' ', '-')}")
