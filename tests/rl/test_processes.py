"""The environment of children, looking at other processes, and logs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import time
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


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**80])
def test_no_process_has_such_a_number(pid: int) -> None:
    assert not process_is_alive(pid)


def test_a_process_that_has_ended_is_not_alive_though_nobody_has_waited_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not process_is_alive(process.pid)
    process.wait()


# ------------------------------------------------------------ the end of a process

BEGIN = """
import atexit, os, subprocess, sys, threading, time
from cosignal.rl import processes
from cosignal.rl.processes import run_process
processes.CLOSE_TIMEOUT_S = 0.5
def say(*words): print(*words, flush=True)
def main(closing):
    atexit.register(say, "at exit")
    child = subprocess.Popen(["sleep", "60"])
    threading.Thread(target=time.sleep, args=(60,)).start()
    closing.callback(say, "closed")
    say("child", child.pid)
"""


def ended(body: str, terminate: bool = False) -> tuple[int, list[str], str]:
    """Run a process with a thread and a child that do not end by themselves; exit code, lines and errors of it."""
    code = f"{BEGIN}    {body}\nrun_process(main)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        env=child_environment(), start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    if terminate:
        process.terminate()
    output, errors = process.communicate(timeout=30)
    child = int(first.split()[1])
    for _ in range(200):
        if not process_is_alive(child):
            break
        time.sleep(0.01)
    assert not process_is_alive(child)
    return process.returncode, output.decode().splitlines(), errors.decode()


def test_a_process_ends_with_its_code_whatever_its_environments_leave_running() -> None:
    assert ended("return 3") == (3, ["closed", "at exit"], "")


def test_an_error_ends_it_after_everything_is_closed() -> None:
    code, lines, errors = ended("closing.callback(lambda: 1 / 0); raise SystemExit(0)")
    assert (code, lines) == (1, ["closed", "at exit"])  # an environment that calls sys.exit has not done the work
    assert "SystemExit: 0" in errors
    assert "ZeroDivisionError" in errors


def test_sigterm_closes_too() -> None:
    assert ended("time.sleep(60)", terminate=True) == (143, ["closed", "at exit"], "")


def test_what_hangs_while_it_is_closed_is_not_waited_for() -> None:
    code, lines, _ = ended("closing.callback(time.sleep, 60); return 0")
    assert (code, lines) == (0, [])


def test_a_crash_says_where() -> None:
    code = "import os; from cosignal.rl.processes import run_process; run_process(lambda _: os.kill(os.getpid(), 11))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr
    assert "line 1 in <lambda>" in done.stderr
