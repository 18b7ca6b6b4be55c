"""The store by its promises: nothing is lost, nothing is half-written, and every refusal says why."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import store
from reference_models.errors import UserError

PUT_LOOP = """
import sys
from bench import store
path, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for index in range(count):
    store.put(path, [{"id": f"{prefix}{index % 40}", "latency_ms": {"samples": [0.1] * 500}, "round": index}])
"""


def run_of(name: str, **more: Any) -> store.Run:
    return {"id": name, "status": "ok", **more}


def ids(path: Path) -> list[str]:
    return [run["id"] for run in store.load(path)]


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]


# Merging


def test_put_then_load_gives_the_same_runs_in_order(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    runs = [run_of("b", latency_ms={"p50": 1.5, "p99": None}, argv=["ä", "x\udcff.png"]), run_of("a", case={})]
    store.put(path, runs)
    assert store.load(path) == runs
    text = path.read_text(encoding="utf-8")
    assert text.endswith("]}\n")
    assert json.loads(text) == {"schema": 1, "runs": runs}


def test_put_replaces_the_same_id_in_place_and_appends_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a"), run_of("b"), run_of("c")])
    store.put(path, [run_of("d"), run_of("b", status="failed")])
    assert ids(path) == ["a", "b", "c", "d"]
    assert store.load(path)[1]["status"] == "failed"


def test_one_line_of_the_file_is_one_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a"), run_of("b")])
    before = path.read_text().splitlines()
    store.put(path, [run_of("b", status="failed")])
    changed = [new for old, new in zip(before, path.read_text().splitlines(), strict=True) if old != new]
    assert [json.loads(line)["id"] for line in changed] == ["b"]


def test_put_into_an_empty_file_as_mktemp_makes(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.touch()
    store.prepare(path)
    store.put(path, [run_of("a")])
    assert ids(path) == ["a"]


def test_put_keeps_the_mode_and_the_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    store.put(real, [run_of("a")])
    real.chmod(0o640)
    link.symlink_to(real)
    store.put(link, [run_of("b")])
    assert link.is_symlink()
    assert ids(real) == ["a", "b"]
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        store.put(tmp_path / "runs.json", [])
    finally:
        os.umask(old)
    assert (tmp_path / "runs.json").stat().st_mode & 0o777 == 0o644


# Values that JSON cannot hold


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (float("nan"), "latency_ms.samples[1]"),
        (float("inf"), "latency_ms.samples[1]"),
        (Path("x"), "latency_ms.samples[1]"),
        ({3: 4}, "latency_ms.samples[1]"),
    ],
)
def test_a_value_json_cannot_hold_is_our_bug_and_is_named(tmp_path: Path, value: object, key: str) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a")])
    with pytest.raises(ValueError, match="run b") as caught:
        store.put(path, [run_of("b", latency_ms={"samples": [1.0, value]})])
    assert f"`{key}`" in str(caught.value)
    assert ids(path) == ["a"]


@pytest.mark.parametrize("run", [{}, {"id": 7}])
def test_a_run_without_id_is_our_bug(tmp_path: Path, run: store.Run) -> None:
    with pytest.raises(ValueError, match="id"):
        store.put(tmp_path / "runs.json", [run])


# Files that are not ours


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends in the middle"),
        (b'{"schema": 1, "runs": [\n{"id": "a", "sta', "ends in the middle"),
        (b'{"schema": 1, "runs": [\n{"id": "a"}', "ends in the middle"),
        (b"hello", "not JSON"),
        (b'{"schema": 1, "runs": [NaN]}', "not JSON"),
        (b'{"schema": 1, "runs": [1e999]}', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b"[]", "not a runs file"),
        (b"{}", "not a runs file"),
        (b'{"schema": 0, "runs": []}', "not a runs file"),
        (b'{"schema": true, "runs": []}', "not a runs file"),
        (b'{"schema": 1, "runs": {}}', "not a runs file"),
        (b'{"schema": 1, "runs": [{"status": "ok"}]}', "not a runs file"),
        (b'{"schema": 1, "runs": [{"id": "a"}, {"id": "a"}]}', "not a runs file"),
        (b'{"schema": 2, "runs": []}', "Update fullres"),
    ],
)
def test_a_file_that_is_not_ours_is_explained_and_left_alone(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "runs.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        store.load(path)
    assert str(path) in caught.value.what
    if not content:
        return  # nothing that could be lost: see test_put_into_an_empty_file_as_mktemp_makes
    with pytest.raises(UserError, match=words):
        store.prepare(path)
    with pytest.raises(UserError, match=words):
        store.put(path, [run_of("a")])
    assert path.read_bytes() == content
    assert not temporaries(tmp_path)


def test_every_cut_of_a_file_is_called_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a", latency_ms={"p50": 1.25, "p99": None}, argv=["\\", "}"]), run_of("b")])
    whole = path.read_bytes()
    for length in range(1, len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="ends in the middle"):
            store.load(path)


def test_load_explains_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        store.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="directory"):
        store.load(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_bytes(b'\xef\xbb\xbf{"schema": 1, "runs": [{"id": "a"}]}')
    assert ids(path) == ["a"]


def test_an_older_schema_is_upgraded_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.json"
    path.write_text('{"schema": 1, "runs": [{"id": "a", "fps": 2}]}')

    def rename(document: dict[str, Any]) -> dict[str, Any]:
        return {"runs": [{"id": run["id"], "throughput_fps": run["fps"]} for run in document["runs"]]}

    def add(document: dict[str, Any]) -> dict[str, Any]:
        return {"runs": [run | {"status": "ok"} for run in document["runs"]]}

    monkeypatch.setattr(store, "SCHEMA", 3)
    monkeypatch.setattr(store, "UPGRADES", {1: rename, 2: add})
    upgraded = {"id": "a", "throughput_fps": 2, "status": "ok"}
    assert store.load(path) == [upgraded]
    store.put(path, [run_of("b")])
    assert json.loads(path.read_text()) == {"schema": 3, "runs": [upgraded, run_of("b")]}


# Before the first slow step


def test_prepare_makes_folders_and_nothing_that_looks_like_a_result(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "runs.json"
    store.prepare(path)
    assert not path.exists()
    assert not temporaries(path.parent)
    store.put(path, [run_of("a")])
    store.prepare(path)
    assert ids(path) == ["a"]


def test_prepare_refuses_a_folder_a_device_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        store.prepare(tmp_path)
    with pytest.raises(UserError, match="not an ordinary file"):
        store.prepare("/dev/null")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file is a file"):
        store.prepare(tmp_path / "file" / "sub" / "runs.json")
    with pytest.raises(store.StoreError, match="too long"):
        store.prepare(tmp_path / ("n" * 300))


def test_a_place_is_checked_without_making_anything(tmp_path: Path) -> None:
    store.check_place(tmp_path / "sub" / "runs.json")
    for path, words in ((tmp_path, "is a folder"), ("/dev/null", "not an ordinary file"), ("n" * 300, "too long")):
        with pytest.raises(UserError, match=words):
            store.check_place(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder that refuses even root: /proc")
def test_prepare_refuses_where_the_file_system_does() -> None:
    with pytest.raises(store.StoreError, match="cannot be written"):
        store.prepare("/proc/sys/kernel/runs.json")
    with pytest.raises(store.StoreError, match="cannot be written"):
        store.prepare("/proc/fullres/runs.json")


def test_prepare_notices_a_file_that_may_not_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a")])
    monkeypatch.setattr(os, "replace", raiser(errno.EBUSY))  # as for a file mounted into a container
    with pytest.raises(store.StoreError, match="busy"):
        store.prepare(path)
    assert ids(path) == ["a"]
    assert not temporaries(tmp_path)


# Failures while writing


def raiser(number: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a")])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, raiser(errno.ENOSPC))
        with pytest.raises(store.StoreError, match="No space left") as caught:
            store.put(path, [run_of("b")])
    assert str(path) in caught.value.what
    assert path.read_bytes() == before
    assert not temporaries(tmp_path)
    store.put(path, [run_of("b")])
    assert ids(path) == ["a", "b"]


def test_a_write_that_the_system_really_refuses(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a")])
    before = path.read_bytes()
    code = """
