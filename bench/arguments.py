"""Options that several commands share, and a parser that says wrong use in the house's three parts."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from reference_models.errors import UserError, nearest, unknown

if TYPE_CHECKING:
    from bench.case import Request


class Parser(argparse.ArgumentParser):
    """Says wrong use in the house's three parts, with the nearest right word. Options are not abbreviated."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but an unknown option or an empty value is named before anything that is missing."""
        given = list(sys.argv[1:] if args is None else args)
        if not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            self._check(given)
        found, left = super().parse_known_args(given, namespace)
        if left:
            raise UserError(
                f"`{self.prog}`: `{left[0]}` is one word too many", "options and their values", self._help_shows()
            )
        return found, left

    def _check(self, given: Sequence[str]) -> None:
        for word, following in zip(given, [*given[1:], None], strict=False):
            option, equals, value = word.partition("=")
            if not option.startswith("--"):
                continue
            if option not in self._option_string_actions:
                known = [w for w in self._option_string_actions if w.startswith("--")]
                guess = nearest_option(option, known)
                raise UserError(
                    f"`{self.prog} {option}`: not an option of this command",
                    ", ".join(known),
                    f"Did you mean {guess}?" if guess else self._help_shows(),
                )
            given_value = value if equals else following
            if given_value is not None and not given_value.strip(" ,"):
                raise UserError(f"`{option}`: its value is empty", "a value", self._help_shows())

    def _help_shows(self) -> str:
        return f"`{self.prog} --help` shows them"

    def error(self, message: str) -> NoReturn:
        if match := re.search(r"invalid choice: '(.*?)'", message):
            commands = [w for a in self._actions if isinstance(a, argparse._SubParsersAction) for w in a.choices]
            raise unknown(self.prog, match[1], "command", commands, self._help_shows())
        if match := re.fullmatch(r"argument (\S+): invalid (\w+) value: '(.*)'", message):
            kind = {"int": "a whole number", "float": "a number"}.get(match[2], match[2])
            raise UserError(f"`{match[1]} {match[3]}`: not {kind}", kind, f"`{self.prog} --help` describes it")
        raise UserError(f"`{self.prog}`: {message.replace(chr(10), ' ')}", "complete options", self._help_shows())


def nearest_option(word: str, known: Sequence[str]) -> str | None:
    """The option that `word` was most likely meant to be: one that begins it or that it begins, else the most alike."""
    least = len("--res")  # shorter beginnings, such as that of `--a`, say nothing
    begins = [option for option in known if len(option) >= least and word.startswith(option)]
    begun = [option for option in known if len(word) >= least and option.startswith(word)]
    return max(begins, key=len, default=None) or min(begun, key=len, default=None) or nearest(word, known)


def add_choices(parser: argparse.ArgumentParser, many: bool, model_required: bool = True) -> None:
    """The choices that every command shares; `many`: comma-separated lists."""
    each = "[,...]" if many else ""
    add_model(parser, many, model_required)
    parser.add_argument(
        "--engine",
        metavar=f"E{each}",
        help="or E:NAME=VALUE for a setting; default: the fastest usable one" + _beside(many),
    )
    parser.add_argument("--precision", default="fp32", metavar=f"P{each}", help=PRECISION_HELP)
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu or cuda:0")
    add_network(parser, many)
    add_lowering(parser)
    add_tiles(parser, each)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all usable cores)")
    add_settings(parser)


def add_tiles(parser: argparse.ArgumentParser, each: str) -> None:
    """Whole pictures, or tiles that give the same."""
    parser.add_argument(
        "--tile",
        default="off",
        metavar=f"T{each}",
        help="off (default): whole pictures; auto: the fastest tiles that fit into memory; N or WxH: tiles of so many "
        "pixels of the network's input, halo included. Tiles give exactly what whole pictures give, or are refused",
    )
    parser.add_argument(
        "--memory", metavar="MIB", help="what a tiled case may take, enforced by RLIMIT_DATA (default: what is free)"
    )


def _beside(many: bool) -> str:
    return ", with torch_eager beside it" if many else ""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Settings of engines."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ENGINE.NAME=VALUE",
        dest="settings",
        help="one setting of an engine; `bench engines --settings` lists them; may be repeated",
    )


def add_model(parser: argparse.ArgumentParser, many: bool = False, required: bool = True) -> None:
    """Which network, and what is chosen of what it offers."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="M[,...]" if many else "M",
        help="network (`bench models` lists them), package.module:Factory or FILE.onnx; M:NAME=VALUE chooses an option "
        "of this one" + ("; all: every network of the list" if many else ""),
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="options",
        help="one option of the network, such as depth=7; `bench models --options` lists them; may be repeated",
    )
    parser.add_argument("--operator", metavar="NAME", help="short for --option operator=NAME (can32_multi)")


def option_words(arguments: argparse.Namespace) -> list[str]:
    """The NAME=VALUE words of the network's options."""
    return [*arguments.options, *([f"operator={arguments.operator}"] if arguments.operator else [])]


