"""The command line: the only file that parses words, prints, and sets the exit code."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from reference_models.errors import UserError, nearest, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from bench.case import Case, Request

OK, WRONG_USE, COULD_NOT_MEASURE, INTERRUPTED = 0, 2, 5, 130

EPILOG = """\
examples:
  bench run --model can32 --res 1440p                     the fastest engine here, and torch beside it
  bench run --model can24,can32 --res 720p,1080p --engine onnxruntime,torch_compile
  bench run --model can32 --res 1080p --statistics image,frozen,thumbnail
  bench apply --model can24 --weights l0.safetensors --input photos/ --output smoothed/
  bench export --model can32 --output can32.onnx
  bench weights import --model can24 --from model.ckpt --output l0.safetensors
  bench models | bench engines                            what there is, and what is usable here

exit codes: 0 done, 1 a bug, 2 wrong use, 5 could not measure, 130 interrupted (what was measured is kept)
"""


class _Parser(argparse.ArgumentParser):
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
                guess = nearest(option, known)
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        # `timeout`, a cancelled CI job: as Ctrl-C, so that workers end and what was measured is kept.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        arguments = _parser().parse_args(argv)
        arguments.argv = argv
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return getattr(error, "exit_code", WRONG_USE)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `bench models | head`
        _drop_output()
        return OK


def _parser() -> _Parser:
    parser = _Parser(
        prog="bench",
        description="Deploy and benchmark image-to-image networks at full resolution.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_Version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_run(commands)
    _add_apply(commands)
    _add_export(commands)
    _add_weights(commands)
    models = commands.add_parser("models", help="the networks, with their sources")
    models.set_defaults(command=_models)
    engines = commands.add_parser("engines", help="the engines: usable or not, and what makes them usable")
    engines.add_argument("--settings", action="store_true", help="also list what `--set ENGINE.NAME=VALUE` takes")
    engines.set_defaults(command=_engines)
    return parser


class _Version(str):
    """The version, looked up only when it is printed."""

    def __new__(cls) -> _Version:
        return super().__new__(cls, "%(prog)s")

    def __mod__(self, _: object) -> str:
        from importlib import metadata

        return f"fullres {metadata.version('fullres')}"


def _add_choices(parser: argparse.ArgumentParser, many: bool) -> None:
    """The choices that every command shares; `many`: comma-separated lists."""
    each = "[,...]" if many else ""
    parser.add_argument("--model", required=True, metavar=f"M{each}", help="network; `bench models` lists them")
    parser.add_argument(
        "--engine",
        metavar=f"E{each}",
        help="or E:NAME=VALUE for a setting; default: the fastest usable one" + _beside(many),
    )
    parser.add_argument("--precision", default="fp32", metavar=f"P{each}", help="fp32 (default), tf32, bf16")
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu or cuda:0")
    _add_network(parser, many)
    parser.add_argument("--tile", default="off", metavar="T", help="off: this version runs whole pictures only")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all usable cores)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ENGINE.NAME=VALUE",
        dest="settings",
        help="one setting of an engine; `bench engines --settings` lists them; may be repeated",
    )


def _beside(many: bool) -> str:
    return ", with torch_eager beside it" if many else ""


def _add_network(parser: argparse.ArgumentParser, many: bool) -> None:
    each = "[,...]" if many else ""
    parser.add_argument(
        "--statistics",
        metavar=f"S{each}",
        help="where normalisation statistics come from: image (as published), frozen (calibrated once, folded into the "
        "weights), thumbnail (of the picture reduced four times, folded per picture)",
    )
    parser.add_argument("--weights", metavar="NAME|FILE", help="trained weights (default: untrained, and marked so)")
    parser.add_argument("--calibration", metavar="FILE|DIR", help="pictures for frozen statistics (default: shipped)")


def _add_run(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="measure speed, memory and quality",
        description="Measures every combination of the choices, each in fresh worker processes, and prints one table. "
        "Runs are stored as they are measured; Ctrl-C keeps them.",
        epilog="example:\n  bench run --model can32 --res 1440p --engine onnxruntime,torch_eager --json runs.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_choices(parser, many=True)
    parser.add_argument(
        "--res", required=True, metavar="R[,...]", help="320p 480p 720p 1080p 1440p 4k or WIDTHxHEIGHT, of the output"
    )
    parser.add_argument(
        "--images",
        metavar="FILE|DIR",
        help="input pictures: the first is timed, all are judged (default: a photograph)",
    )
    parser.add_argument("--json", metavar="FILE", help="runs file; runs already in it stay")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for runs.json (unless --json) and the first picture of each case"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=45,
        metavar="SECONDS",
        help="measuring time of one case, without preparation and start-up (default 45)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="worker processes per case (default: 3, more while the interval is wide and the budget lasts)",
    )
    parser.set_defaults(command=_run)


def _add_apply(commands: Any) -> None:
    parser = commands.add_parser(
        "apply",
        help="pictures in, pictures out",
        description="Runs pictures through a network at their own size. Output is 8-bit RGB: 16-bit input is reduced, "
        "alpha dropped, EXIF rotation applied. In a folder, NAME.jpg becomes NAME.png; what is there is replaced.",
    )
    _add_choices(parser, many=False)
    parser.add_argument("--input", required=True, metavar="FILE|DIR")
    parser.add_argument("--output", required=True, metavar="FILE|DIR", help="PNG or JPEG; a folder for a folder")
    parser.set_defaults(command=_apply)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a network as ONNX, with dynamic height and width")
    parser.add_argument("--model", required=True, metavar="M", help="network; `bench models` lists them")
    parser.add_argument("--precision", default="fp32", metavar="P", help="fp32")
    _add_network(parser, many=False)
    parser.add_argument("--output", required=True, metavar="FILE.onnx")
    parser.set_defaults(command=_export)


def _add_weights(commands: Any) -> None:
    parser = commands.add_parser("weights", help="import published weights")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=_Parser)
    importer = actions.add_parser(
        "import",
        help="a released checkpoint → safetensors",
        description="Reads a TensorFlow checkpoint (model.ckpt or one of its files) or a safetensors file of the same "
        "tensors; needs nothing besides this package.",
    )
    importer.add_argument("--model", required=True, metavar="M")
    importer.add_argument("--from", required=True, dest="source", metavar="CHECKPOINT")
    importer.add_argument("--output", required=True, metavar="FILE.safetensors")
    importer.set_defaults(command=_weights_import)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def _request(arguments: argparse.Namespace, resolutions: Sequence[str]) -> Request:
    from bench.case import Request

    if arguments.tile != "off":
        raise UserError(f"`--tile {arguments.tile}`: this version runs whole pictures only", "off", "Leave it out")
    return Request(
        models=_words(arguments.model) or [arguments.model],
        resolutions=resolutions,
        engines=_words(arguments.engine),
        precisions=_words(arguments.precision),
        statistics=_words(arguments.statistics),
        device=arguments.device,
        weights=arguments.weights,
        threads=arguments.threads,
        settings=arguments.settings,
    )


def _run(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.case import expand
    from bench.places import check_calibration, run_places

    if not 0 < arguments.budget <= 86400:
        raise UserError(f"`--budget {arguments.budget:g}`: out of range", "seconds, more than 0", "Try 45")
    if arguments.processes is not None and not 1 <= arguments.processes <= 100:
        raise UserError(f"`--processes {arguments.processes}`: out of range", "1 to 100", "Try 3")
    cases, left_out = expand(_request(arguments, _words(arguments.res)))
    pictures = _pictures(arguments.images)
    check_calibration(arguments.calibration)
    path, folder = run_places(arguments.json, arguments.output)
    store.prepare(path)
    from bench.run import NotStored, Plan, execute

    plan = Plan(
        cases, left_out, pictures, path, folder, arguments.calibration, arguments.budget, arguments.processes,
        arguments.argv,
    )  # fmt: skip
    not_stored = None
    with _terminal(_console(stderr=True)) as reporter:
        try:
            runs = execute(plan, reporter)
        except NotStored as failure:
            runs, not_stored = failure.runs, failure
    status = _run_status(runs)
    if not_stored:
        print(f"bench: {not_stored}", file=sys.stderr)
        status = COULD_NOT_MEASURE
    try:
        _print_runs(runs, None if not_stored else path, folder)
    except BrokenPipeError:  # `bench run | head`: what was measured decides the exit code
        _drop_output()
    return status


def _run_status(runs: list[dict[str, Any]]) -> int:
    if any(run["interrupted"] for run in runs):
        return INTERRUPTED
    return COULD_NOT_MEASURE if any(run["status"] == "failed" for run in runs) else OK


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_runs(runs: list[dict[str, Any]], path: Path | None, folder: Path | None) -> None:
    from reports.table import table_from_runs

    console = _console()
    console.print(table_from_runs(runs, console.width))
    places = {"runs": path, "pictures": folder}
    console.print(
        "; ".join(f"{name}: {place}" for name, place in places.items() if place), soft_wrap=True, markup=False
    )


def _pictures(images: str | None) -> list[tuple[str, Any]]:
    from reference_models.pictures import DEFAULT_PICTURE_NAME, default_picture, list_pictures, read_picture

    if images is None:
        return [(DEFAULT_PICTURE_NAME, default_picture())]
    return [(path.name, read_picture(path)) for path in list_pictures(images)]


def _apply(arguments: argparse.Namespace) -> int:
    from bench.case import expand
    from bench.places import check_calibration, picture_pairs

    if not arguments.engine:
        arguments.engine = _fastest(arguments.device, arguments.precision)
    cases, left_out = expand(_request(arguments, ["320p"]))
    _only_one(cases, left_out)
    pairs = picture_pairs(Path(arguments.input), Path(arguments.output))
    check_calibration(arguments.calibration)
    console = _console(stderr=True)
    with _terminal(console) as reporter:
        failed = _apply_pictures(cases[0], arguments.calibration, pairs, reporter)
    for source, reason in failed:
        print(f"bench: {source}: {reason}", file=sys.stderr)
    done = len(pairs) - len(failed)
    weights = "" if cases[0].weights else " untrained"
    print(f"{done} of {len(pairs)} pictures → {arguments.output} ({cases[0].title.replace(' 320p', weights)})")
    if weights:
        print(f"bench: {cases[0].model} is untrained: give --weights, or the pictures mean nothing", file=sys.stderr)
    return COULD_NOT_MEASURE if failed else OK


def _apply_pictures(
    case: Case, calibration: str | None, pairs: list[tuple[str, str]], reporter: Any
) -> list[list[str]]:
    from bench.spawn import JobFailed, run_job

    environment = _engine_environment(case)
    network = _network(case, calibration, reporter)
    job = {
        "job": "apply",
        "model": case.model,
        "network": network,
        "pictures": pairs,
        **{key: getattr(case, key) for key in ("engine", "device", "precision", "threads")},
        "settings": dict(case.settings),
    }
    done = 0
    with reporter.stage("apply", total=len(pairs)) as show:

        def on_event(event: dict[str, Any]) -> None:
            nonlocal done
            show(done, event.get("name", ""))
            done += event["event"] == "picture"

        try:
            return run_job(job, environment, on_event)["failed"]
        except JobFailed as failure:
            raise _told(failure) from None


def _engine_environment(case: Case) -> dict[str, str]:
    import engines

    return engines.get(case.engine).environment(case.settings)


def _network(case: Case, calibration: str | None, reporter: Any) -> str:
    """JSON of the case's exported network."""
    from bench.spawn import JobFailed, run_job

    job: dict[str, Any] = {
        "job": "prepare",
        "model": case.model,
        "weights": case.weights,
        "statistics": [case.statistics],
        "calibration": calibration,
        "threads": case.threads,
        "inputs": {},
    }
    with reporter.stage(f"prepare {case.model}") as show:
        try:
            return run_job(job, None, _phases(show))["networks"][str(case.statistics)]
        except JobFailed as failure:
            raise _told(failure) from None


