"""The loop's log: JSON lines that a resumed run goes on with, also behind a line that a full disk has cut."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from cosignal.errors import StorageError
from cosignal.graphs.session.run_log import RunLog


def test_the_log_is_json_lines_that_a_resumed_run_goes_on_with(tmp_path: Path) -> None:
    for number in range(2):
        log = RunLog(tmp_path / "log.jsonl")
        log.write("failed", error="no\nmemory", number=number)
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["event"], line["process"], line["error"], line["number"]) for line in lines] == [
        ("failed", "loop", "no\nmemory", number) for number in range(2)
    ]
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_a_cut_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "fai')
    log = RunLog(tmp_path / "log.jsonl")
    log.write("run_started")
    log.close()
    cut, line = (tmp_path / "log.jsonl").read_text().splitlines()
    assert (cut, json.loads(line)["event"]) == ('{"event": "fai', "run_started")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"log\.jsonl' must be written, but cannot be \(Is a directory\); move away"):
        RunLog(tmp_path / "log.jsonl")
    log = RunLog(Path("/dev/full"))
    with pytest.raises(StorageError, match="/dev/full.*No space left on device.*make room there.*--resume") as raised:
        log.write("failed")
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC
    log.close()
