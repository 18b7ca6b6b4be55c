"""The answer first: per network, size and machine the fastest row that keeps the stated quality."""

from __future__ import annotations

from collections.abc import Sequence

from reports.answer import Answer, distinction, distinctions
from reports.figures import figure, half_width, milliseconds, psnr
from reports.markup import Html, simple_table, tag
from reports.report import Report
from reports.row import Row

TITLE = "The answer"
ORDER = 10
HEAD = (
    "network and size",
    "median",
    "fastest that keeps it",
    "95 %",
    "fps",
    "MiB",
    "PSNR",
    "against torch",
    "not told apart",
    "faster, but below",
)


def render(report: Report) -> str:
    found = report.answers
    if not found:
        return tag("p", "No row has a result: there is nothing to choose from.", class_="bad")
    machines = len({answer.first.machine_key for answer in found}) > 1
    text = (
        f"Per network and size the fastest row that keeps {report.floor_db:g} dB PSNR against the FP32 reference "
        "with the same weights. Rows that keep it too and whose intervals overlap that of the fastest are named: these "
        "runs do not tell them apart. Torch is eager torch in fp32 on the same device. Named last is what was faster "
        "and does not keep it."
    )
    head = (*HEAD, "machine") if machines else HEAD
    varied = distinctions([answer.first for answer in found])
    table = simple_table(head, (_line(answer, report.floor_db, machines, varied) for answer in found), "The answers")
    return tag("p", text) + table


def _line(answer: Answer, floor_db: float, machines: bool, varied: Sequence[str]) -> list[object]:
    first = answer.first
    size = first.size if first.resolution == first.size else f"{first.resolution} ({first.size})"
    apart = distinction(first, varied)
    median, *rest = _figures(answer, floor_db)
    below = [tag("div", text, class_="size") for text in (size, apart) if text]
    cells = [Html(network(first) + "".join(below)), median, *rest]
    return [*cells, first.machine_name] if machines else cells


def _figures(answer: Answer, floor_db: float) -> list[object]:
    best = answer.best
    if best is None:
        near = answer.nearest
        said = f"none keeps {floor_db:g} dB" + (
            f"; the best is {near.how} with {psnr(near)}" if near else "; none was judged"
        )
        return ["–", tag("span", said, class_="bad"), *["–"] * 7]
    speed = f"{answer.speed_up:.2f}×" if answer.speed_up and best is not answer.yardstick else "–"
    name = Html(tag("strong", best.how) + "".join(" " + mark(word) for word in answer.cautions))
    close = ", ".join(row.how for row in answer.close[:4]) + (" …" if len(answer.close) > 4 else "")
    mib = figure(best, "memory.host_peak_mib")
    return [
        milliseconds(best),
        name,
        half_width(best),
        figure(best, "throughput_fps"),
        mib,
        psnr(best),
        speed,
        tag("div", close or "–", class_="words"),
        _coarse(answer.too_coarse),
    ]


def _coarse(rows: Sequence[Row]) -> object:
    """The fastest rows of too low a quality, each with what it has."""
    said = ", ".join(f"{row.how} ({milliseconds(row)}, {psnr(row)})" for row in rows[:2])
    return tag("div", (said or "–") + (" …" if len(rows) > 2 else ""), class_="words")


def network(row: Row) -> Html:
    return Html(tag("span", row.model) + ("" if row.trained else " " + mark("untrained")))


def mark(word: str) -> Html:
    return tag("span", word, class_=f"mark {'failed' if 'failed' in word else word.replace(' ', '-')}")
