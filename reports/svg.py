"""What matplotlib wrote as SVG → one that stands inside a page, and one that stands alone.

In a page styles must not be inline (the page's policy forbids them), ids must not meet those of other figures, and the
ink must be the text's own colour, so that dark, light and print need no second drawing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

INK = "#010203"
"""Colour that stands for the text's colour while drawing."""
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_FONT = re.compile(r"(?:(?:normal|italic|oblique|small-caps|bold|\d+)\s+)*([\d.]+)px(?:\s*/\s*[\d.]+)?\s+(.*)")
_STANDALONE = "svg{color:#1b1b1b}@media(prefers-color-scheme:dark){svg{color:#e8e8e8}}"


def inlined(
    source: str, name: str, label: str, hints: Mapping[str, Sequence[str]] | None = None, rows: Sequence[float] = ()
) -> str:
    """The drawing as an element of a page.

    Args:
        source: a whole SVG document of matplotlib, text kept as text.
        name: goes before every id.
        label: what the figure shows, for those who do not see it.
        hints: id of a group → what to show where one points at its marks, in the order drawn.
        rows: where each row of panels begins, from above, in the drawing's own units: where it may be parted.
    """
    root = ElementTree.fromstring(source)
    for unwanted in ("metadata", "style", "defs"):
        for parent in list(root.iter()):
            for child in parent.findall(f"{_SVG}{unwanted}"):
                if unwanted != "defs" or not len(child):
                    parent.remove(child)
    for element in list(root.iter()):
        _add_titles(element, (hints or {}).get(element.get("id", ""), ()))
        _clean(element, name)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": label, "id": name, "font-family": "inherit", "fill": "currentColor"}
    if rows:
        root.attrib["data-rows"] = " ".join(f"{top:.1f}" for top in rows)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return ElementTree.tostring(root, encoding="unicode")


def _add_titles(group: ElementTree.Element, hints: Sequence[str]) -> None:
    """Names the marks of a group, or the group itself where it is a text; a mark in two halves is drawn twice."""
    marks = list(group.iter(f"{_SVG}use")) or [group]
    if hints and len(marks) % len(hints) == 0:
        for place, mark in enumerate(marks):
            title = ElementTree.Element(f"{_SVG}title")
            title.text = hints[place % len(hints)]
            mark.insert(0, title)


def standalone(inline: str) -> str:
    """The same drawing as a file: transparent, its ink dark or light as the viewer asks for."""
    style = f"<style>{_STANDALONE}</style>"
    head, bracket, rest = inline.partition(">")
    head = head.replace('font-family="inherit"', 'font-family="DejaVu Sans, Arial, sans-serif"')
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{bracket}{style}{rest}\n'


def _clean(element: ElementTree.Element, name: str) -> None:
    for key, text in _style(element.attrib.pop("style", "")).items():
        element.attrib[key] = text
    for key, text in list(element.attrib.items()):
        if key == "id":
            element.attrib[key] = f"{name}-{text}"
        elif key == f"{_XLINK}href":
            del element.attrib[key]
            element.attrib["href"] = f"#{name}-{text[1:]}" if text.startswith("#") else text
        elif "url(#" in text:
            element.attrib[key] = text.replace("url(#", f"url(#{name}-")
        elif text.lower() == INK:
            element.attrib[key] = "currentColor"


def _style(text: str) -> dict[str, str]:
    """Declarations as attributes of the same meaning; the font's family is left to the page."""
    found = {}
    for declaration in text.split(";"):
        key, colon, given = (part.strip() for part in declaration.partition(":"))
        if key == "font" and (match := _FONT.match(given)):
            found["font-size"] = match[1]
            if "bold" in given or re.match(r"[6-9]00\b", given):
                found["font-weight"] = "bold"
        elif colon and key not in ("font-family", "font"):
            found[key] = given
    return found


def register_names() -> None:
    """Makes the serialiser write plain `<svg>` in place of `<ns0:svg>`."""
    ElementTree.register_namespace("", _SVG[1:-1])


register_names()
