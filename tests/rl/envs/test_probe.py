"""A task is asked what it is in a process of its own, whatever its environment does there."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from cosignal.errors import MissingGuard, TaskImportError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import plain_task_factory, task_spec
from cosignal.rl.envs.probe import probe_task
from cosignal.rl.envs.registry import NATIVE
from cosignal.rl.processes import child_environment


def config(env: str, **more: Any) -> TaskConfig:
    return TaskConfig(env=f"misbehaving:{env}", **more)


def test_whatever_an_environment_does_to_its_process_is_not_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It prints, wants the main thread, reads, moves elsewhere, and leaves a thread and processes."""
    here, pids = Path.cwd(), tmp_path / "pids"
    probe = probe_task(config("Noisy", env_args={"pids": str(pids)}))
    assert probe.spec == task_spec(TaskConfig(env="small_tasks:Walk")).model_copy(update={"name": probe.spec.name})
    assert not probe.has_heuristic
    assert "misbehaving" not in sys.modules
    assert Path.cwd() == here
    assert capfd.readouterr() == ("", "")
    while any(runs(int(pid)) for pid in pids.read_text().split()):  # they are killed, and end when they are scheduled
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Tell whether there is such a process; one that is dead may still wait for its parent to look."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_an_environment_is_closed_also_where_it_cannot_be_used(tmp_path: Path) -> None:
    log = tmp_path / "log"
    probe_task(config("Closed", env_args={"log": str(log)}))
    with pytest.raises(TaskImportError, match="RuntimeError: no licence; mend it"):
        probe_task(config("Closed", env_args={"log": str(log), "fails": True}))
    assert log.read_text() == "closed\nclosed\n"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("Leaving", "ended with exit status 3 \\(stepping it\\), and printed last: .* that was it; mend it"),
        ("crash", "ended with SIGSEGV \\(building it\\)"),
        ("Stuck", r"took longer than 0.5 s \(stepping it\).*raise task.step_timeout_s \(0.5\)"),
    ],
)
def test_the_end_of_its_process_is_told_with_the_place(env: str, words: str) -> None:
    with pytest.raises(TaskImportError, match=words) as told:
        probe_task(config(env, step_timeout_s=0.5))
    assert "task.env: the environment must" in str(told.value)
    assert "\n" not in str(told.value)


SCRIPT = """
import asyncio
import cosignal
from small_tasks import Walk

async def main():
    config = cosignal.RunConfig.model_validate({"task": {"env": "script_of_a_test:Walk"}})
    async with cosignal.start(config):
        raise AssertionError("started")

asyncio.run(main())
"""


@pytest.mark.integration
def test_a_script_without_a_guard_that_holds_its_environment_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "script_of_a_test.py").write_text(SCRIPT)
    script = [sys.executable, str(tmp_path / "script_of_a_test.py")]
    done = subprocess.run(script, env=child_environment(), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("cosignal: task.env: importing its module must not start a run, 'script_of_a_test'")
    assert 'below `if __name__ == "__main__":`' in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "script_of_a_test.py"]


def test_nothing_is_asked_while_an_environment_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGNAL_IMPORTING", "train")
    with pytest.raises(MissingGuard, match="'train' starts one"):
        probe_task(config("Noisy"))


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_task_is_read_here(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("cosignal.rl.envs.probe.Child")
    native = TaskConfig(name=name)
    probe = probe_task(native)
    assert probe.spec == task_spec(native)
    assert probe.has_heuristic == (plain_task_factory(native)().heuristic is not None)
