"""Real worker processes, and what is known of them however they end.

A `sitecustomize.py` on PYTHONPATH puts a module in the place of bench.reference, so that a job of the kind `prepare`
runs the code which the test gives it. The product needs no hook for that.
"""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.spawn import Event, Interrupted, JobFailed, TimeOver, run_job

SITE = """
import sys, types

def prepare(job, emit):
    found = {"job": job, "emit": emit}
    exec(job["code"], found)
    return found.get("result", {})

module = types.ModuleType("bench.reference")
module.prepare = prepare
sys.modules["bench.reference"] = module
"""

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(code)` executes `code` in a worker, with `job` and `emit`; what it leaves in `result` comes back."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(site))

    def call(code: str, **more: Any) -> dict[str, Any]:
        keywords = {name: more.pop(name) for name in ("environment", "on_event", "grace_s", "end") if name in more}
        return run_job({"job": "prepare", "code": textwrap.dedent(code), **more}, **keywords)

    return call


def failure(run: Run, code: str, **more: Any) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        run(code, **more)
    return caught.value


def gone(pid: int) -> bool:
    """Whether the process has ended within two seconds (what is killed may take a moment to go)."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


# Results and events


def test_the_result_comes_back_as_it_was(run: Run) -> None:
    value = {"samples": [0.1, 1e-9, 3.0], "text": "ä × ∞\n", "none": None, "nested": {"a": [True]}}
    assert run("result = job['value']", value=value) == value


def test_events_arrive_in_order_and_before_the_result(run: Run) -> None:
    events: list[Event] = []
    code = "for i in range(200): emit('progress', number=i)\nemit('phase', name='judge')"
    run(code, on_event=events.append)
    assert [e["number"] for e in events[:-1]] == list(range(200))
    assert events[-1] == {"event": "phase", "name": "judge"}


def test_an_event_is_heard_at_once_and_not_when_the_worker_ends(run: Run) -> None:
    heard: list[float] = []
    run(
        "import time; emit('phase', name='x'); time.sleep(1); result = {}",
        on_event=lambda _: heard.append(time.monotonic()),
    )
    assert time.monotonic() - heard[0] > 0.9


def test_every_worker_is_a_fresh_process(run: Run) -> None:
    pids = {run("import os; result = {'pid': os.getpid()}")["pid"] for _ in range(2)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_environment_variables_reach_the_worker_and_add_to_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLRES_TEST_OURS", "1")
    code = "import os; result = {k: os.environ.get(k) for k in ('FULLRES_TEST_OURS', 'OMP_NUM_THREADS')}"
    assert run(code, environment={"OMP_NUM_THREADS": "3"}) == {"FULLRES_TEST_OURS": "1", "OMP_NUM_THREADS": "3"}
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "3"


def test_workers_count_gpus_as_nvml_does_unless_told_otherwise(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    code = "import os; result = os.environ.get('CUDA_DEVICE_ORDER')"
    assert run(code) == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert run(code) == "FASTEST_FIRST"


def test_a_library_that_prints_to_standard_output_does_not_disturb_the_protocol(run: Run) -> None:
    code = """
        import ctypes, os, subprocess, sys
        print('{"event": "result", "value": "forged"}', flush=True)
        os.write(1, b'half a line')
        ctypes.CDLL(None).puts(b"from C")
        subprocess.run(["sh", "-c", "echo from a child"])
        sys.stdout.write("no newline")
        result = {"fine": True}
    """
    events: list[Event] = []
    assert run(code, on_event=events.append) == {"fine": True}
    assert events == []


def test_an_event_line_of_megabytes_arrives_whole(run: Run) -> None:
    events: list[Event] = []
    code = "emit('phase', name='x' * (8 << 20)); result = {'samples': [0.123456789] * 200_000}"
    found = run(code, on_event=events.append)
    assert len(events[0]["name"]) == 8 << 20
    assert len(found["samples"]) == 200_000


def test_line_breaks_within_an_event_do_not_end_it(run: Run) -> None:
    events: list[Event] = []
    name = 'a\nb\r\n"}\u2028\x00ü'
    run("emit('phase', name=job['name'])", name=name, on_event=events.append)
    assert events == [{"event": "phase", "name": name}]


def test_a_job_larger_than_a_pipe_arrives_whole(run: Run) -> None:
    assert run("result = {'n': len(job['pictures'])}", pictures=["x" * 100] * 50_000) == {"n": 50_000}


def test_the_users_folder_is_not_searched_for_our_modules(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench run` in a folder with a bench.py or a json.py of its own is nothing unusual."""
    (tmp_path / "bench.py").write_text("raise RuntimeError('the wrong bench')")
    (tmp_path / "selectors.py").write_text("raise RuntimeError('the wrong selectors')")
    monkeypatch.chdir(tmp_path)
    assert run("result = {'fine': True}") == {"fine": True}


# Failures


def test_wrong_use_crosses_the_process_with_its_three_parts(run: Run) -> None:
    code = """
        from reference_models.errors import UserError
        raise UserError("`x`: wrong", "something, \\n else", "Do that")
    """
    error = failure(run, code).user_error
    assert error is not None
    assert (error.what, error.expected, error.todo) == ("`x`: wrong", "something, \n else", "Do that")


def test_an_exception_becomes_one_sentence_and_its_trace_is_in_the_log(run: Run) -> None:
    failed = failure(run, "raise ValueError('two\\n  lines')")
    assert failed.reason == str(failed) == "ValueError: two lines"
    assert failed.user_error is None
    assert "Traceback" in failed.log
    assert failed.log.endswith("lines")


def test_an_exception_without_a_message_still_has_a_reason(run: Run) -> None:
    assert failure(run, "raise RuntimeError").reason == "RuntimeError: no message"


def test_a_message_of_pages_is_cut_in_the_reason(run: Run) -> None:
    failed = failure(run, "raise RuntimeError('word ' * 10_000)")
    assert len(failed.reason) < 500
    assert len(failed.log) <= 4000


def test_the_log_is_the_end_of_what_was_printed(run: Run) -> None:
    failed = failure(run, "import sys\nfor i in range(5000): print('line', i, file=sys.stderr)\nraise KeyError('x')")
    assert "line 4999" in failed.log
    assert "line 0\n" not in failed.log


def test_a_memory_error_is_called_out_of_memory(run: Run) -> None:
    assert failure(run, "raise MemoryError").reason == "out of memory"
    code = "import numpy as np; np.zeros(1 << 60, np.uint8)"
    assert failure(run, code).reason.startswith("out of memory (Unable to allocate")


def test_a_worker_that_is_still_at_work_when_its_time_is_over_is_ended(run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    start = time.monotonic()
    with pytest.raises(TimeOver):
        run(code, end=start + 2)
    assert time.monotonic() - start < 20
    assert not psutil.pid_exists(int(mark.read_text()))
    assert run("result = {'a': 1}", end=time.monotonic() + 60) == {"a": 1}


def test_an_unknown_kind_of_job_is_a_failure_and_no_hang() -> None:
    with pytest.raises(JobFailed, match="KeyError: 'dance'"):
        run_job({"job": "dance"})


def test_a_result_that_json_cannot_hold_is_a_failure(run: Run) -> None:
    assert failure(run, "result = {'x': object()}").reason.startswith("TypeError: Object of type object")


def test_a_worker_killed_from_outside_names_the_signal_and_its_memory(run: Run) -> None:
    """As the kernel does it when memory runs out: no word from the worker itself."""

    def kill(event: Event) -> None:
        os.kill(event["pid"], signal.SIGKILL)

    code = "import os, time; ballast = b'x' * (64 << 20); emit('pid', pid=os.getpid()); time.sleep(60)"
    failed = failure(run, code, on_event=kill)
    assert failed.reason.startswith("the worker was killed (SIGKILL), as the system does when memory runs out; ")
    words = failed.reason.split()
    mib, total = float(words[words.index("at") + 1]), float(words[words.index("of") + 1])
    assert 64 <= mib < 1000
    assert mib < total


def test_memory_is_seen_of_a_worker_that_never_pauses(run: Run) -> None:
    code = """
        import os, signal, time
        ballast = b"x" * (64 << 20)
        for i in range(30):
            emit("progress", number=i)
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    words = failure(run, code).reason.split()
    assert float(words[words.index("at") + 1]) >= 64


