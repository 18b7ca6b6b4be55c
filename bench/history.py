"""Runs kept in a database, each under its commit: SQLite by default, PostgreSQL by URL. What plots them is elsewhere.

Tables: `fullres_schema` (one row, the number of the format), `fullres_runs` (whole runs as JSON, with what they are
looked up by) and `fullres_figures` (their figures). Adding a run again replaces it, so that nothing counts twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from bench.metrics import value
from bench.pairing import UNKNOWN, case_key, machine_of, title_of
from bench.record import Run
from bench.rules import FIGURES
from reference_models.errors import UserError

SCHEMA = 1
"""Number of the format written. 1: the first."""
UPGRADES: dict[int, Callable[[Connection], None]] = {}
"""Number of a format → what makes one of the next of it; runs inside the transaction that opens the database."""
WAIT_S = 60
"""For other writers."""
LOCK = 0x66756C6C
"""PostgreSQL's advisory lock under which tables are made and upgraded."""

_METADATA = MetaData()
_VERSION = Table("fullres_schema", _METADATA, Column("number", Integer, nullable=False))
_RUNS = Table(
    "fullres_runs",
    _METADATA,
    Column("id", String(64), primary_key=True),
    Column("time", String(40), nullable=False, index=True),
    Column("commit", String(80)),
    Column("case_key", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("run", Text, nullable=False),
)
_FIGURES = Table(
    "fullres_figures",
    _METADATA,
    Column("run_id", String(64), ForeignKey("fullres_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(40), primary_key=True),
    Column("value", Float, nullable=False),
    Column("low", Float),
    Column("high", Float),
)


@dataclass(frozen=True)
class Point:
    """One figure of one run."""

    time: str
    commit: str | None
    title: str
    machine: str
    value: float
    interval: tuple[float, float] | None


class History:
    """An open database; a context manager."""

    def __init__(self, url: str) -> None:
        """Opens it, makes its tables where there are none, and upgrades those of an older fullres.

        Args:
            url: of SQLAlchemy, or the path of an SQLite file.

        Raises:
            UserError: it cannot be opened, its driver is not installed, or it is from a newer fullres.
        """
        self._url = url if "://" in url else f"sqlite:///{Path(url).absolute()}"
        self._engine = _engine(self._url)
        with self._transaction() as connection:
            _prepare(connection, self._shown)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def add(self, runs: Sequence[Run], commit: str | None = None) -> int:
        """Keeps the runs, all or none of them; one that is there already is replaced. Returns how many were new.

        Args:
            commit: that they measured; without it each keeps the one that it is stored with, or brings.
        """
        with self._transaction() as connection:
            known = {row.id: row.commit for row in connection.execute(select(_RUNS.c.id, _RUNS.c.commit))}
            for run in runs:
                self._put(connection, {**run, "commit": commit or known.get(run["id"]) or run.get("commit")})
        return len({run["id"] for run in runs} - known.keys())

    def runs(self, commit: str | None = None) -> list[Run]:
        """Whole runs, oldest first; of a commit, of which a beginning is enough, or `unknown`: of none."""
        query = select(_RUNS.c.run).order_by(_RUNS.c.time, _RUNS.c.id)
        with self._transaction() as connection:
            if commit == UNKNOWN:
                query = query.where(_RUNS.c.commit.is_(None))
            elif commit is not None:
                exact = select(_RUNS.c.id).where(_RUNS.c.commit == commit).limit(1)
                whole = connection.execute(exact).first() is not None  # v1.1 is no beginning of v1.10
                same = _RUNS.c.commit == commit if whole else _RUNS.c.commit.startswith(commit, autoescape=True)
                query = query.where(same)
            return [json.loads(row.run) for row in connection.execute(query)]

    def commits(self) -> list[tuple[str | None, str, int]]:
        """Commit, time of its last run and number of runs; the oldest first."""
        found: dict[str | None, tuple[str, int]] = {}
        query = select(_RUNS.c.commit, _RUNS.c.time).order_by(_RUNS.c.time)
        with self._transaction() as connection:
            for row in connection.execute(query):
                found[row.commit] = (row.time, found.get(row.commit, ("", 0))[1] + 1)
        return sorted(((commit, *rest) for commit, rest in found.items()), key=lambda entry: entry[1])

    def series(self, figure: str) -> dict[tuple[str, str], list[Point]]:
        """(case, machine) → the figure over time, oldest first."""
        query = (
            select(_RUNS, _FIGURES.c.value, _FIGURES.c.low, _FIGURES.c.high)
            .join(_FIGURES, _FIGURES.c.run_id == _RUNS.c.id)
            .where(_FIGURES.c.name == figure)
            .order_by(_RUNS.c.time, _RUNS.c.id)
        )
        found: dict[tuple[str, str], list[Point]] = {}
        with self._transaction() as connection:
            for row in connection.execute(query):
                interval = None if row.low is None else (row.low, row.high)
                point = Point(row.time, row.commit, row.title, row.machine, row.value, interval)
                found.setdefault((row.case_key, row.machine), []).append(point)
        return found

    def _put(self, connection: Connection, run: Run) -> None:
        machine = machine_of(run)
        values = {
            "id": run["id"],
            "time": str(run.get("time") or ""),
            "commit": run.get("commit"),
            "case_key": case_key(run),
            "machine": json.dumps(machine, sort_keys=True),
            "title": title_of(run),
            "status": run["status"],
            "run": json.dumps(run, allow_nan=False),
        }
        make = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
        changed = {name: text for name, text in values.items() if name != "id"}
        connection.execute(make(_RUNS).values(values).on_conflict_do_update(index_elements=["id"], set_=changed))
        connection.execute(delete(_FIGURES).where(_FIGURES.c.run_id == run["id"]))
        rows = [{"run_id": run["id"], **row} for row in _figures(run)]
        if rows:
            connection.execute(insert(_FIGURES), rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise UserError(
                f"`--db {self._shown}`: {_first_line(error)}",
                "a database that can be read and written",
                "Check the URL",
            ) from error

    @property
    def _shown(self) -> str:
        return make_url(self._url).render_as_string(hide_password=True)


def _engine(url: str) -> Engine:
    shown = url.partition("://")[0]
    try:
        name = make_url(url).get_backend_name()
        if name not in {"sqlite", "postgresql"}:
            raise UserError(f"`--db {shown}://…`: not supported", "sqlite or postgresql", "Use one of these")
        options = {"timeout": WAIT_S} if name == "sqlite" else {}
        engine = create_engine(url, connect_args=options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UserError(f"`--db {shown}`: no database URL", "a file or postgresql://…", "Check the URL") from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"`--db {shown}://…`: Python package `{error.name}` is not installed",
            "a driver, such as postgresql+psycopg://…",
            "Install it: pip install 'psycopg[binary]'",
        ) from error
    if name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _configure_sqlite(connection: Any, _: object) -> None:
    """Python's own transactions begin too late to keep two writers apart; `begin` above begins them."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _prepare(connection: Connection, shown: str) -> None:
    """Makes or upgrades the tables. Two programs may open a new database at once: one of them waits."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    if not inspect(connection).has_table(_VERSION.name):
        _METADATA.create_all(connection)
        connection.execute(insert(_VERSION).values(number=SCHEMA))
        return
    number = connection.execute(select(_VERSION.c.number)).scalar_one()
    if number > SCHEMA:
        raise UserError(
            f"`--db {shown}`: schema {number} is from a newer fullres", f"schema {SCHEMA}", "Update fullres"
        )
    while number < SCHEMA:
        UPGRADES[number](connection)
        number += 1
        connection.execute(update(_VERSION).values(number=number))


def _figures(run: Run) -> Iterator[Mapping[str, Any]]:
    if run["status"] != "ok":
        return
    interval = (run.get("latency_ms") or {}).get("ci95")
    for figure in FIGURES:
        number = value(run, figure.key)
        if number is not None:
            low, high = interval if interval and figure.measured else (None, None)
            yield {"name": figure.name, "value": number, "low": low, "high": high}


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
