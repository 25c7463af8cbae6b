"""The JSON files that make a directory a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import aiosqlite

from ..errors import NotARunError
from ..rl.processes import lock_is_held

# ---------------------------------------------------------------- MERGED runs.json_files


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The object in the file. Raises NotARunError where there is none, or one without the `needed` keys."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotARunError(
            f"{str(path.parent)!r} is not a run directory (it has no {path.name}); "
            "name one that `cosignal run` has made"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise NotARunError(
            f"{str(path)!r} must be the JSON file of a run, got {error}; restore the file or name another run"
        ) from error
    missing = [key for key in needed if key not in data] if isinstance(data, dict) else list(needed)
    if missing or not isinstance(data, dict):
        raise NotARunError(
            f"{str(path)!r} must be the JSON object of a run, got {type(data).__name__} without {missing!r}; "
            "name a directory that `cosignal run` has made"
        )
    return data


# ---------------------------------------------------------------- MERGED runs.store
# DOC """The run directory: what the loop writes to `loop.db`, and the one read model of a run.
# DOC
# DOC Two databases, one writer each: `trainer.db` belongs to the trainer, `loop.db` to the loop. Every write of `LoopStore`
# DOC is an upsert under a deterministic id and is synced before it returns, so that a step that runs again after a crash
# DOC changes nothing. `RunView` reads both, also while a run is live, and gives CLI, report and page the same numbers.
# DOC """

