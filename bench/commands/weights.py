"""`bench weights`: lists the trained weights that ship, imports published ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import Parser, add_model, option_words
from bench.exit_codes import OK

if TYPE_CHECKING:
    from reference_models.cards import Card
    from reference_models.spec import ModelSpec

ORDER = 40


def add(commands: Any) -> None:
    parser = commands.add_parser("weights", help="trained weights that ship; import published ones")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Parser)
    shipped = actions.add_parser(
        "list",
        help="those that ship with the networks",
        description="What was trained for this project: for which task, at what cost, and what it reaches on pictures "
        "that it was not trained on, from the cards beside the weights.",
    )
    shipped.set_defaults(command=_weights_list)
    importer = actions.add_parser(
        "import",
        help="a released checkpoint → safetensors",
        description="Reads a TensorFlow checkpoint (model.ckpt or one of its files) or a safetensors file of the same "
        "tensors; needs nothing besides this package.",
    )
    add_model(importer)
    importer.add_argument("--from", required=True, dest="source", metavar="CHECKPOINT")
    importer.add_argument("--output", required=True, metavar="FILE.safetensors")
    importer.set_defaults(command=_weights_import)


def _weights_list(arguments: argparse.Namespace) -> int:
    print(table_of_shipped())
    return OK


def table_of_shipped() -> str:
    """What ships, from the cards, as a Markdown table: a line for every figure of every file."""
    lines = ["| `--model` | `--weights` | task | reached | beside it | on | trained |", "| --- |" + " --- |" * 6]
    for spec, name, card in _shipped():
        cost = f"{card.all_steps:,} steps, {card.all_seconds / 60:.0f} min"
        for figure in card.figures:
            on = f"{figure.pictures} ({figure.count})"
            reached = f"{figure.reached} | {figure.beside}"
            lines.append(f"| `{spec.word}` | `{name}` | {card.task} | {reached} | {on} | {cost} |")
    return "\n".join(lines)


def _shipped() -> Iterator[tuple[ModelSpec, str, Card]]:
    """Network, name and card of all that ships, of every scale that a network offers."""
    import reference_models
    from reference_models.cards import read_card
    from reference_models.weights import resolve_weights

    for model in reference_models.names():
        spec = reference_models.get(model)
        scales = next((option.choices for option in spec.offers if option.name == "scale"), ())
        choices = [spec, *(reference_models.get(model, {"scale": scale}) for scale in scales)]
        for choice in {choice.word: choice for choice in choices}.values():
            for name in choice.weights:
                card = read_card(resolve_weights(choice, name))
                if card:
                    yield choice, name, card


def _weights_import(arguments: argparse.Namespace) -> int:
    from bench.case import spec_from_word
    from reference_models.choices import parse_options
    from reference_models.weights import import_weights

    spec = spec_from_word(arguments.model, parse_options(option_words(arguments)))
    found = import_weights(spec, Path(arguments.source), Path(arguments.output))
    print(f"{arguments.output}: {found['tensors']} tensors, {found['parameters']} parameters of {spec.title}")
    print(f"  left out: {found['dropped']} tensors that only training uses; sha256 {found['sha256']}")
    print(f"  next: bench apply --model {spec.word} --weights {arguments.output} --input PICTURE --output OUT.png")
    return OK
