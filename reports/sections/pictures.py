"""Input, reference, output and what differs, as pictures; a slider between reference and output."""

from __future__ import annotations

from reports.figures import milliseconds, psnr
from reports.markup import Html, joined, tag
from reports.pictures import CROP_PX, PictureSet, Shown
from reports.report import Report

TITLE = "Pictures"
ORDER = 110
LEFT_OUT = 30


def render(report: Report) -> str:
    gallery = report.gallery
    if not gallery.sets and not gallery.left_out:
        return ""
    return joined((*(_set(each) for each in gallery.sets), _left_out(gallery.left_out)))


def _set(found: PictureSet) -> Html:
    row = found.row
    head = tag("h3", row.title)
    several = (
        f"The first of {row.picture_count} pictures; the dB are the worst of all." if row.picture_count > 1 else ""
    )
    figures = f"{row.network}, {row.size}, {milliseconds(row)}, {psnr(row)} against the reference."
    said = tag("p", " ".join(text for text in (figures, several, found.note) if text))
    overview = [*found.overview, *(p for p in (found.difference, found.ssim_map) if p)]
    parts = [head, said, tag("div", *(_picture(p, row.title) for p in overview), class_="pictures")]
    if found.difference is not None:
        by_label = {picture.label: picture for picture in found.overview}
        parts.append(_slider(by_label["reference"], by_label["output"], row.title))
    if found.crops:
        left, top = found.crop_at
        where = f"Worst place: {CROP_PX}x{CROP_PX} pixels from ({left}, {top}), enlarged."
        parts += [tag("p", where), tag("div", *(_picture(p, row.title) for p in found.crops), class_="crops")]
    return tag("section", *parts, class_="case")


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


def _left_out(cases: object) -> Html:
    listed = list(cases)  # type: ignore[call-overload]
    if not listed:
        return Html("")
    lines = [tag("li", f"{title}: {reason}") for title, reason in listed[:LEFT_OUT]]
    if len(listed) > LEFT_OUT:
        lines.append(tag("li", f"and {len(listed) - LEFT_OUT} more"))
    head = tag("summary", f"{len(listed)} cases without pictures")
    return tag("details", head, tag("ul", *lines))