def test_a_segmentation_fault_is_named(run: Run) -> None:
    assert failure(run, "import ctypes; ctypes.string_at(0)").reason == "the worker died of SIGSEGV"


def test_an_abort_is_named_with_what_the_library_said(run: Run) -> None:
    failed = failure(run, "import os; os.write(2, b'terminate called'); os.abort()")
    assert failed.reason == "the worker died of SIGABRT"
    assert failed.log.endswith("terminate called")


def test_a_real_time_signal_without_a_name_is_still_a_reason(run: Run) -> None:
    number = signal.SIGRTMIN + 3
    assert str(int(number)) in failure(run, f"import os; os.kill(os.getpid(), {int(number)})").reason


def test_a_worker_that_leaves_without_a_word_is_a_failure(run: Run) -> None:
    assert failure(run, "import os; os._exit(7)").reason == "the worker ended with status 7 and no result"
    assert failure(run, "import sys; sys.exit(0)").reason == "the worker ended with status 0 and no result"


def test_half_an_event_before_a_crash_is_no_event(run: Run) -> None:
    code = """
        import os, stat
        for number in range(3, 20):  # the worker's own channel: the only other pipe that it has
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, b'{"event": "resu')
            except OSError:
                pass
        os.kill(os.getpid(), 9)
    """
    assert "SIGKILL" in failure(run, code).reason


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_worker_that_dies_before_it_reads_its_job_is_a_failure(run: Run, size: int, tmp_path: Path) -> None:
    (tmp_path / "site" / "sitecustomize.py").write_text("import os\nos._exit(9)\n")
    assert failure(run, "", ballast="x" * size).reason == "the worker ended with status 9 and no result"


