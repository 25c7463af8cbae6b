"""`trainer.db`: metrics, signal log and counters. Written by one background thread of the trainer, read by everybody.

Metrics are upserts by update, so that steps trained again after a crash overwrite their own rows with the same values.
The signal log is synced to disk before `log_signal` returns.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ipc.messages import Cause
from ..signals.signal import Signal

SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (update_index INTEGER PRIMARY KEY, steps INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS signals (version INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, base_version INTEGER,
    applied_update INTEGER NOT NULL, applied_steps INTEGER NOT NULL, signal TEXT NOT NULL, adopt TEXT,
    cause TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
FLUSH_S = 0.5


@dataclass(frozen=True)
class LoggedSignal:
    """One line of the signal log: `signal` applies at the boundary after `applied_update`.

    `adopt`: the state that became the main line with it, relative to the run directory: a branch's end state, or for a
    rollback the snapshot before what was undone. None where the line kept its own state.
    """

    version: int
    key: str
    base_version: int | None
    applied_update: int
    applied_steps: int
    signal: Signal
    adopt: str | None
    cause: Cause = "promotion"


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a commit is on disk when it returns
    return connection


def read_signals(path: Path) -> list[LoggedSignal]:
    connection = connect(path)
    connection.executescript(SCHEMA)
    rows = connection.execute(
        "SELECT version, key, base_version, applied_update, applied_steps, signal, adopt, cause FROM signals "
        "ORDER BY version"
    ).fetchall()
    connection.close()
    return [
        LoggedSignal(version, key, base, update, steps, Signal.model_validate_json(text), adopt, cause)
        for version, key, base, update, steps, text, adopt, cause in rows
    ]


def trained_updates(path: Path) -> frozenset[int]:
    """The updates that have a metrics row of their own training."""
    connection = connect(path)
    connection.executescript(SCHEMA)
    rows = connection.execute("SELECT update_index FROM metrics WHERE json_extract(data, '$.trained')").fetchall()
    connection.close()
    return frozenset(update for (update,) in rows)


def read_counter(path: Path, name: str) -> str | None:
    connection = connect(path)
    connection.executescript(SCHEMA)
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    connection.close()
    return None if row is None else str(row[0])


class MetricsWriter:
    """The one writer of `trainer.db`, on a thread of its own. A failed write is raised at the next call."""

    def __init__(self, path: Path) -> None:
        self._queue: queue.Queue[tuple[str, tuple[Any, ...], threading.Event | None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(path,), name="metrics-writer", daemon=True)
        self._thread.start()

    def metrics(self, update_index: int, steps: int, data: dict[str, Any]) -> None:
        row = (update_index, steps, json.dumps(data))
        self._put("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)", row)

    def counters(self, **values: object) -> None:
        for name, value in values.items():
            self._put("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, str(value)))

    def log_signal(self, entry: LoggedSignal) -> None:
        """Returns when the entry is on disk."""
        row = (
            entry.version, entry.key, entry.base_version, entry.applied_update, entry.applied_steps,
            entry.signal.model_dump_json(), entry.adopt, entry.cause,
        )  # fmt: skip
        self._put("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row, wait=True)

    def flush(self) -> None:
        """Returns when everything put so far is on disk."""
        self._put("SELECT 1", (), wait=True)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._check()

    def _put(self, sql: str, row: tuple[Any, ...], wait: bool = False) -> None:
        self._check()
        done = threading.Event() if wait else None
        self._queue.put((sql, row, done))
        while done is not None and not done.wait(timeout=1.0):
            self._check()
        self._check()

    def _check(self) -> None:
        """Raises what ended the writer, so that nobody takes a lost row for a written one."""
        if self._error is not None:
            raise self._error

    def _run(self, path: Path) -> None:
        waiting: list[threading.Event] = []
        try:
            with closing(connect(path)) as connection:
                connection.executescript(SCHEMA)
                while (item := self._queue.get()) is not None:
                    batch = self._batch(item)
                    waiting = [done for _, _, done in batch if done is not None]
                    connection.execute("BEGIN")
                    for sql, row, _ in batch:
                        connection.execute(sql, row)
                    connection.execute("COMMIT")
                    for done in waiting:
                        done.set()
        except Exception as error:  # noqa: BLE001 whatever it is, the next caller raises it
            self._error = error
            for done in waiting:
                done.set()

    def _batch(
        self, first: tuple[str, tuple[Any, ...], threading.Event | None]
    ) -> list[tuple[str, tuple[Any, ...], threading.Event | None]]:
        """What is in the queue, up to and with the first item that somebody waits for."""
        batch = [first]
        deadline = time.monotonic() + FLUSH_S
        while batch[-1][2] is None:
            try:
                item = self._queue.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)  # close() comes after this batch
                break
            batch.append(item)
        return batch
