"""The environment of children, looking at other processes, and logs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cosignal.rl.processes import child_environment, json_logger, lock_is_held, process_is_alive


def test_children_get_our_import_path_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.setenv("OTHER_API_KEY", "secret")
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    environment = child_environment(["MY_KEY"])
    assert "MY_KEY" not in environment
    assert "OTHER_API_KEY" not in environment
    assert environment["PYTHONPATH"] == f"{Path.cwd()}{os.pathsep}/somewhere"
    assert child_environment(here_last=True)["PYTHONPATH"] == f"/somewhere{os.pathsep}{Path.cwd()}"


def test_a_seed_means_the_same_order_of_a_set_in_every_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    code = "print(list({'crate', 'barrel', 'sack', 'drum', 'bag', 'box'}), hash('crate'))"
    printed = {
        subprocess.run([sys.executable, "-c", code], env=child_environment(), capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 1
    monkeypatch.setenv("PYTHONHASHSEED", "7")  # the user's own
    assert child_environment()["PYTHONHASHSEED"] == "7"


def test_a_lock_is_seen_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock_is_held(path)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_is_held(path)
    assert not lock_is_held(path)


def test_a_process_is_alive_until_it_has_ended() -> None:
    assert process_is_alive(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not process_is_alive(child.pid)


def test_a_log_of_a_process_has_one_json_object_a_line(tmp_path: Path) -> None:
    code = (
        "import pathlib, structlog; from cosignal.rl.processes import log_to;"
        f" log_to(pathlib.Path({str(tmp_path / 'log')!r}), process='trainer');"
        " structlog.get_logger().info('training', update=3); structlog.get_logger().warning('gone')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert first.keys() == {"process", "update", "event", "level", "timestamp"}
    assert (first["process"], first["update"], first["event"], first["level"]) == ("trainer", 3, "training", "info")
    assert (second["process"], second["event"], second["level"]) == ("trainer", "gone", "warning")


def test_a_logger_apart_writes_the_same_lines_and_configures_nothing() -> None:
    stream, other = io.StringIO(), io.StringIO()
    json_logger(stream, "loop").info("point", update=3)
    json_logger(other, "page").info("point", update=4)
    line = json.loads(stream.getvalue())
    assert line.keys() == {"process", "update", "event", "level", "timestamp"}
    assert (line["process"], line["update"], line["event"], line["level"]) == ("loop", 3, "point", "info")
    assert json.loads(other.getvalue())["process"] == "page"
