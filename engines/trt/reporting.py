"""What the libraries say while they build: their messages kept, and their progress as one fraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Report = Callable[[str, float], None]
"""Called with the name of the phase and the share of the build that is done, 0 to 1, never falling."""


@dataclass
class Messages:
    """What the library logged, in its order."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def reason(self) -> str:
        """The first error: those that follow say where it was noticed, not what it was."""
        return self.errors[0] if self.errors else "it gave no reason"


def new_logger(trt: Any, messages: Messages) -> Any:
    """A logger of the library's that writes into `messages` and nowhere else."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}:
                messages.errors.append(text)
            elif severity == trt.ILogger.Severity.WARNING:
                messages.warnings.append(text)

    return Logger()


@dataclass
class Fractions:
    """Nested phases with known numbers of steps → the share of the outermost one that is done.

    Phases inside a step count as parts of that step; what is unknown until a phase starts makes it no smaller.
    """

    report: Report
    _open: dict[str, tuple[str | None, int, int]] = field(default_factory=dict)
    """Name → parent, number of steps, steps done."""
    _done: float = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self._open[phase] = (parent, steps, 0)
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        if phase in self._open:
            parent, steps, done = self._open[phase]
            self._open[phase] = (parent, steps, max(done, step + 1))
            self._tell(phase)

    def finish(self, phase: str) -> None:
        if phase in self._open and self._open.pop(phase)[0] is None:
            self._done = 1.0
            self.report(phase, 1.0)

    def _tell(self, phase: str) -> None:
        share, inside, name = 0.0, 0.0, phase
        while name in self._open:
            parent, steps, done = self._open[name]
            inside = share = min(1.0, (done + inside) / max(steps, 1))
            if parent is None or parent not in self._open:
                break
            # A phase that ends its parent's step is counted by that step, and not twice.
            inside = 0.0 if share >= 1.0 else inside
            name = parent
        self._done = max(self._done, share)
        self.report(phase, self._done)


def new_monitor(trt: Any, report: Report) -> Any:
    """A progress monitor of the library's that calls `report`."""
    fractions = Fractions(report)

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            fractions.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            fractions.step(phase_name, step)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            fractions.finish(phase_name)

    return Monitor()