def _phases(show: Callable[[float, str], None]) -> Callable[[dict[str, Any]], None]:
    return lambda event: show(0, event.get("name", ""))


def _told(failure: Any) -> Exception:
    """What the command line says of a job that failed: the user's error, or a reason with the exit code for failing."""
    if failure.user_error:
        return failure.user_error
    error = UserError(failure.reason, "a worker that ends with a result", "What it printed last:\n" + failure.log)
    error.exit_code = COULD_NOT_MEASURE  # type: ignore[attr-defined]
    return error


def _fastest(device: str, precision: str) -> str:
    import engines
    from bench.case import resolve_device

    return engines.fastest(resolve_device(device), precision)


def _only_one(cases: Sequence[Case], left_out: Sequence[object]) -> None:
    if len(cases) + len(left_out) != 1:
        raise UserError("several models, engines, precisions or statistics", "one of each", "Name one of each")


def _export(arguments: argparse.Namespace) -> int:
    from bench.case import Request, expand
    from bench.places import check_calibration, check_output_file

    if arguments.precision != "fp32":
        raise UserError(f"`--precision {arguments.precision}`: not a precision of ONNX export", "fp32", "Use fp32")
    if arguments.statistics == "thumbnail":
        raise UserError(
            "`--statistics thumbnail`: the host folds new weights for every picture, which one ONNX file cannot hold",
            "image or frozen",
            "Use `bench apply --statistics thumbnail` to run it",
        )
    target = Path(arguments.output)
    if target.suffix != ".onnx":
        raise UserError(f"`--output {target}`: not an ONNX file's name", "FILE.onnx", "Change the ending")
    check_output_file(target, "--output")
    request = Request(
        [arguments.model], ["320p"], ["onnxruntime"], statistics=_words(arguments.statistics),
        device="cpu", weights=arguments.weights,
    )  # fmt: skip
    cases = expand(request)[0]
    _only_one(cases, ())
    check_calibration(arguments.calibration)
    import onnx

    from export.network import Network, file_sha256

    with _terminal(_console(stderr=True)) as reporter:
        network = Network.from_json(_network(cases[0], arguments.calibration, reporter))
    spec, weights = cases[0].spec, cases[0].weights_name
    model = onnx.load(network.main.onnx_path)
    facts = {"model": spec.name, "statistics": network.statistics or "none", "planes": spec.channels}
    facts |= {"range": "[0, 1], output not clipped", "weights": Path(weights).name, "source": spec.source}
    onnx.helper.set_model_props(model, facts)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        onnx.save(model, scratch)
        os.replace(scratch, target)  # a full disk leaves the old file as it was
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UserError(f"`--output {target}`: {error.strerror}", "a writable file", "Choose another") from None
    print(f"{target}: {spec.name}, weights {weights}, statistics {network.statistics or 'none'}, opset {network.opset}")
    print(f"  input x (1, 3, H, W) float32, planes {spec.channels} in [0, 1]; output y; H and W dynamic")
    print(f"  checked by onnx and against torch; sha256 {file_sha256(target)}")
    return OK


