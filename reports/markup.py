"""Values → HTML. Every text is escaped on its way in; only what `tag` itself made passes as markup."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

VOID = {"br", "hr", "img", "input", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(child: object) -> str:
    return child if isinstance(child, Html) else html.escape(str(child), quote=True)


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. `class_` is written class, `data_v` data-v; an attribute that is None or False is left out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if given is True else f'="{html.escape(str(given), quote=True)}"')
        for key, given in attributes.items()
        if given is not None and given is not False
    )
    inside = "".join(map(escaped, children))
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{inside}</{name}>")


def joined(parts: Iterable[object], between: object = "") -> Html:
    return Html(escaped(between).join(map(escaped, parts)))


def data_block(identifier: str, data: object) -> Html:
    """JSON that a script can read and no parser can mistake for markup: `<`, `>` and `&` are written as escapes."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="{html.escape(identifier, quote=True)}">{text}</script>')


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """A list of names and values."""
    return tag("dl", *(joined((tag("dt", name), tag("dd", value))) for name, value in pairs))


def region(label: str, *children: object, tall: bool = False) -> Html:
    """A box that scrolls sideways where the window is narrow, reachable by keyboard; `tall`: downwards too."""
    kind = "scroll tall" if tall else "scroll"
    return tag("div", *children, class_=kind, tabindex="0", role="region", aria_label=label)


def simple_table(head: Sequence[object], rows: Iterable[Sequence[object]], label: str) -> Html:
    """A small table without controls. Cells that start as a figure does stand to the right."""
    body = [tag("tr", *(tag("td", cell, class_="n" if _is_figure(cell) else None) for cell in row)) for row in rows]
    heads = tag("tr", *(tag("th", name, scope="col") for name in head))
    return region(label, tag("table", tag("thead", heads), tag("tbody", *body)))


def _is_figure(cell: object) -> bool:
    return not isinstance(cell, Html) and (str(cell)[:1].isdigit() or str(cell)[:1] in "∞±–")
