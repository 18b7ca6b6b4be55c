"""`bench weights`: imports published weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.arguments import Parser, add_model, option_words
from bench.exit_codes import OK

ORDER = 40


def add(commands: Any) -> None:
    parser = commands.add_parser("weights", help="import published weights")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Parser)
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