import resource, sys
from bench import store
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.put(sys.argv[1], [{"id": "b", "text": "x" * 100_000}])
except store.StoreError as error:
    print(error)
store.put(sys.argv[1], [])
"""
    output, trace = start(code, path).communicate(timeout=60)
    assert "File too large" in output, trace
    assert path.read_bytes() == before
    assert not temporaries(tmp_path)


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("a")])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            store.put(path, [run_of("b")])
        assert not temporaries(tmp_path)
    store.put(path, [run_of("c")])  # with the traceback alive: the lock must be free
    assert ids(path) == ["a", "c"]
    assert caught.tb is not None


def test_a_storm_of_interrupts(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("first")])
    moments = random.Random(1)
    for _ in range(15):
        process = start(PUT_LOOP, path, "s", 10**6)
        wait_ready(process)
        time.sleep(moments.uniform(0, 0.06))
        process.send_signal(signal.SIGINT)
        trace = process.communicate(timeout=60)[1]
        assert "KeyboardInterrupt" in trace
        assert ids(path)[0] == "first"
        assert not temporaries(tmp_path), trace
    assert len(ids(path)) > 1


def test_kill_in_the_middle_loses_nothing_and_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store.put(path, [run_of("first")])
    moments = random.Random(2)
    for _ in range(6):
        process = start(PUT_LOOP, path, "k", 10**6)
        wait_ready(process)
        time.sleep(moments.uniform(0.01, 0.06))
        process.kill()
        process.communicate(timeout=60)
        assert ids(path)[0] == "first"
    store.put(path, [run_of("last")])
    assert ids(path)[-1] == "last"
    assert not temporaries(tmp_path)


def test_leftovers_of_killed_writers_go_and_other_files_stay(tmp_path: Path) -> None:
    mine = tmp_path / ".runs.json.123-0123abcd.tmp"
    others = [tmp_path / name for name in (".runs.json.5.123-0123abcd.tmp", "runs.json.123-0123abcd.tmp", ".x.tmp")]
    for file in (mine, *others):
        file.write_text("half")
    store.put(tmp_path / "runs.json", [])
    assert not mine.exists()
    assert all(file.exists() for file in others)


def test_who_puts_nothing_clears_away_too(tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    store.put(runs, [run_of("a")])
    for name in (".runs.json.123-0123abcd.tmp", "runs.json.lock"):
        (tmp_path / name).touch()
    store.tidy(runs)
    assert list(tmp_path.iterdir()) == [runs]
    assert ids(runs) == ["a"]
    store.tidy(tmp_path / "missing" / "runs.json")


# Several writers


def test_two_processes_into_one_file_keep_all_their_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    processes = [start(PUT_LOOP, path, prefix, 30) for prefix in "ab"]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.communicate()[1]
    assert sorted(ids(path)) == sorted(f"{prefix}{index}" for prefix in "ab" for index in range(30))
    assert not temporaries(tmp_path)


@pytest.mark.skipif(store.fcntl is None, reason="no fcntl on this system")
def test_put_waits_for_the_lock_and_an_interrupt_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    with store._locked(path):
        process = start(PUT_LOOP, path, "a", 1)
        wait_ready(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        assert not path.exists()
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    store.put(path, [run_of("b")])
    assert ids(path) == ["b"]


@pytest.mark.skipif(store.fcntl is None, reason="no fcntl on this system")
def test_who_waited_for_a_lock_file_that_was_removed_meanwhile_waits_for_the_new_one(tmp_path: Path) -> None:
    """Else it would write beside who holds the new one, and one of both would lose its runs."""
    path = tmp_path / "runs.json"
    with store._locked(path):
        process = start(PUT_LOOP, path, "a", 1)
        wait_ready(process)
        time.sleep(0.3)
        store._lock_path(path).unlink()
        other = store._locked(path)
    with other:  # the first is let go: the process that waited for it has a lock that has no name
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.7)
        assert not path.exists()
    assert process.wait(timeout=60) == 0, process.communicate()[1]
    assert ids(path) == ["a0"]


@pytest.mark.skipif(store.fcntl is None, reason="no fcntl on this system")
def test_a_lock_whose_file_a_server_has_removed_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, stale = store.fcntl.flock, [errno.ESTALE, errno.ESTALE]

    def flock(file: object, kind: int) -> None:
        if stale:
            raise OSError(stale.pop(), "Stale file handle")
        real(file, kind)

    monkeypatch.setattr(store.fcntl, "flock", flock)
    store.put(tmp_path / "runs.json", [run_of("a")])
    assert ids(tmp_path / "runs.json") == ["a"]
    stale.append(errno.ENOLCK)
    with pytest.raises(store.StoreError, match="Stale file handle"):
        store.put(tmp_path / "runs.json", [run_of("b")])


@pytest.mark.parametrize("path", ["runs.json", "deeper/runs.json"])
def test_nothing_but_the_runs_file_is_left(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / path
    store.prepare(runs)
    assert list(runs.parent.iterdir()) == []
    store.put(runs, [run_of("a")])
    (runs.parent / "runs.json.lock").touch()  # of who was killed
    store.prepare(runs)
    store.put(runs, [run_of("b")])
    assert list(runs.parent.iterdir()) == [runs]
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(store.StoreError):
        store.put(runs, [run_of("c")])
    assert list(runs.parent.iterdir()) == [runs]


def test_four_processes_into_one_file_keep_all_their_runs(tmp_path: Path) -> None:
    """Every put removes the lock file and makes another: where two held one at once, runs would be lost."""
    path = tmp_path / "runs.json"
    processes = [start(PUT_LOOP, path, prefix, 25) for prefix in "abcd"]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.communicate()[1]
    assert sorted(ids(path)) == sorted(f"{prefix}{index}" for prefix in "abcd" for index in range(25))
    assert list(tmp_path.iterdir()) == [path]


def test_without_fcntl_it_still_writes_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "fcntl", None)
    path = tmp_path / "runs.json"
    store.prepare(path)
    store.put(path, [run_of("a")])
    store.put(path, [run_of("b")])
    assert ids(path) == ["a", "b"]
    assert [file.name for file in tmp_path.iterdir()] == ["runs.json"]


def test_the_module_needs_no_torch() -> None:
    code = "import sys, bench.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