# The end


def test_ctrl_c_in_the_parent_ends_the_worker(run: Run) -> None:
    pids: list[int] = []

    def interrupt(event: Event) -> None:
        pids.append(event["pid"])
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        run("import os, time; emit('pid', pid=os.getpid()); time.sleep(60)", on_event=interrupt)
    assert gone(pids[0])


def test_ctrl_c_while_nothing_is_heard_ends_the_worker(run: Run) -> None:
    pids: list[int] = []

    def soon(event: Event) -> None:
        pids.append(event["pid"])
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("import os, time; emit('pid', pid=os.getpid()); time.sleep(60)", on_event=soon)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert gone(pids[0])


def test_ctrl_c_at_the_terminal_does_not_reach_the_worker(run: Run) -> None:
    """The terminal signals a whole process group: the worker is in none that it knows."""
    assert run("import os; result = {'group': os.getpgid(0)}")["group"] != os.getpgid(0)


@pytest.mark.parametrize("end", ["result = {'child': child.pid}", "raise ValueError('too late')", "os._exit(1)"])
def test_what_a_worker_started_ends_with_it(run: Run, end: str) -> None:
    """Compile servers and the like would disturb every case that follows."""
    children: list[int] = []
    code = "import os, subprocess; child = subprocess.Popen(['sleep', '60']); emit('child', pid=child.pid)\n" + end
    try:
        run(code, on_event=lambda e: children.append(e["pid"]))
    except JobFailed:
        assert "result" not in end
    assert gone(children[0])


def test_no_open_file_is_left(run: Run) -> None:
    before = psutil.Process().num_fds()
    run("pass")
    failure(run, "raise ValueError")
    assert psutil.Process().num_fds() == before


def test_the_worker_sees_its_job_as_it_was_given(run: Run) -> None:
    settings = {"a": "ü", "b": None, "c": [1, 2.5]}
    assert json.loads(json.dumps(run("result = job['settings']", settings=settings))) == settings


# Ctrl-C with a time of grace

PATIENT = """
    from bench.stopping import stop_request
    import time
    with stop_request() as asked:
        emit("ready")
        while not asked.wait(0.01):
            pass
        time.sleep({s})
        emit("ending")
        result = {{"left": "whole"}}
"""


def interrupt_when_ready(seen: list[str]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        seen.append(event["event"])
        if event["event"] == "ready":
            raise KeyboardInterrupt

    return on_event


def test_a_worker_that_is_given_time_ends_what_it_began(run: Run) -> None:
    seen: list[str] = []
    with pytest.raises(Interrupted) as caught:
        run(PATIENT.format(s=0.1), on_event=interrupt_when_ready(seen), grace_s=30)
    assert caught.value.result == {"left": "whole"}
    assert seen == ["ready", "stopping", "ending"]


def test_a_worker_that_takes_longer_is_ended(run: Run) -> None:
    with pytest.raises(Interrupted) as caught:
        run(PATIENT.format(s=60), on_event=interrupt_when_ready([]), grace_s=1)
    assert caught.value.result is None


def test_a_second_ctrl_c_ends_it_at_once(run: Run) -> None:
    def on_event(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run(PATIENT.format(s=60), on_event=on_event, grace_s=60)
    assert not isinstance(caught.value, Interrupted)
