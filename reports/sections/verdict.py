"""The answer first: per network, size and machine the fastest row that keeps the stated quality."""

from __future__ import annotations

from reports.answer import Answer, answers
from reports.figures import figure, half_width, milliseconds, psnr
from reports.markup import Html, simple_table, tag
from reports.report import Report
from reports.row import Row

TITLE = "The answer"
ORDER = 10
HEAD = (
    "network",
    "size",
    "fastest that keeps it",
    "median",
    "95 %",
    "fps",
    "MiB",
    "PSNR",
    "against torch",
    "not told apart",
)


def render(report: Report) -> str:
    found = answers(report.rows, report.floor_db)
    if not found:
        return tag("p", "No row has a result: there is nothing to choose from.", class_="bad")
    machines = len({answer.first.machine_key for answer in found}) > 1
    text = (
        f"Per network and size the fastest row that keeps {report.floor_db:g} dB PSNR against the FP32 reference "
        "with the same weights. Rows whose intervals overlap its own are named: these runs do not tell them apart."
    )
    head = (*HEAD, "machine") if machines else HEAD
    table = simple_table(head, (_line(answer, report.floor_db, machines) for answer in found), "The answers")
    return tag("p", text) + table


def _line(answer: Answer, floor_db: float, machines: bool) -> list[object]:
    first = answer.first
    size = first.size if first.resolution == first.size else f"{first.resolution} ({first.size})"
    cells = [network(first), tag("span", size), *_figures(answer, floor_db)]
    return [*cells, first.machine_name] if machines else cells


def _figures(answer: Answer, floor_db: float) -> list[object]:
    best = answer.best
    if best is None:
        near = answer.nearest
        said = f"none keeps {floor_db:g} dB" + (
            f"; the best is {near.how} with {psnr(near)}" if near else "; none was judged"
        )
        return [tag("span", said, class_="bad"), *["–"] * 7]
    speed = f"{answer.speed_up:.2f}×" if answer.speed_up and best is not answer.yardstick else "–"
    name = Html(tag("strong", best.how) + (" " + mark("unstable") if best.unstable else ""))
    close = ", ".join(row.how for row in answer.close[:4]) + (" …" if len(answer.close) > 4 else "")
    mib = figure(best, "memory.host_peak_mib")
    return [
        name,
        milliseconds(best),
        half_width(best),
        figure(best, "throughput_fps"),
        mib,
        psnr(best),
        speed,
        close or "–",
    ]


def network(row: Row) -> Html:
    return Html(tag("span", row.model) + ("" if row.trained else " " + mark("untrained")))


def mark(word: str) -> Html:
    return tag("span", word, class_=f"mark {word}")