Row = dict[str, Any]
RunState = Literal["running", "waiting", "done", "failed", "stopped"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS run(name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS visits(
    id INTEGER PRIMARY KEY, task_id TEXT UNIQUE, node TEXT, point INTEGER, round INTEGER, started REAL, ended REAL,
    status TEXT, detail TEXT);
CREATE TABLE IF NOT EXISTS calls(
    id TEXT PRIMARY KEY, role TEXT, point INTEGER, round INTEGER, attempt INTEGER, prompt_id TEXT, prompt_hash TEXT,
    messages TEXT, provider TEXT, model TEXT, raw TEXT, parsed TEXT, outcome TEXT, error TEXT, input_tokens INTEGER,
    output_tokens INTEGER, latency_s REAL, started REAL, fallback INTEGER, structured TEXT, charged_tokens INTEGER,
    cost_usd REAL, error_class TEXT);
CREATE TABLE IF NOT EXISTS diagnoses(point INTEGER PRIMARY KEY, diagnosis TEXT, evidence TEXT);
CREATE TABLE IF NOT EXISTS proposals(
    id TEXT PRIMARY KEY, point INTEGER, round INTEGER, position INTEGER, proposal TEXT, signal TEXT, problems TEXT,
    notes TEXT, rank INTEGER);
CREATE TABLE IF NOT EXISTS branches(
    key TEXT PRIMARY KEY, point INTEGER, round INTEGER, phase TEXT, arm TEXT, seed INTEGER, horizon INTEGER, job TEXT,
    result TEXT);
CREATE TABLE IF NOT EXISTS rankings(point INTEGER PRIMARY KEY, ranker TEXT, steps INTEGER, detail TEXT);
CREATE TABLE IF NOT EXISTS decisions(
    id TEXT PRIMARY KEY, point INTEGER, round INTEGER, verdict TEXT, winner TEXT, adopted TEXT, version INTEGER,
    detail TEXT, created_steps INTEGER);
"""
# Columns of `calls` that runs of earlier versions do not have; they read as null there.
LATER_COLUMNS = {
    "fallback": "INTEGER",
    "structured": "TEXT",
    "charged_tokens": "INTEGER",
    "cost_usd": "REAL",
    "error_class": "TEXT",
}
JSON_COLUMNS = {
    "visits": ("detail",),
    "calls": ("messages", "parsed"),
    "diagnoses": ("diagnosis", "evidence"),
    "proposals": ("proposal", "signal", "problems", "notes"),
    "branches": ("job", "result"),
    "rankings": ("detail",),
    "decisions": ("detail",),
    "metrics": ("data",),
    "signals": ("signal",),
}
ORDER = {
    "visits": "id",
    "calls": "started, id",
    "diagnoses": "point",
    "proposals": "point, round, position",
    "branches": "point, round, rowid",
    "rankings": "point",
    "decisions": "point, round",
    "metrics": "update_index",
    "signals": "version",
}
BUSY_TIMEOUT_S = 30.0


# ---------------------------------------------------------------- the write side


class LoopStore:
    """The loop's tables in `loop.db`, opened with `await LoopStore.open(run_dir)`. Rows are dicts, JSON columns plain
    data."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, run_dir: Path) -> LoopStore:
        connection = await aiosqlite.connect(run_dir / "loop.db", timeout=BUSY_TIMEOUT_S)
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute("PRAGMA synchronous=FULL")
        await connection.executescript(SCHEMA)
        await _add_later_columns(connection)
        connection.row_factory = sqlite3.Row
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert the row, or replace the named columns of the one with the same key. Synced when this returns."""
        await self.write_all(table, [row])

    async def write_all(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """All rows in one transaction; they name the same columns, the table's key first."""
        if not rows:
            return
        columns = list(rows[0])
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        marks = ", ".join("?" * len(columns))
        statement = (
            f"INSERT INTO {table}({', '.join(columns)}) VALUES ({marks}) "
            f"ON CONFLICT({columns[0]}) DO UPDATE SET {updates}"
        )
        await self._connection.executemany(statement, [_encoded(table, row) for row in rows])
        await self._connection.commit()

    async def update(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Set the named columns of rows that exist; each names the table's key first."""
        for row in rows:
            key, *columns = row
            assignments = ", ".join(f"{column} = ?" for column in columns)
            values = (*_encoded(table, row)[1:], row[key])
            await self._connection.execute(f"UPDATE {table} SET {assignments} WHERE {key} = ?", values)
        await self._connection.commit()

    async def rows(self, table: str, **equal: Any) -> list[Row]:
        """The rows whose columns have these values, in the table's order."""
        where = " AND ".join(f"{column} = ?" for column in equal) or "1"
        query = f"SELECT * FROM {table} WHERE {where} ORDER BY {ORDER[table]}"
        found = await self._connection.execute_fetchall(query, tuple(equal.values()))
        return [_decoded(table, dict(row)) for row in found]

    async def branch_steps(self, before: tuple[int, int] | None = None) -> int:
        """Environment steps of branches, their evaluation included, and of pairs that were played for a Ranker: of all,
        or of those that the loop had run when it began to validate at `before` = (point, round)."""
        steps = "COALESCE(SUM(json_extract(result, '$.steps') + json_extract(result, '$.steps_evaluation')), 0)"
        query, values = f"SELECT {steps} FROM branches", tuple[int, ...]()
        if before is not None:
            query += " WHERE (point, round) < (?, ?) OR (phase IN ('probe', 'rehearsal') AND point <= ?)"
            values = (*before, before[0])
        [row] = list(await self._connection.execute_fetchall(query, values))
        last = (1 << 62) if before is None else before[0]
        ranked = "SELECT COALESCE(SUM(steps), 0) FROM rankings WHERE point <= ?"
        [pairs] = list(await self._connection.execute_fetchall(ranked, (last,)))
        return int(row[0]) + int(pairs[0])

    async def usage(self) -> tuple[int, int, float]:
        """Model calls made so far, the tokens charged for them, and US dollars where a price is known."""
        counted = "COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)"
        sums = f"COALESCE(SUM(COALESCE(charged_tokens, {counted})), 0), COALESCE(SUM(cost_usd), 0)"
        query = f"SELECT COUNT(*), {sums} FROM calls WHERE outcome != 'budget'"  # those were refused, not made
        [row] = list(await self._connection.execute_fetchall(query))
        return int(row[0]), int(row[1]), float(row[2])

    async def close_visits(self) -> None:
        """Mark the visits that a killed process left open; a node that runs again opens its own again."""
        await self._connection.execute("UPDATE visits SET status = 'killed', ended = started WHERE ended IS NULL")
        await self._connection.commit()

    async def set(self, **values: Any) -> None:
        """Named values of the run, as JSON: state, error, wall_s, waiting_for."""
        await self.write_all("run", [{"name": name, "value": json.dumps(value)} for name, value in values.items()])

    async def get(self, name: str, default: Any = None) -> Any:
        query = "SELECT value FROM run WHERE name = ?"
        found = list(await self._connection.execute_fetchall(query, (name,)))
        return json.loads(found[0][0]) if found else default

    async def prune_checkpoints(self, thread_id: str, keep: int) -> None:
        """Delete all but the last `keep` graph checkpoints of a thread (LangGraph has no pruning for SQLite)."""
        old = (
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '' "
            "ORDER BY checkpoint_id DESC LIMIT -1 OFFSET ?"
        )
        for table in ("writes", "checkpoints"):
            statement = f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id IN ({old})"
            await self._connection.execute(statement, (thread_id, thread_id, keep))
        await self._connection.commit()


async def _add_later_columns(connection: aiosqlite.Connection) -> None:
    """So that the run of an earlier version can be resumed."""
    known = {row[1] for row in await connection.execute_fetchall("PRAGMA table_info(calls)")}
    for name, kind in LATER_COLUMNS.items():
        if name not in known:
            await connection.execute(f"ALTER TABLE calls ADD COLUMN {name} {kind}")
    await connection.commit()


def _encoded(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    json_columns = JSON_COLUMNS.get(table, ())
    return tuple(
        json.dumps(value) if column in json_columns and value is not None else value for column, value in row.items()
    )


def _decoded(table: str, row: Row) -> Row:
    for column in JSON_COLUMNS.get(table, ()):
        if row.get(column) is not None:
            row[column] = json.loads(row[column])
    return row


def steps_of(branch: Row) -> int:
    """Environment steps of one row of `branches`: training and evaluation."""
    return int(branch["result"]["steps"]) + int(branch["result"]["steps_evaluation"])


# ---------------------------------------------------------------- the read model


class RunView:
    """Reads a run directory; every call reads anew. Raises NotARunError where there is no run."""

    def __init__(self, run_dir: Path) -> None:
        self.path = Path(run_dir)
        self.info = read_json(self.path / "run.json")
        self.config = read_json(self.path / "config.json", needed=("seed", "llm", "trainer", "task"))

    # ------------------------------------------------------------ tables

    def metrics(self) -> list[Row]:
        """One row an update, oldest first: the trainer's metric data, with `update` and `steps`."""
        rows = self._rows("trainer.db", "metrics")
        return [{**row["data"], "update": row["update_index"], "steps": row["steps"]} for row in rows]

    def signals(self) -> list[Row]:
        """The signal log, version 0 first; `signal` is the signal as data, `cause` why it was put in force."""
        return [_with_cause(row) for row in self._rows("trainer.db", "signals")]

    def proposals(self) -> list[Row]:
        return self._rows("loop.db", "proposals")

    def branches(self) -> list[Row]:
        return self._rows("loop.db", "branches")

    def rankings(self) -> list[Row]:
        """What was ranked at each point, and the scorers that came of it."""
        return self._rows("loop.db", "rankings")

    def calls(self) -> list[Row]:
        """One row an attempt, oldest first: the fields of `agents.llm.ledger.Call`."""
        return [dict.fromkeys(LATER_COLUMNS) | row for row in self._rows("loop.db", "calls")]

    def decisions(self) -> list[Row]:
        return self._rows("loop.db", "decisions")

    def looks(self) -> list[Row]:
        """Evidence of each intervention, and its diagnosis, None where it has none."""
        return self._rows("loop.db", "diagnoses")

    def diagnoses(self) -> list[Row]:
        """Evidence and diagnosis of each intervention that has one."""
        return [row for row in self.looks() if row["diagnosis"] is not None]

    def visits(self) -> list[Row]:
        return self._rows("loop.db", "visits")

    def counters(self) -> dict[str, str]:
        """The trainer's counters as it wrote them; empty before its first update."""
        query = "SELECT name, value FROM counters"
        return {row["name"]: row["value"] for row in self._query("trainer.db", "counters", query)}

    def values(self) -> Row:
        """The loop's named values: state, error, wall_s, waiting_for."""
        rows = self._query("loop.db", "run", "SELECT name, value FROM run")
        return {row["name"]: json.loads(row["value"]) for row in rows}

    def waiting_for(self) -> Row | None:
        """The promotion that waits for a human: the fields of the event `ApprovalNeeded`. None where none does."""
        found: Row | None = self.values().get("waiting_for")
        return found

    # ------------------------------------------------------------ status

    def state(self) -> RunState:
        """`running` while a loop holds the run's lock, `waiting` where it waits for a human; else what the loop wrote
        last, `stopped` when it was killed."""
        if lock_is_held(self.path / "loop.lock"):
            return "running" if self.waiting_for() is None else "waiting"
        written = self.values().get("state")
        if written == "done" and self.counters().get("state") == "finished":
            return "done"
        return "failed" if written == "failed" else "stopped"

    def steps_total(self) -> int:
        """Environment steps of everything: main line, its evaluation, branches, pairs that were played to be ranked;
        adopted branch steps once."""
        counters = self.counters()
        main = _number(counters, "steps_main") + _number(counters, "steps_evaluation")
        others = sum(map(steps_of, self.branches())) + sum(row["steps"] for row in self.rankings())
        return int(main + others - _number(counters, "steps_adopted"))

    def status(self) -> Row:
        """Where the run stands, the fields of `cosignal status --json`.

        `error`: what made the run fail, else null. `sparse_return`, `success_rate`: of the last evaluation of the main
        line; null before the first one. `episodes_lost`: training episodes of the main line that were cut since their
        environment crashed or hung. `llm_calls`: those that were made, not those that the budget refused.
        `waiting_for`: id of the promotion that waits for a human, else null.
        """
        counters, proposals, branches = self.counters(), self.proposals(), self.branches()
        signals, values, waiting = self.signals(), self.values(), self.waiting_for()
        evaluated = [row for row in self.metrics() if row.get("evaluation_return") is not None]
        last = evaluated[-1] if evaluated else {}
        return {
            "path": str(self.path.absolute()),
            "state": self.state(),
            "error": values.get("error"),
            "seed": self.config["seed"],
            "provider": values.get("provider") or provider(self.config["llm"]),
            "stage": counters.get("stage"),
            "steps_main": _number(counters, "steps_main"),
            "steps_total": self.steps_total(),
            "steps_budget": self.config["trainer"]["steps"],
            "signal_version": signals[-1]["version"] if signals else 0,
            "proposals": len(proposals),
            "validated": len({row["arm"] for row in branches} & {row["id"] for row in proposals}),
            "promotions": sum(row["cause"] == "promotion" for row in signals),
            "rollbacks": sum(row["cause"] == "rollback" for row in signals),
            "waiting_for": waiting["id"] if waiting else None,
            "llm_calls": sum(row["outcome"] != "budget" for row in self.calls()),
            "sparse_return": last.get("evaluation_return"),
            "success_rate": last.get("evaluation_success"),
            "episodes_lost": _number(counters, "episodes_lost"),
            "wall_s": round(float(values.get("wall_s", 0.0)), 1),
        }

    # ------------------------------------------------------------ reading

    def _rows(self, database: str, table: str) -> list[Row]:
        found = self._query(database, table, f"SELECT * FROM {table} ORDER BY {ORDER[table]}")
        return [_decoded(table, row) for row in found]

    def _query(self, database: str, table: str, query: str) -> list[Row]:
        """Rows of a read-only query; none while the writer has not made the database or the table yet."""
        path = self.path / database
        if not path.exists():
            return []
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            connection.row_factory = sqlite3.Row
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
            if known.fetchone() is None:
                return []
            return [dict(row) for row in connection.execute(query)]


def _with_cause(row: Row) -> Row:
    """Runs of an earlier version knew promotions only."""
    return {"cause": "promotion" if row["version"] else "start", **row}


def _number(counters: Mapping[str, str], name: str) -> int:
    return int(counters.get(name, 0))


def provider(llm: Mapping[str, Any], given: Mapping[str, str] | None = None) -> str:
    """The providers of all roles, each once: `rules`, or `openai+rules`. `given`: role → the kind of the chat model
    that somebody gave it in place of the config's."""
    roles = {role: str((llm.get(role) or llm["default"])["provider"]) for role in ("critic", "generator", "ranker")}
    return "+".join(sorted({*(roles | dict(given or {})).values()}))
