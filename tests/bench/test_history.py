"""The database: what is added is there, once and whole, whoever writes beside; on SQLite and a real PostgreSQL."""

from __future__ import annotations

import glob
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")

import bench.history as module  # noqa: E402
from bench.history import SCHEMA, History  # noqa: E402
from reference_models.errors import UserError  # noqa: E402

Make = Callable[..., dict[str, Any]]


def _postgres_program(name: str) -> str | None:
    places = [shutil.which(name), *sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))]
    return next((place for place in places if place), None)


class Server:
    """A PostgreSQL of the tests' own, run by an ordinary user: it refuses root."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._user = folder, None
        if os.geteuid() == 0:
            self._user = "nobody"
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._run("initdb", "-D", str(folder / "data"), "-U", "fullres", "-A", "trust", "--no-sync")
        self.start()
        self.url = f"postgresql+psycopg://fullres@127.0.0.1:{self._port}/postgres"

    def _run(self, name: str, *words: str) -> None:
        program = _postgres_program(name)
        assert program
        subprocess.run([program, *words], check=True, capture_output=True, user=self._user, cwd=self._folder)

    def start(self) -> None:
        program = _postgres_program("postgres")
        assert program
        words = ["-D", str(self._folder / "data"), "-p", str(self._port), "-k", "", "-h", "127.0.0.1"]
        self._process = subprocess.Popen(
            [program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd=self._folder
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self._port))
                return
            except subprocess.CalledProcessError:
                time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGQUIT)  # at once, as a crash: the next start recovers
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    missing = [name for name in ("initdb", "postgres", "pg_isready") if not _postgres_program(name)]
    if missing:
        pytest.skip(f"PostgreSQL is not installed: no {', '.join(missing)}")
    pytest.importorskip("psycopg", reason="the driver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="fullres-postgres-", dir="/tmp"))
    try:
        started = Server(folder)
    except (subprocess.CalledProcessError, RuntimeError, OSError, KeyError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL does not start here: {error} {getattr(error, 'stderr', '')}")
    yield started
    started.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    found: str = request.getfixturevalue("server").url
    empty(found)
    return found


def empty(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    module._METADATA.drop_all(engine)
    engine.dispose()


def test_what_is_added_is_there_whole_and_in_order(url: str, gate_run: Make) -> None:
    late, early = gate_run("b", time="2026-03-02", commit="c2"), gate_run("a", time="2026-03-01", commit="c1")
    with History(url) as history:
        assert history.add([late, early]) == 2
    with History(url) as history:
        assert history.runs() == [early, late]
        assert history.runs("c1") == [early]
        assert history.runs("c%") == []
        assert history.commits() == [("c1", "2026-03-01", 1), ("c2", "2026-03-02", 1)]


def test_a_run_that_is_added_again_is_replaced(url: str, gate_run: Make) -> None:
    with History(url) as history:
        assert history.add([gate_run("a", 100)]) == 1
        assert history.add([gate_run("a", 120), gate_run("b", 130)]) == 1
        assert [run["latency_ms"]["p50"] for run in history.runs()] == [120, 130]
        (points,) = history.series("latency").values()
        assert [point.value for point in points] == [120, 130]


def test_series_are_apart_by_case_and_machine_and_skip_what_failed(url: str, gate_run: Make) -> None:
    runs = [
        gate_run("a", 100, latency_ms={"ci95": [99.0, 101.0]}, time="1"),
        gate_run("b", 101, time="2", commit=None),
        gate_run("c", 50, machine={"cpu": "Other"}),
        gate_run("d", 70, case={"resolution": "1080p"}),
        gate_run("e") | {"status": "failed", "reason": "x", "latency_ms": None},
    ]
    with History(url) as history:
        history.add(runs)
        series = history.series("latency")
        assert sorted([p.value for p in points] for points in series.values()) == [[50], [70], [100, 101]]
        (two,) = (points for points in series.values() if len(points) == 2)
        assert [(p.commit, p.interval) for p in two] == [("0123456789abcdef", (99.0, 101.0)), (None, None)]
        assert len(history.series("plan_size")) == 0


def test_all_or_none_of_the_runs_are_kept(url: str, gate_run: Make) -> None:
    with History(url) as history:
        with pytest.raises(ValueError, match="JSON"):
            history.add([gate_run("a"), gate_run("b", work={"gmac": float("nan")})])
        assert history.runs() == []


def _write(url: str, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        with History(url) as history:
            history.add([run])


def test_writers_at_once_lose_nothing_not_even_on_a_new_database(url: str, gate_run: Make) -> None:
    context = multiprocessing.get_context("fork")
    sides = [[gate_run(f"{w}-{k}") for k in range(5)] for w in range(3)]
    writers = [context.Process(target=_write, args=(url, runs)) for runs in sides]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with History(url) as history:
        assert {run["id"] for run in history.runs()} == {run["id"] for runs in sides for run in runs}


def test_an_older_database_is_upgraded_and_a_newer_one_refused(
    url: str, gate_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(url) as history:
        history.add([gate_run("a")])
    upgraded = []
    monkeypatch.setattr(module, "SCHEMA", SCHEMA + 2)
    monkeypatch.setattr(
        module,
        "UPGRADES",
        {number: lambda _, number=number: upgraded.append(number) for number in (SCHEMA, SCHEMA + 1)},
    )
    for _ in range(2):
        with History(url) as history:
            assert [run["id"] for run in history.runs()] == ["a"]
    assert upgraded == [SCHEMA, SCHEMA + 1]
    monkeypatch.setattr(module, "SCHEMA", SCHEMA)
    with pytest.raises(UserError, match="newer fullres"):
        History(url)


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path: Path, gate_run: Make) -> None:
    """At random moments of adding many runs; afterwards all of them or none are there, and the file opens."""
    url = str(tmp_path / "history.sqlite")
    with History(url) as history:
        history.add([gate_run("first")])
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        many = [gate_run(f"{attempt}-{k}") for k in range(300)]
        writer = context.Process(target=_add, args=(url, many))
        writer.start()
        writer.join(0.01 + 0.02 * attempt)
        writer.kill()
        writer.join()
        with History(url) as history:
            ids = [run["id"] for run in history.runs()]
        assert "first" in ids
        assert sum(name.startswith(f"{attempt}-") for name in ids) in {0, 300}


def _add(url: str, runs: list[dict[str, Any]]) -> None:
    with History(url) as history:
        history.add(runs)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_has_every_run_added_before(server: Server, gate_run: Make) -> None:
    empty(server.url)
    with History(server.url) as history:
        for k in range(5):
            history.add([gate_run(f"kept-{k}")])
    for attempt in range(50):
        server.kill()
        with pytest.raises(UserError, match="connection"):
            History(server.url)
        server.start()
        with History(server.url) as history:
            history.add([gate_run(f"after-{attempt}")])
            ids = {run["id"] for run in history.runs()}
        assert {f"kept-{k}" for k in range(5)} <= ids
        assert f"after-{attempt}" in ids


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://x/y", "not supported"),
        ("nonsense://x", "not supported"),
        ("postgresql+nonsense://x", "no database URL"),
        ("://", "no database URL"),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:1/none", "127.0.0.1"),
    ],
)
def test_what_cannot_be_opened_is_refused_without_its_password(url: str, named: str) -> None:
    if "psycopg" in url:
        pytest.importorskip("psycopg")
    with pytest.raises(UserError, match=named) as caught:
        History(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at " * 40)
    before = path.read_bytes()
    with pytest.raises(UserError, match="not a database"):
        History(str(path))
    assert path.read_bytes() == before
