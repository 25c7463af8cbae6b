"""Starting, finding and ending the processes that the loop owns; the trainer here is a script of a few lines."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from cosignal.errors import ProtocolError, TrainerGone
from cosignal.rl.ipc.launcher import (
    attach_or_start,
    end_child,
    error_message,
    last_words,
    start_child,
)
from cosignal.rl.ipc.runtime_dir import MAX_SOCKET_PATH, make_runtime_dir, remove_runtime_dir
from cosignal.rl.processes import describe_exit, lock_is_held

TRAINER = """
import fcntl, json, os, sys, zmq
run_dir = sys.argv[1]
lock = open(f"{run_dir}/trainer.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
context = zmq.Context()
socket = context.socket(zmq.ROUTER)
socket.bind(f"ipc://{run_dir}/s")
with open(f"{run_dir}/partial", "w") as file:
    json.dump({"pid": os.getpid(), "address": f"ipc://{run_dir}/s", "events": f"ipc://{run_dir}/e"}, file)
os.rename(f"{run_dir}/partial", f"{run_dir}/trainer.json")
spec = {"name": "t", "description": "", "groups": []}
kind = None
while kind != "stop" or "deaf" in sys.argv:
    identity, request_id, body = socket.recv_multipart()
    kind = json.loads(body)["kind"]
    reply = {"kind": "ack"}
    if kind == "hello":
        reply = {"kind": "hello", "pid": os.getpid(), "run_id": "r", "spec": spec}
    socket.send_multipart([identity, request_id, json.dumps(reply).encode()])
context.destroy(linger=500)
"""


def fake(*arguments: str) -> object:
    def command(run_dir: Path) -> list[str]:
        return [sys.executable, "-c", TRAINER, str(run_dir), *arguments]

    return command


async def test_a_trainer_is_started_found_again_and_stopped(tmp_path: Path) -> None:
    (tmp_path / "trainer.json").write_text('{"pid": 1, "address": "ipc:///nowhere", "events": ""}')  # of a killed one
    first = await attach_or_start(tmp_path, "r", command=fake())  # type: ignore[arg-type]
    assert not first.reattached
    assert lock_is_held(tmp_path / "trainer.lock")
    second = await attach_or_start(tmp_path, "r", command=fake())  # type: ignore[arg-type]
    assert second.reattached
    assert second.hello.pid == first.hello.pid
    await second.stop()
    await asyncio.wait_for(first.gone(), 10)
    assert not lock_is_held(tmp_path / "trainer.lock")
    first.client.close()


async def test_a_trainer_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.ipc.launcher.STOP_TIMEOUT_S", 0.1)
    trainer = await attach_or_start(tmp_path, "r", command=fake("deaf"))  # type: ignore[arg-type]
    process = psutil.Process(trainer.hello.pid)
    await trainer.stop()
    assert not process.is_running()


async def test_the_trainer_of_another_run_is_refused_and_ended(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="runs 'r', not 'another'"):
        await attach_or_start(tmp_path, "another", command=fake())  # type: ignore[arg-type]
    assert not lock_is_held(tmp_path / "trainer.lock")


async def test_a_trainer_that_dies_at_the_start_says_why(tmp_path: Path) -> None:
    def command(_: Path) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such task')"]

    with pytest.raises(TrainerGone, match=r"exit status 1\).*its last words: no such task"):
        await attach_or_start(tmp_path, "r", command=command)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.ipc.launcher.KILL_AFTER_S", 0.05)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = await start_child([sys.executable, "-c", code], tmp_path / "out", [])
    while "up" not in (tmp_path / "out").read_text():
        await asyncio.sleep(0.01)
    assert os.getpgid(child.pid) == child.pid  # Ctrl-C in our terminal does not reach it
    await end_child(child)
    assert child.returncode == -9


def test_a_runtime_directory_is_private_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    path = make_runtime_dir()
    assert path.stat().st_mode & 0o777 == 0o700
    assert len(f"{path}/requests") <= MAX_SOCKET_PATH
    remove_runtime_dir(path)
    assert not path.exists()
    assert list(deep.iterdir()) == []


def test_the_last_words_of_a_child_are_what_says_why_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert last_words(path) == "it printed nothing"
    path.write_text("x" * 5000 + "end")
    assert last_words(path).startswith("its last words: xx") and last_words(path).endswith("end")
    assert len(last_words(path)) < 1600
    # an error of ours is enough by itself; what an earlier child has printed is not of this one
    path.write_text("Traceback (most recent call last):\n  File …\ncosignal.errors.ConfigError: a rule; a remedy\n")
    assert last_words(path) == "ConfigError: a rule; a remedy"
    assert last_words(path, start=path.stat().st_size) == "it printed nothing"
    # of another error the last line
    path.write_text(
        'Traceback (most recent call last):\n  File "/task/sim.py", line 4, in step\n    go()\n\nPanic: oh\nmore\n'
    )
    assert last_words(path) == "it raised Panic: oh"
    # a crash of the interpreter says where
    path.write_text(
        "noise\nFatal Python error: Segmentation fault\n\nCurrent thread 0x0 (most recent call first):\n"
        '  File "/task/sim.py", line 44 in step\n  File "/task/other.py", line 1 in f\n\nExtension modules: numpy\n'
    )
    assert last_words(path) == "it was in 'step' at line 44 of /task/sim.py (Segmentation fault)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (7, "exit status 7"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGKILL, "SIGKILL: somebody, or the system for want of memory, has killed it"),
        (-40, "SIGRTMIN+6|signal 40"),
        (None, "nobody knows its exit status"),
    ],
)
def test_the_exit_of_a_child_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code) in words.split("|")


def test_of_a_traceback_with_an_error_of_ours_its_message_is_enough() -> None:
    ours = "Traceback (most recent call last):\n  File …\ncosignal.errors.ConfigError: a rule, a value; a remedy\n"
    assert error_message(ours).strip() == "a rule, a value; a remedy"
    other = "Traceback (most recent call last):\n  File …\nValueError: x\n"
    assert error_message(other) == other
