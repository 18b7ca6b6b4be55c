"""Words → namespaces and requests; wrong use is said in three parts, with the nearest right word."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.arguments import (
    Parser,
    add_choices,
    add_model,
    lowering_from_arguments,
    nearest_option,
    option_words,
    request_from_arguments,
    share,
    split_words,
)
from bench.layers import Layers
from reference_models.errors import UserError


def refused(call: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


@pytest.fixture
def parser() -> Parser:
    found = Parser(prog="bench do")
    found.add_argument("--size", type=int, required=True)
    found.add_argument("--share", type=float)
    found.add_argument("--names")
    found.add_argument("files", nargs="*")
    return found


# The parser


def test_right_words_are_parsed(parser: Parser) -> None:
    found = parser.parse_args(["--size", "3", "a", "--names=x,y", "--share", "-0.5"])
    assert (found.size, found.names, found.share, found.files) == (3, "x,y", -0.5, ["a"])


@pytest.mark.parametrize(
    ("words", "what", "todo"),
    [
        (["--szie", "3"], "`bench do --szie`: not an option of this command", "Did you mean --size?"),
        (["--size-of-it", "3"], "`bench do --size-of-it`: not an option of this command", "Did you mean --size?"),
        (["--zzzzz=3"], "`bench do --zzzzz`: not an option of this command", "`bench do --help` shows them"),
        (["--siz", "3"], "`bench do --siz`: not an option of this command", "Did you mean --size?"),
        (["--size", "3", "-x"], "`bench do`: `-x` is one word too many", "`bench do --help` shows them"),
        (["--size", ""], "`--size`: its value is empty", "`bench do --help` shows them"),
        (["--size", "3", "--names", " , "], "`--names`: its value is empty", "`bench do --help` shows them"),
        (["--size", "3", "--names="], "`--names`: its value is empty", "`bench do --help` shows them"),
        (["--size", "3.5"], "`--size 3.5`: not a whole number", "`bench do --help` describes it"),
        (["--size", "3", "--share", "half"], "`--share half`: not a number", "`bench do --help` describes it"),
        ([], "`bench do`: the following arguments are required: --size", "`bench do --help` shows them"),
        (["--size"], "`bench do`: argument --size: expected one argument", "`bench do --help` shows them"),
    ],
)
def test_wrong_use_is_named_with_what_to_do(parser: Parser, words: list[str], what: str, todo: str) -> None:
    error = refused(lambda: parser.parse_args(words))
    assert error.what.startswith(what)
    assert error.todo == todo
    assert error.expected


def test_an_unknown_option_is_named_before_one_that_is_missing(parser: Parser) -> None:
    assert "--nmaes" in refused(lambda: parser.parse_args(["--nmaes", "x"])).what


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    parser = Parser(prog="bench")
    commands = parser.add_subparsers(parser_class=Parser, required=True, metavar="COMMAND")
    for name in ("run", "export"):
        commands.add_parser(name).add_argument("--model")
    error = refused(lambda: parser.parse_args(["exprot", "--model", "x"]))
    assert (error.what, error.expected, error.todo) == (
        "`bench exprot`: not a known command", "run, export", "Did you mean export?",
    )  # fmt: skip
    assert "--modle" in refused(lambda: parser.parse_args(["export", "--modle", "x"])).what
    assert "COMMAND" in refused(lambda: parser.parse_args([])).what


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("--resolution", "--res"),
        ("--resolutoin", "--res"),
        ("--options", "--option"),
        ("--out", "--output"),
        ("--stat", "--statistics"),
        ("--modle", "--model"),
        ("--engin", "--engine"),
        ("--r", "--res"),
        ("--h", "--help"),
        ("--zzzz", None),
    ],
)
def test_an_option_is_known_by_its_beginning_before_its_likeness(word: str, guess: str | None) -> None:
    known = ["--help", "--a", "--model", "--option", "--engine", "--statistics", "--res", "--output"]
    assert nearest_option(word, known) == guess


# Shared options


def parsed(*words: str, many: bool = True) -> argparse.Namespace:
    parser = Parser(prog="bench run")
    add_choices(parser, many)
    return parser.parse_args(["--model", "can24", *words])


def test_the_defaults_of_the_choices() -> None:
    found = parsed()
    assert (found.engine, found.precision, found.device, found.tile) == (None, "fp32", "auto", "off")
    assert (found.statistics, found.weights, found.calibration, found.threads) == (None, None, None, None)
    assert (found.settings, found.options, found.operator) == ([], [], None)


def test_options_and_settings_may_be_repeated() -> None:
    found = parsed("--option", "depth=5", "--option=width=6", "--set", "null.a=b", "--set", "null.c=d")
    assert found.options == ["depth=5", "width=6"]
    assert found.settings == ["null.a=b", "null.c=d"]


@pytest.mark.parametrize(("many", "shown"), [(True, "--model M[,...]"), (False, "--model M ")])
def test_help_says_where_a_list_may_stand(many: bool, shown: str) -> None:
    parser = Parser(prog="bench run")
    add_choices(parser, many)
    assert shown in parser.format_help()


@pytest.mark.parametrize(
    ("text", "words"), [(None, []), ("", []), ("a", ["a"]), ("a,b", ["a", "b"]), (" a , ,b,", ["a", "b"]), (",", [])]
)
def test_lists_are_split_at_commas(text: str | None, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["--operator", "rof"], ["operator=rof"]),
        (["--option", "depth=5", "--operator", "rof"], ["depth=5", "operator=rof"]),
    ],
)
def test_an_operator_is_short_for_an_option(words: list[str], expected: list[str]) -> None:
    parser = Parser()
    add_model(parser)
    assert option_words(parser.parse_args(["--model", "x", *words])) == expected


def test_the_request_holds_every_word() -> None:
    found = parsed(
        "--engine", "null,onnxruntime", "--precision", "fp32,bf16", "--statistics", "image,frozen", "--device", "cpu",
        "--weights", "w.safetensors", "--threads", "1", "--set", "null.a=b", "--option", "depth=5", "--operator", "rof",
    )  # fmt: skip
    request = request_from_arguments(found, ["320p", "1x1"])
    assert (request.models, request.resolutions) == (["can24"], ["320p", "1x1"])
    assert (request.engines, request.precisions) == (["null", "onnxruntime"], ["fp32", "bf16"])
    assert (request.statistics, request.device) == (["image", "frozen"], "cpu")
    assert (request.weights, request.threads, request.settings) == ("w.safetensors", 1, ["null.a=b"])
    assert request.options == ["depth=5", "operator=rof"]


def test_several_models_are_a_list_and_a_path_stays_whole() -> None:
    found = parsed()
    found.model = "can24, can32,net/a.onnx"
    assert request_from_arguments(found, []).models == ["can24", "can32", "net/a.onnx"]


def test_tiles_and_their_memory_reach_the_request() -> None:
    found = request_from_arguments(parsed("--tile", "off,auto,512", "--memory", "1.5GiB"), ["320p"])
    assert (found.tiles, found.memory_mib) == (["off", "auto", "512"], 1536.0)
    plain = request_from_arguments(parsed(), ["320p"])
    assert (plain.tiles, plain.memory_mib) == (["off"], None)
    with pytest.raises(UserError, match="--memory"):
        request_from_arguments(parsed("--tile", "auto", "--memory", "much"), ["320p"])


# How a graph is quantised


def test_what_is_asked_of_recipes_by_default() -> None:
    assert lowering_from_arguments(parsed()) == {"recovery": "fast", "clipping": "minmax"}
    assert request_from_arguments(parsed(), []).lowering == {"recovery": "fast", "clipping": "minmax"}


@pytest.mark.parametrize(
    ("word", "floor"), [("42dB", 42.0), ("42", 42.0), ("42.5 db", 42.5), ("10DB", 10.0), ("120dB", 120.0)]
)
def test_a_floor_is_in_decibels(word: str, floor: float) -> None:
    assert lowering_from_arguments(parsed("--floor", word))["floor_db"] == floor


@pytest.mark.parametrize(
    ("word", "value"), [("5%", 0.05), ("0.05", 0.05), (".1", 0.1), ("2.5 %", 0.025), ("1e-2", 0.01)]
)
def test_a_share_is_a_number_or_percent(word: str, value: float) -> None:
    assert share(word, "--margin") == pytest.approx(value)


@pytest.mark.parametrize("word", ["0", "1", "100%", "0%", "-5%", "5 percent", "nan", "", "5dB"])
def test_what_is_no_share_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=f"--margin {word}`: not a share"):
        share(word, "--margin")


@pytest.mark.parametrize("word", ["abc", "42dBm", "-42dB", "9.9dB", "121dB", "nan", "inf", "4 2"])
def test_a_floor_that_is_no_psnr_is_refused(word: str) -> None:
    error = refused(lambda: lowering_from_arguments(parsed(f"--floor={word}")))
    assert error.what == f"`--floor {word}`: not a PSNR"
    assert error.expected == "10dB to 120dB"


@pytest.mark.parametrize(
    ("words", "what", "todo"),
    [
        (["--recovery", "fats"], "`--recovery fats`: not a known way", "Did you mean fast?"),
        (["--weight-bits", "6"], "`--weight-bits 6`: not a known number", "Give one of these"),
        (["--recovery", "zzz"], "`--recovery zzz`: not a known way", "Give one of these"),
        (["--clipping", "min-max"], "`--clipping min-max`: not a known way", "Did you mean minmax?"),
    ],
)
def test_an_unknown_way_is_answered_with_those_there_are(words: list[str], what: str, todo: str) -> None:
    error = refused(lambda: lowering_from_arguments(parsed(*words)))
    assert (error.what, error.todo) == (what, todo)
    known = {"recovery": "none, fast", "weight-bits": "7, 8", "clipping": "minmax, mse, percentile, entropy, best"}
    assert error.expected == known[words[0].removeprefix("--")]


def test_every_choice_reaches_the_request(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"format": "fullres layers 1", "layers": {"a": "int8", "b": "fp32"}}))
    found = parsed(
        "--recovery", "none", "--clipping", "entropy", "--floor", "40dB", "--layers", str(path), "--weight-bits", "7"
    )
    expected = {"recovery": "none", "clipping": "entropy", "floor_db": 40.0, "weight_bits": 7}
    expected["layers"] = Layers(str(path), ("b",), None)
    assert request_from_arguments(found, []).lowering == expected
    with pytest.raises(UserError, match="--layers"):
        request_from_arguments(parsed("--layers", str(tmp_path / "absent.json")), [])
