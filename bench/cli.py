"""The command line's door: finds the commands, runs one, and turns what it raises into an exit code."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import bench.commands
from bench.arguments import Parser
from bench.exit_codes import INTERRUPTED, OK, WRONG_USE
from bench.terminal import drop_output
from reference_models.errors import UserError

EPILOG = """\
examples:
  bench run --model can32 --res 1440p                     the fastest engine here, and torch beside it
  bench run --model can24,can32 --res 720p,1080p --engine onnxruntime,torch_compile
  bench run --model can32 --res 1080p --statistics image,frozen,thumbnail
  bench apply --model can24 --weights l0.safetensors --input photos/ --output smoothed/
  bench export --model can32 --output can32.onnx
  bench sweep --model all --res 320p,720p --output out/   resumable; then: bench report out/ --output report/
  bench gate --baseline main.json --candidate branch.json --max latency:5%
  bench build --model can32 --engine tensorrt_rtx --res 1080p --output can32.plan
  bench weights import --model can24 --from model.ckpt --output l0.safetensors
  bench models | bench engines                            what there is, and what is usable here

exit codes: 0 done or passed, 1 a bug, 2 wrong use, 3 regression, 4 inconclusive, 5 could not measure,
130 interrupted (what was measured is kept)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        # `timeout`, a cancelled CI job: as Ctrl-C, so that workers end and what was measured is kept.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        parser = _parser()
        if not argv:
            parser.epilog = None
            print(parser.format_help(), file=sys.stderr)
            raise UserError("no command", "one of these", "`bench COMMAND --help` describes it")
        arguments = parser.parse_args(argv)
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
        drop_output()
        return OK


def _parser() -> Parser:
    parser = Parser(
        prog="bench",
        description="Deploy and benchmark image-to-image networks at full resolution.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_Version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in _commands():
        command.add(commands)
    return parser


def _commands() -> list[Any]:
    """The modules of bench/commands, in the order in which `--help` lists them."""
    found = [importlib.import_module(f"bench.commands.{m.name}") for m in pkgutil.iter_modules(bench.commands.__path__)]
    return sorted(found, key=lambda module: module.ORDER)


class _Version(str):
    """The version, looked up only when it is printed."""

    def __new__(cls) -> _Version:
        return super().__new__(cls, "%(prog)s")

    def __mod__(self, _: object) -> str:
        from importlib import metadata

        return f"fullres {metadata.version('fullres')}"


if __name__ == "__main__":
    sys.exit(main())
