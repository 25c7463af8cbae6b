"""The tables of `loop.db`, and `LoopStore`, which alone writes them.

Two databases, one writer each: `trainer.db` belongs to the trainer, `loop.db` to the loop. Every write of `LoopStore`
is an upsert under a deterministic id and is synced before it returns, so that a step that runs again after a crash
changes nothing. Rows are the models of `runs.records`; TABLES says in which of the two they stand.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiosqlite
from pydantic import BaseModel

from ..agents.llm.ledger import Call
from ..errors import DamagedRunError
from ..files import writing
from .race_records import EvaluationRecord, RaceRecord
from .records import (
    BranchRecord,
    DecisionRecord,
    FailedBranchRecord,
    FitRecord,
    InterventionRecord,
    ProposalRecord,
    RankingRecord,
    SignalVersion,
    VisitRecord,
)
from .run_files import BUSY_TIMEOUT_S
from .steps import ExtraSteps

R = TypeVar("R", bound=BaseModel)

# ---------------------------------------------------------------- tables

SCHEMA = """
CREATE TABLE IF NOT EXISTS run(name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS visits(
    id INTEGER PRIMARY KEY, task_id TEXT UNIQUE, node TEXT, point INTEGER, round INTEGER, started REAL, ended REAL,
    status TEXT, detail TEXT);
CREATE TABLE IF NOT EXISTS calls(
    id TEXT PRIMARY KEY, role TEXT, point INTEGER, round INTEGER, attempt INTEGER, prompt_id TEXT, prompt_hash TEXT,
    messages TEXT, provider TEXT, model TEXT, raw TEXT, parsed TEXT, outcome TEXT, error TEXT, input_tokens INTEGER,
    output_tokens INTEGER, latency_s REAL, started REAL, fallback INTEGER, structured TEXT, charged_tokens INTEGER,
    cost_usd REAL, error_class TEXT, temperature REAL, clipped TEXT);
CREATE TABLE IF NOT EXISTS diagnoses(point INTEGER PRIMARY KEY, diagnosis TEXT, evidence TEXT);
CREATE TABLE IF NOT EXISTS proposals(
    id TEXT PRIMARY KEY, point INTEGER, round INTEGER, position INTEGER, proposal TEXT, signal TEXT, problems TEXT,
    notes TEXT, rank INTEGER, preview TEXT);
CREATE TABLE IF NOT EXISTS branches(
    key TEXT PRIMARY KEY, point INTEGER, round INTEGER, phase TEXT, arm TEXT, seed INTEGER, horizon INTEGER, job TEXT,
    result TEXT, spent_at INTEGER);
CREATE TABLE IF NOT EXISTS failed_branches(
    key TEXT PRIMARY KEY, point INTEGER, round INTEGER, phase TEXT, arm TEXT, seed INTEGER, horizon INTEGER, job TEXT,
    reason TEXT, steps INTEGER, spent_at INTEGER);
CREATE TABLE IF NOT EXISTS races(id TEXT PRIMARY KEY, point INTEGER, round INTEGER, detail TEXT);
CREATE TABLE IF NOT EXISTS evaluations(
    key TEXT PRIMARY KEY, point INTEGER, round INTEGER, purpose TEXT, arm TEXT, state TEXT, result TEXT,
    reason TEXT, steps INTEGER, spent_at INTEGER);
CREATE TABLE IF NOT EXISTS rankings(point INTEGER PRIMARY KEY, ranker TEXT, steps INTEGER, detail TEXT);
CREATE TABLE IF NOT EXISTS fits(id TEXT PRIMARY KEY, point INTEGER, kind TEXT, steps INTEGER, detail TEXT);
CREATE TABLE IF NOT EXISTS decisions(
    id TEXT PRIMARY KEY, point INTEGER, round INTEGER, verdict TEXT, winner TEXT, adopted TEXT, version INTEGER,
    detail TEXT, created_steps INTEGER);
"""
# Columns, by table, that runs of earlier versions do not have; they read as null there.
LATER_COLUMNS = {
    "calls": {
        "fallback": "INTEGER",
        "structured": "TEXT",
        "charged_tokens": "INTEGER",
        "cost_usd": "REAL",
        "error_class": "TEXT",
        "temperature": "REAL",
        "clipped": "TEXT",
    },
    "proposals": {"preview": "TEXT"},
    "branches": {"spent_at": "INTEGER"},
    "failed_branches": {"spent_at": "INTEGER"},
}


class Table(NamedTuple):
    """The place of records of one kind: database, table, order of reading, and the columns that hold JSON."""

    database: str
    name: str
    order: str
    json_columns: tuple[str, ...] = ()


TABLES: dict[type[BaseModel], Table] = {
    VisitRecord: Table("loop.db", "visits", "id", ("detail",)),
    Call: Table("loop.db", "calls", "started, id", ("messages", "parsed", "clipped")),
    InterventionRecord: Table("loop.db", "diagnoses", "point", ("diagnosis", "evidence")),
    ProposalRecord: Table(
        "loop.db", "proposals", "point, round, position", ("proposal", "signal", "problems", "notes", "preview")
    ),
    BranchRecord: Table("loop.db", "branches", "point, round, rowid", ("job", "result")),
    FailedBranchRecord: Table("loop.db", "failed_branches", "point, round, rowid", ("job",)),
    RaceRecord: Table("loop.db", "races", "point, round", ("detail",)),
    EvaluationRecord: Table("loop.db", "evaluations", "point, round, rowid", ("result",)),
    RankingRecord: Table("loop.db", "rankings", "point", ("detail",)),
    FitRecord: Table("loop.db", "fits", "point, id", ("detail",)),
    DecisionRecord: Table("loop.db", "decisions", "point, round", ("detail",)),
    SignalVersion: Table("trainer.db", "signals", "version", ("signal",)),
}

# Tables of `loop.db` whose rows are never deleted.
COUNTED = tuple(table.name for table in TABLES.values() if table.database == "loop.db")


def record_of(kind: type[R], row: dict[str, Any], read: Callable[[str], Any] = json.loads) -> R:
    """Make a record of a row, whose JSON columns are decoded by `read`. Raises pydantic's ValidationError."""
    for column in TABLES[kind].json_columns:
        if row.get(column) is not None:
            row[column] = read(row[column])
    # Columns that runs of earlier versions do not have take their defaults.
    later = LATER_COLUMNS.get(TABLES[kind].name, {})
    row = {name: value for name, value in row.items() if value is not None or name not in later}
    return kind.model_validate(row)


# ---------------------------------------------------------------- the writer


class LoopStore:
    """The loop's tables in `loop.db`, opened with `await LoopStore.open(run_dir)`.

    Every method raises StorageError where the database cannot be written or is damaged.
    """

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    async def open(cls, run_dir: Path) -> LoopStore:
        """Open `loop.db` of a run directory; it and its tables are made where there are none."""
        path = run_dir / "loop.db"
        with writing(path):
            # The system's reason comes first: SQLite says no more than that it cannot open the file.
            await asyncio.to_thread(lambda: path.open("ab").close())
            connection = await aiosqlite.connect(path, timeout=BUSY_TIMEOUT_S)
            try:
                await _prepare(connection)
            except BaseException:
                await connection.close()
                raise
        return cls(connection, path)

    async def close(self) -> None:
        """Close the database."""
        await self._connection.close()

    async def write(self, *records: BaseModel) -> None:
        """Insert records of one kind, or replace those with the same key, in one transaction.

        They are synced to disk when this returns.
        """
        if not records:
            return
        table = TABLES[type(records[0])]
        # Records hold models and lists; JSON columns are text.
        rows = [record.model_dump(mode="json") for record in records]
        for row in rows:
            row |= {name: json.dumps(row[name]) for name in table.json_columns if row[name] is not None}
        columns = list(rows[0])  # the key first
        await self._upsert(table.name, columns, [tuple(row.values()) for row in rows])

    async def _upsert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        statement = (
            f"INSERT INTO {table}({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT({columns[0]}) DO UPDATE SET {updates}"
        )
        with writing(self.path):
            await self._connection.executemany(statement, rows)
            await self._connection.commit()

    async def _change(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Execute statements with their values in one transaction."""
        with writing(self.path):
            for statement, values in statements:
                await self._connection.execute(statement, values)
            await self._connection.commit()

    async def _fetch(self, query: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with writing(self.path):
            return list(await self._connection.execute_fetchall(query, values))

    async def read(self, kind: type[R], **equal: Any) -> list[R]:
        """Read the records whose columns have these values, in the table's order."""
        table = TABLES[kind]
        where = " AND ".join(f"{column} = ?" for column in equal) or "1"
        query = f"SELECT * FROM {table.name} WHERE {where} ORDER BY {table.order}"
        rows = await self._fetch(query, tuple(equal.values()))
        try:
            return [record_of(kind, dict(row)) for row in rows]
        except ValueError as error:  # no JSON, or not of this shape
            raise DamagedRunError(
                f"the table {table.name!r} of {str(self.path)!r} must hold rows of this version of cosignal, but "
                f"{error!s:.120}; restore the file from a copy, or start a new run"
            ) from error

    async def extra_steps(self, before: tuple[int, int] | None = None) -> ExtraSteps:
        """Sum the steps beside the main line.

        Args:
            before: (point, round): only what the loop had spent when it began to validate there; left out, all.
        """
        # Summed by SQLite, since progress asks every second and results hold long curves.
        finished = "json_extract(result, '$.steps') + json_extract(result, '$.steps_evaluation')"
        where, values = "1", tuple[int, ...]()
        if before is not None:
            # Probes and rehearsals come before the round's own branches, and belong to no round.
            where = "(point, round) < (?, ?) OR (phase IN ('probe', 'rehearsal') AND point <= ?)"
            values = (*before, before[0])
        branches = 0
        for table, steps in (("branches", finished), ("failed_branches", "steps"), ("evaluations", "steps")):
            of_phase = where if table != "evaluations" else where.replace("phase", "purpose")
            [row] = await self._fetch(f"SELECT COALESCE(SUM({steps}), 0) FROM {table} WHERE {of_phase}", values)
            branches += int(row[0])
        last = (1 << 62) if before is None else before[0]
        play = 0
        for table in ("rankings", "fits"):
            [row] = await self._fetch(f"SELECT COALESCE(SUM(steps), 0) FROM {table} WHERE point <= ?", (last,))
            play += int(row[0])
        return ExtraSteps(branches, play)

    async def usage(self) -> tuple[int, int, float]:
        """Sum up the model calls made so far: how many, tokens charged, and US dollars where a price is known."""
        counted = "COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)"
        sums = f"COALESCE(SUM(COALESCE(charged_tokens, {counted})), 0), COALESCE(SUM(cost_usd), 0)"
        query = f"SELECT COUNT(*), {sums} FROM calls WHERE outcome != 'budget'"  # those were refused, not made
        [row] = await self._fetch(query)
        return int(row[0]), int(row[1]), float(row[2])

    async def row_counts(self) -> dict[str, int]:
        """Count the rows of each table of records; none ever has fewer than before."""
        query = " UNION ALL ".join(f"SELECT '{name}', COUNT(*) FROM {name}" for name in COUNTED)
        return {str(name): int(count) for name, count in await self._fetch(query)}

    async def close_visits(self) -> None:
        """Mark the visits that a killed process left open; a node that runs again opens its own again."""
        await self._change(("UPDATE visits SET status = 'killed', ended = started WHERE ended IS NULL", ()))

    async def set(self, **values: Any) -> None:
        """Write named values of the run, as JSON: state, error, wall_s, provider, waiting_for, warnings."""
        await self._upsert("run", ("name", "value"), [(name, json.dumps(value)) for name, value in values.items()])

    async def get(self, name: str, default: Any = None) -> Any:
        """Read a named value of the run; `default` where it was never written."""
        query = "SELECT value FROM run WHERE name = ?"
        found = await self._fetch(query, (name,))
        return json.loads(found[0][0]) if found else default

    async def prune_checkpoints(self, thread_id: str, keep: int) -> None:
        """Delete all but the last `keep` graph checkpoints of a thread (LangGraph has no pruning for SQLite)."""
        # Ids of checkpoints sort by age.
        old = (
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '' "
            "ORDER BY checkpoint_id DESC LIMIT -1 OFFSET ?"
        )
        await self._change(
            *(
                (f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id IN ({old})", (thread_id, thread_id, keep))
                for table in ("writes", "checkpoints")
            )
        )


async def _prepare(connection: aiosqlite.Connection) -> None:
    """Make the tables and columns that are not there yet."""
    await connection.execute("PRAGMA journal_mode=WAL")
    await connection.execute("PRAGMA synchronous=FULL")
    await connection.executescript(SCHEMA)
    # The run of an earlier version can be resumed.
    for table, later in LATER_COLUMNS.items():
        columns = {row[1] for row in await connection.execute_fetchall(f"PRAGMA table_info({table})")}
        for name in later.keys() - columns:
            await connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {later[name]}")
    await connection.commit()
    connection.row_factory = sqlite3.Row
