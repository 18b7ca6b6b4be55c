"""Messages and progress of a build."""

from __future__ import annotations

import types

from engines.trt.reporting import Fractions, Messages, new_logger, new_monitor


def test_the_share_follows_nested_phases_and_never_falls():
    told = []
    fractions = Fractions(lambda phase, share: told.append((phase, round(share, 4))))
    fractions.start("build", None, 4)
    fractions.step("build", 0)
    fractions.start("tactics", "build", 2)
    fractions.step("tactics", 0)
    fractions.start("timing", "tactics", 10)
    fractions.step("timing", 4)
    fractions.finish("timing")
    fractions.step("tactics", 1)
    fractions.finish("tactics")
    fractions.step("build", 1)
    fractions.step("build", 3)
    fractions.finish("build")
    assert told == [
        ("build", 0.0), ("build", 0.25), ("tactics", 0.25), ("tactics", 0.375), ("timing", 0.375), ("timing", 0.4375),
        ("tactics", 0.4375), ("build", 0.5), ("build", 1.0), ("build", 1.0),
    ]  # fmt: skip


def test_a_phase_that_starts_again_or_was_never_started_does_no_harm():
    told = []
    fractions = Fractions(lambda phase, share: told.append(share))
    fractions.step("unknown", 3)
    fractions.finish("unknown")
    fractions.start("build", None, 2)
    for _ in range(2):
        fractions.start("part", "build", 0)
        fractions.step("part", 0)
        fractions.finish("part")
        fractions.step("build", 0)
    assert told == sorted(told)
    assert told[-1] == 0.5


def library():
    class Logger:
        Severity = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)

    return types.SimpleNamespace(ILogger=Logger, IProgressMonitor=object)


def test_errors_and_warnings_are_kept_and_the_first_error_is_the_reason():
    trt, messages = library(), Messages()
    assert messages.reason() == "it gave no reason"
    logger = new_logger(trt, messages)
    for severity, text in ((3, "info"), (2, "careful"), (1, "no such node"), (0, "builder failed")):
        logger.log(severity, text)
    assert (messages.errors, messages.warnings) == (["no such node", "builder failed"], ["careful"])
    assert messages.reason() == "no such node"


def test_the_monitor_lets_the_build_go_on():
    told = []
    monitor = new_monitor(library(), lambda phase, share: told.append((phase, share)))
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    monitor.phase_finish("build")
    assert told == [("build", 0.0), ("build", 0.5), ("build", 1.0)]
