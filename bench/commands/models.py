"""`bench models`: the networks, with their sources; `bench models NAME`: all that is declared of one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.exit_codes import OK
from bench.terminal import console_for

if TYPE_CHECKING:
    from reference_models.spec import ModelSpec

ORDER = 50


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "models",
        help="the networks, with their sources",
        description="Lists the networks. With names: everything that is declared of these.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks to describe in full")
    parser.add_argument("--options", action="store_true", help="list what `--option NAME=VALUE` takes")
    parser.add_argument(
        "--work", action="store_true", help="Markdown table of parameters and multiply-accumulates (loads PyTorch)"
    )
    parser.set_defaults(command=_models)


def _models(arguments: argparse.Namespace) -> int:
    import reference_models
    from bench.case import spec_from_word

    specs = [spec_from_word(name, {}) for name in arguments.names or reference_models.names()]
    console = console_for()
    if arguments.work:
        print("\n".join(work_table(specs)))
    elif arguments.names:
        for spec in specs:
            console.print(_described(spec))
    elif arguments.options:
        for spec in specs:
            for line in _options(spec):
                console.print(f"[bold]{spec.name}[/]  {line}", highlight=False)
    else:
        head, *lines = table_lines(specs, console.width)
        console.print(head, style="bold", soft_wrap=True)
        console.print("\n".join(lines), markup=False, soft_wrap=True)
        console.print(
            "[dim]bench models NAME: all that is declared of one, such as its weights and halo\n"
            "next: bench run --model NAME --res 1440p[/]"
        )
    return OK


def work_table(specs: Sequence[ModelSpec]) -> list[str]:
    """Lines of a Markdown table: parameters, multiply-accumulates per megapixel that comes out, the paper's figures.

    Counted for an output of 1920x1080; a global branch of fixed size is in it, so that other sizes differ a little.
    """
    from reference_models.counting import count_size

    width, height = 1920, 1080
    lines = ["| model | parameters | GMAC per megapixel out | the paper's own figures |", "| --- | --: | --: | --- |"]
    for spec in specs:
        size = count_size(spec, width, height)
        figures = "; ".join(f"{f.what}: {f.value:g} {f.unit} ({f.where})" for f in spec.figures) or "none recorded here"
        rate = size.macs / (width * height) / 1e3
        lines.append(f"| `{spec.name}` | {size.parameters:,} | {rate:.2f} | {figures} |")
    return lines


def table_lines(specs: Sequence[ModelSpec], width: int) -> list[str]:
    """A head and one line a network, of at most `width` characters: what does not fit is cut from the description."""
    rows = [("model", "task", "scale", "network")]
    rows += [(s.name, s.task, f"×{s.enlarges}" if s.enlarges > 1 else "", s.description) for s in specs]
    sides = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row, sides), row[3]]) for row in rows]
    return [line if len(line) <= width else line[: width - 1].rstrip() + "…" for line in lines]


def _described(spec: ModelSpec) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1), title_justify="left")
    table.title = f"\n[bold]{spec.name}[/]: {escape(spec.description)}"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(spec):
        table.add_row(name, escape(text))
    return table


def _facts(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    yield "family", f"{spec.family}; {spec.task}"
    yield "source", spec.source
    yield "licence", spec.licence
    for line in _options(spec):
        yield "option", line
    yield from ends_in_words(spec).items()
    if spec.receptive_field_px is not None:
        yield "receptive field", f"{spec.receptive_field_px} px; halo {spec.halo_px} px of the input"
    yield "tiles", f"not exact: {spec.whole_picture}" if spec.whole_picture else _tiles(spec)
    if spec.statistics:
        yield "statistics", ", ".join(spec.statistics)
    judged = spec.evaluation
    yield "paper judges", f"{judged.channels}, {judged.border_px} px cut{'; ' + judged.note if judged.note else ''}"
    for figure in spec.figures:
        yield "paper says", f"{figure.what}: {figure.value:g} {figure.unit} ({figure.where})"
    yield "weights", ", ".join(spec.weights) or "none ship: untrained, or --weights FILE"


def ends_in_words(spec: ModelSpec) -> dict[str, str]:
    """What the input tensor holds, what the output tensor, and the sizes it takes."""
    enlarged = f", the picture enlarged ×{spec.pre_upscale} (bicubic) first" if spec.pre_upscale > 1 else ""
    values = " ".join(f"{value:g}" for value in spec.constant_planes)
    constant = f", the last {len(spec.constant_planes)} constant: {values}" if spec.constant_planes else ""
    low, high = spec.output_range
    scores = spec.output == "classes"
    shown = "scores, the largest wins" if scores else f"in [{low:g}, {high:g}], {spec.rounding} to uint8"
    fixed = [spec.options.get(side) for side in ("width", "height")] if spec.onnx and spec.options else None
    smallest = f", at least {spec.min_size}" if spec.min_size > 1 else ""
    sizes = "any" if spec.size_multiple == 1 and not smallest else f"multiples of {spec.size_multiple}{smallest}"
    return {
        "input": f"{spec.input}: {spec.input_planes} planes{constant}{enlarged}",
        "output": f"{spec.output}: {spec.output_planes} planes, {shown}, ×{spec.upscale}",
        "sizes": f"{fixed[0]}x{fixed[1]} only" if fixed else sizes,
    }


def _tiles(spec: ModelSpec) -> str:
    return "exact with that halo" + (", unless statistics are of the whole picture" if spec.statistics else "")


def _options(spec: ModelSpec) -> Iterator[str]:
    from reference_models.choices import allowed

    for option in spec.offers:
        yield f"--option {option.name}=… ({allowed(option)}; default {option.default}): {option.doc}"