def _weights_import(arguments: argparse.Namespace) -> int:
    import reference_models
    from reference_models.weights import import_weights

    spec = reference_models.get(arguments.model)
    found = import_weights(spec, Path(arguments.source), Path(arguments.output))
    print(f"{arguments.output}: {found['tensors']} tensors, {found['parameters']} parameters of {spec.name}")
    print(f"  left out: {found['dropped']} tensors that only training uses; sha256 {found['sha256']}")
    print(f"  next: bench apply --model {spec.name} --weights {arguments.output} --input PICTURE --output OUT.png")
    return OK


def _models(_: argparse.Namespace) -> int:
    from rich.table import Table

    import reference_models

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("model", "family", "network", "statistics", "receptive field", "weights"):
        table.add_column(name, overflow="fold")
    sources: dict[str, str] = {}
    for spec in map(reference_models.get, reference_models.names()):
        field = f"{spec.receptive_field_px} px" if spec.receptive_field_px else "whole picture"
        table.add_row(
            spec.name, spec.family, spec.description, ", ".join(spec.statistics) or "–", field,
            ", ".join(spec.weights) or "untrained",
        )  # fmt: skip
        sources[spec.family] = spec.source
    console = _console()
    console.print(table)
    for family, source in sources.items():
        console.print(f"[dim]{family}: {source}[/]", highlight=False)
    console.print("[dim]next: bench run --model NAME --res 1440p[/]", highlight=False)
    return OK


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
    console = _console()
    console.print(table)
    if arguments.settings:
        for engine in map(engines.get, engines.names()):
            for setting in engine.settings:
                choices = " ".join(f"[bold]{c}[/]" if c == setting.default else c for c in setting.choices)
                console.print(f"  --set {engine.name}.{setting.name}=…  {choices}  {setting.doc}", highlight=False)
    return OK


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would exit with 1, which here means a bug

    console = Piped(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Piped(stderr=stderr, highlight=False, width=160)  # a file or a CI log has no width: do not fold
    return console


@contextmanager
def _terminal(console: Console) -> Iterator[Any]:
    from bench.progress import TerminalReporter

    with TerminalReporter(console) as reporter:
        yield reporter


if __name__ == "__main__":
    sys.exit(main())
