"""trainer.db: what is logged is on disk when the call returns, rows are upserts, a dead writer is noticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from cosignal.rl.signals.signal import Signal
from cosignal.rl.trainer.database import LoggedSignal, MetricsWriter, read_counter, read_signals, trained_updates


def entry(version: int, key: str) -> LoggedSignal:
    return LoggedSignal(
        version, key, version - 1 if version else None, 4 * version, 512 * version, Signal(version=version), None,
        "promotion" if version else "start",
    )  # fmt: skip


def test_signal_log_is_readable_by_others_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "trainer.db"
    writer = MetricsWriter(path)
    for version, key in enumerate(("start", "a", "b")):
        writer.log_signal(entry(version, key))
        assert [e.version for e in read_signals(path)] == list(range(version + 1))
    writer.close()
    assert read_signals(path)[2] == entry(2, "b")


def test_rows_are_upserts_by_update(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "trainer.db")
    for update in (1, 2, 3, 2, 3):
        writer.metrics(update, update * 10, {"trained": update != 2})
    writer.counters(state="training", steps_main=30)
    writer.counters(state="finished")
    writer.flush()
    assert trained_updates(tmp_path / "trainer.db") == {1, 3}
    assert read_counter(tmp_path / "trainer.db", "state") == "finished"
    assert read_counter(tmp_path / "trainer.db", "nothing") is None
    writer.close()


def test_the_same_key_or_version_twice_is_an_error_and_not_a_silent_loss(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "trainer.db")
    writer.log_signal(entry(0, "start"))
    with pytest.raises(sqlite3.IntegrityError):
        writer.log_signal(entry(0, "start"))
    with pytest.raises(sqlite3.IntegrityError):
        writer.metrics(1, 1, {})
    with pytest.raises(sqlite3.IntegrityError):
        writer.close()


def test_a_writer_that_could_not_begin_is_no_silent_loss(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)  # a directory
    with pytest.raises(sqlite3.OperationalError):
        writer.log_signal(entry(0, "start"))
    with pytest.raises(sqlite3.OperationalError):
        writer.flush()
