"""`trainer.db`: metrics, signal log and counters. Written by one background thread of the trainer, read by everybody.

Metrics are upserts by update, so that steps trained again after a crash overwrite their own rows with the same values.
Updates only ever rise; main steps do not, where a younger state was taken over.
The signal log is synced to disk before `log_signal` returns, and the digest of the whole log with it.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..ipc.messages import Cause
from ..signals.signal import Signal

SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (update_index INTEGER PRIMARY KEY, steps INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS signals (version INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, base_version INTEGER,
    applied_update INTEGER NOT NULL, applied_steps INTEGER NOT NULL, signal TEXT NOT NULL, adopt TEXT,
    cause TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
UPSERT_COUNTER = "INSERT OR REPLACE INTO counters VALUES (?, ?)"
INSERT_SIGNAL = "INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
COLUMNS = "version, key, base_version, applied_update, applied_steps, signal, adopt, cause"
SIGNAL_LOG = "signal_log"  # counter with the last of `log_digests`
FLUSH_S = 0.5  # the longest that a row waits for others to be written with


@dataclass(frozen=True)
class LoggedSignal:
    """One line of the signal log.

    Attributes:
        key: of the request, made of its content; the same key is never applied twice.
        base_version: the version that was in force before, None for the first one.
        applied_update: `signal` applies at the boundary after this update.
        applied_steps: main steps then.
        adopt: the state that became the main line with it, relative to the run directory: a branch's end state, or for
            a rollback the snapshot before what was undone. None where the line kept its own state.
    """

    version: int
    key: str
    base_version: int | None
    applied_update: int
    applied_steps: int
    signal: Signal
    adopt: str | None
    cause: Cause = "promotion"


# ---------------------------------------------------------------- reading


def connect(path: Path) -> sqlite3.Connection:
    """Open the database; a commit is on disk when it returns."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def _with_tables(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as connection:
        connection.executescript(SCHEMA)
        yield connection


def read_signals(path: Path) -> list[LoggedSignal]:
    """Return the signal log, by version."""
    with _with_tables(path) as connection:
        rows = connection.execute(f"SELECT {COLUMNS} FROM signals ORDER BY version").fetchall()
    return [
        LoggedSignal(version, key, base, update, steps, Signal.model_validate_json(text), adopt, cause)
        for version, key, base, update, steps, text, adopt, cause in rows
    ]


def log_digests(path: Path) -> list[str]:
    """Return for each entry of the signal log the SHA-256 digest of the log up to it, so that no edit goes unseen."""
    with _with_tables(path) as connection:
        return _log_digests(connection)


def _log_digests(connection: sqlite3.Connection) -> list[str]:
    digests, sha = [], hashlib.sha256()
    for row in connection.execute(f"SELECT {COLUMNS} FROM signals ORDER BY version"):
        sha.update(json.dumps(row).encode())
        digests.append(sha.hexdigest())
    return digests


def trained_updates(path: Path) -> frozenset[int]:
    """Return the updates that have a metrics row of their own training."""
    with _with_tables(path) as connection:
        rows = connection.execute("SELECT update_index FROM metrics WHERE json_extract(data, '$.trained')").fetchall()
    return frozenset(update for (update,) in rows)


def read_counter(path: Path, name: str) -> str | None:
    """Return a counter as text, None where it was never written."""
    with _with_tables(path) as connection:
        row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


# ---------------------------------------------------------------- writing


class _Write(NamedTuple):
    """One statement for the writer's thread."""

    sql: str
    row: tuple[Any, ...]
    done: threading.Event | None  # set when it is on disk; None where nobody waits


class MetricsWriter:
    """The one writer of `trainer.db`, on a thread of its own. A failed write is raised at the next call."""

    def __init__(self, path: Path) -> None:
        self._queue: queue.Queue[_Write | None] = queue.Queue()  # None ends the thread
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(path,), name="metrics-writer", daemon=True)
        self._thread.start()

    def metrics(self, update_index: int, steps: int, data: dict[str, Any]) -> None:
        """Write one row of metrics; `data` becomes JSON."""
        row = (update_index, steps, json.dumps(data))
        self._put("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)", row)

    def drop_metrics(self, after: int, before: int) -> None:
        """Delete the rows of the updates between these two, which the run has come to be without."""
        self._put("DELETE FROM metrics WHERE update_index > ? AND update_index < ?", (after, before))

    def counters(self, **values: object) -> None:
        for name, value in values.items():
            self._put(UPSERT_COUNTER, (name, str(value)))

    def log_signal(self, entry: LoggedSignal) -> None:
        """Write an entry of the signal log; it is on disk when this returns."""
        row = (
            entry.version,
            entry.key,
            entry.base_version,
            entry.applied_update,
            entry.applied_steps,
            entry.signal.model_dump_json(),
            entry.adopt,
            entry.cause,
        )
        self._put(INSERT_SIGNAL, row, wait=True)

    def flush(self) -> None:
        """Return when everything put so far is on disk."""
        self._put("SELECT 1", (), wait=True)

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self._check()

    def _put(self, sql: str, row: tuple[Any, ...], wait: bool = False) -> None:
        self._check()
        done = threading.Event() if wait else None
        self._queue.put(_Write(sql, row, done))
        # a writer that has died sets no event
        while done is not None and not done.wait(timeout=1.0):
            self._check()
        self._check()

    def _check(self) -> None:
        """Raise what ended the writer, so that nobody takes a lost row for a written one."""
        if self._error is not None:
            raise self._error

    # ------------------------------------------------------------ on the writer's thread

    def _run(self, path: Path) -> None:
        waiting: list[threading.Event] = []
        try:
            with _with_tables(path) as connection:
                while (first := self._queue.get()) is not None:
                    # one transaction for several rows: a sync each would cost more than the training
                    batch = self._batch_from(first)
                    waiting = [write.done for write in batch if write.done is not None]
                    connection.execute("BEGIN")
                    for write in batch:
                        connection.execute(write.sql, write.row)
                    if any(write.sql == INSERT_SIGNAL for write in batch):
                        connection.execute(UPSERT_COUNTER, (SIGNAL_LOG, _log_digests(connection)[-1]))
                    connection.execute("COMMIT")
                    for done in waiting:
                        done.set()
        except Exception as error:  # noqa: BLE001 whatever it is, the next caller raises it
            self._error = error
            for done in waiting:
                done.set()

    def _batch_from(self, first: _Write) -> list[_Write]:
        """Take from the queue what follows `first`, up to and with the first write that somebody waits for."""
        batch = [first]
        deadline = time.monotonic() + FLUSH_S
        while batch[-1].done is None:
            try:
                write = self._queue.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if write is None:
                self._queue.put(None)  # close() comes after this batch
                break
            batch.append(write)
        return batch
