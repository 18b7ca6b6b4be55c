"""Input, reference, output and what differs, as pictures; a slider between reference and output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.figures import milliseconds, original, psnr
from reports.markup import Html, joined, tag
from reports.pictures import CROP_PX, PictureSet, Shown
from reports.report import MOST_BYTES, Report

TITLE = "Pictures"
ORDER = 110
TURN = 2
"""After the raw runs when the rest of the page is given away."""
LEFT_OUT = 30
LIST_BYTES = 200_000
"""Of the list of cases without pictures, at most: their words are cut to a length."""


def render(report: Report) -> str:
    gallery = report.gallery
    if not gallery.sets and not gallery.left_out:
        return ""
    shown, beyond = _fitting(gallery.sets, report.room - LIST_BYTES)
    return joined((*shown, _left_out([*beyond, *gallery.left_out])))


def _fitting(sets: Iterable[PictureSet], room: int) -> tuple[list[Html], list[tuple[str, str]]]:
    """The sets that fit into so many bytes, and the titles of those that do not, with the reason."""
    shown: list[Html] = []
    beyond: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for each in sets:
        subject = (each.row.network, each.row.resolution)
        text = _set(each, opened=subject not in seen)
        seen.add(subject)
        size = len(text.encode())
        if size <= room:
            shown.append(text)
            room -= size
        else:
            beyond.append((each.row.title, f"the page holds {MOST_BYTES / 1e6:.0f} MB at most"))
    return shown, beyond


def _set(found: PictureSet, opened: bool) -> Html:
    """
    Args:
        opened: shown at once; the others on a click, since many cases of one network look alike.
    """
    row = found.row
    head = tag("summary", tag("h3", row.title))
    several = (
        f"The first of {row.picture_count} pictures; the dB are the worst of all." if row.picture_count > 1 else ""
    )
    figures = f"{row.network}, {row.size}, {milliseconds(row)}, {psnr(row)} against the reference."
    if row.original_db is not None:
        figures += f" To the original: {original(row)}."
    said = tag("p", " ".join(text for text in (figures, several, found.note) if text))
    overview = [*found.overview, *(p for p in (found.difference, found.ssim_map) if p)]
    parts = [head, said, tag("div", *(_picture(p, row.title) for p in overview), class_="pictures")]
    closer: list[Html] = []
    if found.difference is not None:
        by_label = {picture.label: picture for picture in found.overview}
        closer.append(_slider(by_label["reference"], by_label["output"], row.title))
    if found.crops:
        left, top = found.crop_at
        where = f"Worst place: {CROP_PX}x{CROP_PX} pixels from ({left}, {top}), enlarged."
        crops = tag("div", *(_picture(p, row.title) for p in found.crops), class_="crops")
        closer.append(tag("div", tag("p", where), crops, class_="worst"))
    return tag("details", *parts, tag("div", *closer, class_="closer"), class_="case", open=opened)


def _picture(shown: Shown, title: str) -> Html:
    image = tag("img", src=shown.uri, width=shown.width, height=shown.height, alt=f"{shown.label} of {title}")
    return tag("figure", image, tag("figcaption", shown.label))


def _slider(reference: Shown, output: Shown, title: str) -> Html:
    size = {"width": output.width, "height": output.height}
    below = tag("img", src=output.uri, alt=f"output of {title}, on the right of the slider", **size)
    above = tag("img", src=reference.uri, alt=f"reference, on the left of the slider: {title}", class_="above", **size)
    control = tag("input", type="range", min="0", max="100", value="50", aria_label=f"share of the reference: {title}")
    captions = tag("p", tag("span", "reference"), tag("span", "output"), class_="ends")
    return tag("div", tag("div", below, above, class_="stack"), control, captions, class_="slider")


def _left_out(listed: Sequence[tuple[str, str]]) -> Html:
    if not listed:
        return Html("")
    lines = [tag("li", f"{title}: {reason}") for title, reason in listed[:LEFT_OUT]]
    if len(listed) > LEFT_OUT:
        lines.append(tag("li", f"and {len(listed) - LEFT_OUT} more"))
    head = tag("summary", f"{len(listed)} {'case' if len(listed) == 1 else 'cases'} without pictures")
    return tag("details", head, tag("ul", *lines))
