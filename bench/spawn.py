"""Runs one job in a fresh worker process and brings back its result, or the reason why there is none."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.nvml_id import BUS_ORDER
from reference_models.errors import UserError

Event = dict[str, Any]
POLL_S = 0.5


@dataclass
class JobFailed(Exception):  # noqa: N818  an event, not an error of ours
    """A worker that ended without a result."""

    reason: str
    """One sentence for the row of the table."""
    log: str = ""
    """The end of what the worker printed."""
    user_error: UserError | None = None
    """Set where the job refused its input: wrong use, not a failure of the machine."""

    def __str__(self) -> str:
        return self.reason


class TimeOver(Exception):  # noqa: N818  no error either
    """A worker was ended because its time was over."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after which the worker ended what it had begun."""

    def __init__(self, result: dict[str, Any] | None) -> None:
        self.result = result
        """Of the job as far as it came; None where the worker had to be killed."""


def run_job(
    job: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    grace_s: float = 0,
    end: float | None = None,
) -> dict[str, Any]:
    """The result of `bench/worker.py` for this job. Events on the way go to `on_event`, in this process.

    Whatever ends this call (Ctrl-C included) ends the worker too.

    Args:
        grace_s: seconds that a job which knows bench/stopping.py may take to end its files after Ctrl-C; a second
            Ctrl-C ends it at once.
        end: when the worker is ended, by time.monotonic(); None: never.

    Raises:
        JobFailed: the job raised, was killed, or ended without a word.
        TimeOver: it was still at work at `end`.
        Interrupted: Ctrl-C, where there is a time of grace.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**BUS_ORDER, **os.environ, **_import_path(), **(environment or {})},
            # A process group of its own: Ctrl-C at the terminal reaches this process alone, which then ends the worker.
            start_new_session=True,
        )
        try:
            return _converse(process, job, log, on_event, end)
        except KeyboardInterrupt:
            if not grace_s:
                raise
            raise Interrupted(_last_words(process, grace_s, on_event)) from None
        finally:
            _end(process)


def phases(show: Callable[[float, str], None]) -> Callable[[Event], None]:
    """What shows the phases of a job in a line of progress."""
    return lambda event: show(0, event.get("name", ""))


def samples(show: Callable[[float, str], None], start: float) -> Callable[[Event], None]:
    """What shows how far a job that measures has come.

    Args:
        start: when it was begun, by time.perf_counter().
    """

    def on_event(event: Event) -> None:
        words = event.get("name", "")
        if event["event"] == "progress":
            words = f"{event['samples']} samples after {event['warmup'] + 1} warm-ups"
        show(time.perf_counter() - start, words)

    return on_event


def thread_environment(threads: int) -> dict[str, str]:
    """BLAS and OpenMP read these before they are imported."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def _import_path() -> dict[str, str]:
    """Lets a worker of a source checkout find these packages wherever it was started."""
    root = str(Path(__file__).resolve().parent.parent)
    old = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": root + (os.pathsep + old if old else "")}


def _converse(
    process: subprocess.Popen[bytes],
    job: Mapping[str, Any],
    log: IO[bytes],
    on_event: Callable[[Event], None],
    end: float | None,
) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died before it read its job; the exit status below says how
    result, peak_mib = None, 0.0
    for event in _events(process):
        peak_mib = max(peak_mib, _resident_mib(process.pid))
        if end is not None and time.monotonic() > end:
            raise TimeOver
        if event is None:
            continue
        if event["event"] == "result":
            result = event["value"]
        elif event["event"] == "user_error":
            error = UserError(*event["parts"])
            raise JobFailed(str(error), _tail(log), error)
        elif event["event"] == "failed":
            raise JobFailed(event["reason"], _tail(log))
        else:
            on_event(event)
    status = process.wait()
    if result is None or status != 0:
        raise JobFailed(_death(status, peak_mib), _tail(log))
    return result


def _last_words(
    process: subprocess.Popen[bytes], grace_s: float, on_event: Callable[[Event], None]
) -> dict[str, Any] | None:
    """The result of a worker that is asked to stop; None where it gives none in time."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    on_event({"event": "stopping"})
    end = time.monotonic() + grace_s
    for event in _events(process):
        if event is not None and event["event"] == "result":
            return dict(event["value"])
        if event is not None and event["event"] not in {"user_error", "failed"}:
            on_event(event)
        if time.monotonic() > end:
            break
    return None


def _events(process: subprocess.Popen[bytes]) -> Any:
    """Yields the worker's events, and None every POLL_S seconds, until it closes its output."""
    assert process.stdout is not None
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(POLL_S):
                yield None
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _death(status: int, peak_mib: float) -> str:
    if status == -signal.SIGKILL:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
        return (
            f"the worker was killed (SIGKILL), as the system does when memory runs out; "
            f"last seen at {peak_mib:.0f} MiB of {total:.0f} MiB"
        )
    if status < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"the worker died of {known.get(-status, f'signal {-status}')}"
    return f"the worker ended with status {status} and no result"


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _tail(log: IO[bytes], size: int = 4000) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - size))
    return log.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe and not pipe.closed:
            pipe.close()
    with contextlib.suppress(ProcessLookupError):  # also ends what the worker itself has started
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