def add_network(parser: argparse.ArgumentParser, many: bool) -> None:
    each = "[,...]" if many else ""
    parser.add_argument(
        "--statistics",
        metavar=f"S{each}",
        help="where normalisation statistics come from: image (as published), frozen (calibrated once, folded into the "
        "weights), thumbnail (of the picture reduced four times, folded per picture)",
    )
    parser.add_argument("--weights", metavar="NAME|FILE", help=WEIGHTS_HELP)
    parser.add_argument(
        "--calibration",
        metavar="FILE|DIR",
        help="pictures for frozen statistics and quantisation, never those that are judged (default: shipped)",
    )


WEIGHTS_HELP = (
    "trained weights: a file, or a name among those that ship (`bench models NAME` lists them; default: the first of "
    "them); none: untrained, and marked so, as is every network that ships with none"
)
PRECISION_HELP = (
    "fp32 (default), tf32, bf16, fp16, int8, int8+fp16, fp8, or auto: int8 where --floor allows it; `bench engines` "
    "says which engine has which"
)


def add_lowering(parser: argparse.ArgumentParser) -> None:
    """How a graph is brought to int8, int8+fp16, fp8 or auto."""
    group = parser.add_argument_group("quantised precisions (docs/precision.md)")
    group.add_argument(
        "--recovery",
        default="fast",
        metavar="HOW",
        help="what is done against the loss: none, or fast (default: rounding that cancels errors, equalised channels; "
        "seconds to minutes, once, then cached)",
    )
    group.add_argument(
        "--clipping",
        default="minmax",
        metavar="HOW",
        help="how activations' ranges are found on calibration pictures: minmax (default), mse, percentile, entropy, "
        "or best: whichever of the first three loses least there",
    )
    group.add_argument(
        "--weight-bits",
        metavar="N",
        help="of int8 weights, 7 or 8 (default: what the processor here multiplies exactly; on GPUs 8). Give 7 for a "
        "file that x86 processors without VNNI will run: with 8 their sums overflow without a word",
    )
    group.add_argument(
        "--floor",
        metavar="DB",
        help="auto: PSNR against FP32 of the same statistics to keep on held-back pictures, such as 42dB",
    )
    group.add_argument(
        "--layers", metavar="FILE.json", help="layers and their precisions, as --precision auto writes them"
    )


def lowering_from_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line asks of recipes.

    Raises:
        UserError: an unknown word, a floor that is no number, or a file that does not say layers.
    """
    from export.recipe import CLIPPING, RECOVERY, WEIGHT_PEAK

    for option, known in (("recovery", RECOVERY), ("clipping", CLIPPING)):
        if getattr(arguments, option) not in known:
            raise unknown(f"--{option}", getattr(arguments, option), "way", known, "Give one of these")
    asked: dict[str, Any] = {"recovery": arguments.recovery, "clipping": arguments.clipping}
    if arguments.weight_bits is not None:
        numbers = sorted(str(bits) for bits in WEIGHT_PEAK)
        if arguments.weight_bits not in numbers:
            raise unknown("--weight-bits", arguments.weight_bits, "number", numbers, "Give one of these")
        asked["weight_bits"] = int(arguments.weight_bits)
    if arguments.floor is not None:
        asked["floor_db"] = decibels(arguments.floor, "--floor")
    if arguments.layers is not None:
        from bench.layers import read_layers

        asked["layers"] = read_layers(arguments.layers)
    return asked


def decibels(word: str, option: str, low: float = 10, high: float = 120) -> float:
    """A PSNR in dB, as `42dB` or `42`.

    Raises:
        UserError: no PSNR, or out of range.
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(?:dB)?", word, re.IGNORECASE)
    if not match or not low <= float(match[1]) <= high:
        raise UserError(f"`{option} {word}`: not a PSNR", f"{low:g}dB to {high:g}dB", f"Try {option} 42dB")
    return float(match[1])


def share(word: str, option: str) -> float:
    """A share between 0 and 1, as `5%` or `0.05`.

    Raises:
        UserError: no number, or out of range.
    """
    number, percent, rest = word.partition("%")
    found = 0.0
    with contextlib.suppress(ValueError):
        found = float(number) / (100 if percent else 1)
    if rest.strip() or not 0 < found < 1:
        raise UserError(f"`{option} {word}`: not a share", "more than 0 % and less than 100 %", f"Try {option} 5%")
    return found


def split_words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def request_from_arguments(arguments: argparse.Namespace, resolutions: Sequence[str]) -> Request:
    from bench.case import Request
    from bench.memory_plan import parse_memory
    from bench.plugin_choice import with_plugins

    return Request(
        models=split_words(arguments.model) or [arguments.model],
        resolutions=resolutions,
        engines=with_plugins(split_words(arguments.engine), split_words(getattr(arguments, "plugins", None))),
        precisions=split_words(arguments.precision),
        statistics=split_words(arguments.statistics),
        device=arguments.device,
        weights=arguments.weights,
        original=getattr(arguments, "original", None),
        threads=arguments.threads,
        settings=arguments.settings,
        options=option_words(arguments),
        lowering=lowering_from_arguments(arguments),
        tiles=split_words(arguments.tile),
        memory_mib=parse_memory(arguments.memory),
    )
