"""`bench engines`: usable or not, and what makes them usable."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bench.exit_codes import OK
from bench.terminal import console_for

if TYPE_CHECKING:
    from engines.engine import Engine

ORDER = 60


def add(commands: Any) -> None:
    parser = commands.add_parser("engines", help="the engines: usable or not, and what makes them usable")
    parser.add_argument("--settings", action="store_true", help="also list what `--set ENGINE.NAME=VALUE` takes")
    parser.set_defaults(command=_engines)


def _engines(arguments: argparse.Namespace) -> int:
    from rich.markup import escape
    from rich.table import Table

    import engines

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("engine", "usable", "version", "precisions", "what it is, or what makes it usable"):
        table.add_column(name, overflow="fold")
    for engine in map(engines.get, engines.names()):
        reason = engine.missing()
        precisions = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in engine.precisions.items())
        about = f"{escape(reason)}: [bold]{escape(engine.install)}[/]" if reason else engine.title
        usable = "[red]no[/]" if reason else "[green]yes[/]"
        table.add_row(engine.name, usable, "" if reason else engine.version(), precisions, about)
    console = console_for()
    console.print(table)
    if arguments.settings:
        for engine in map(engines.get, engines.names()):
            if engine.settings:
                console.print(_settings(engine))
    return OK


def _settings(engine: Engine) -> Any:
    """A table of what `--set` takes for an engine."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("--set", "values, the default first", "what it chooses"):
        table.add_column(name, overflow="fold")
    for setting in engine.settings:
        others = [choice for choice in setting.choices if choice != setting.default]
        table.add_row(f"{engine.name}.{setting.name}=", " ".join([f"[bold]{setting.default}[/]", *others]), setting.doc)
    return table
