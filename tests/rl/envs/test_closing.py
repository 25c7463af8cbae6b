"""Whatever is built is closed: each environment once, also where something goes wrong."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import structlog
from cosignal import Task
from cosignal.errors import ConfigError, EnvironmentLost
from cosignal.rl.envs.adapter import as_task
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, task_spec
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.pettingzoo.losses import MAX_LOSSES
from cosignal.rl.envs.registry import ShippedName
from cosignal.rl.processes import child_environment
from faulty_envs import Simulated
from pettingzoo import AECEnv


def open_files(folder: Path) -> int:
    return len(list(folder.iterdir()))


def config(folder: Path, **more: Any) -> TaskConfig:
    workers = more.pop("workers", 0)
    return TaskConfig(env="faulty_envs:Simulated", env_args={"folder": str(folder), **more}, workers=workers)


def step(task: Any, action: int) -> Any:
    return task.step([np.full((task.num_envs, 1), action)])


def test_a_batch_closes_all_it_built_and_closing_may_be_repeated(tmp_path: Path) -> None:
    task = make_task(config(tmp_path), 3)
    task.episode_text(0, [np.zeros((2, 1), np.int64)])
    assert open_files(tmp_path) == 4  # and the spare
    assert step(task, 2).lost.all() and open_files(tmp_path) == 4  # others in their place
    task.close()
    task.close()
    assert open_files(tmp_path) == 0


def test_a_batch_that_is_forgotten_is_closed(tmp_path: Path) -> None:
    task = make_task(config(tmp_path), 2)
    assert open_files(tmp_path) == 2
    del task
    gc.collect()
    assert open_files(tmp_path) == 0


def test_what_is_built_before_something_fails_is_closed(tmp_path: Path) -> None:
    built: list[Simulated] = []

    def third_fails() -> Simulated:
        if len(built) == 2:
            raise OSError("no licence left")
        built.append(Simulated(str(tmp_path)))
        return built[-1]

    with pytest.raises(OSError, match="licence"):
        PettingZooTask(third_fails, 4)
    assert len(built) == 2 and open_files(tmp_path) == 0
    with pytest.raises(ConfigError):
        make_task(config(tmp_path, bad_space=True), 3)
    with pytest.raises(ConfigError):
        task_spec(config(tmp_path, bad_space=True))
    assert open_files(tmp_path) == 0
    task_spec(config(tmp_path))
    assert open_files(tmp_path) == 0


def test_what_is_lost_for_good_is_closed(tmp_path: Path) -> None:
    task = make_task(config(tmp_path), 2)
    for _ in range(MAX_LOSSES - 1):
        step(task, 2)
    with pytest.raises(EnvironmentLost):
        step(task, 2)
    task.close()
    assert open_files(tmp_path) == 0


def test_a_close_that_raises_keeps_no_other_from_being_closed(tmp_path: Path) -> None:
    task = make_task(config(tmp_path, close_raises=True), 3)
    with structlog.testing.capture_logs() as logs:
        task.close()
    assert open_files(tmp_path) == 0
    assert [log["error"] for log in logs] == ["RuntimeError: stuck"] * 3


def test_a_task_without_close_and_a_converted_environment_can_be_closed() -> None:
    Task(object()).close()
    closed = []

    class Closing(AECEnv):  # type: ignore[misc]
        metadata: ClassVar[dict[str, Any]] = {"is_parallelizable": True}
        possible_agents: ClassVar[list[str]] = ["a"]
        render_mode = None

        def close(self) -> None:
            closed.append(self)

    as_task(Closing()).close()
    with pytest.raises(TypeError, match="is_parallelizable"):
        as_task(type("OneByOne", (Closing,), {"metadata": {}})())
    assert len(closed) == 2


@pytest.mark.parametrize("name", get_args(ShippedName))
def test_every_shipped_task_can_be_closed_again(name: Any) -> None:
    task = make_task(TaskConfig(name=name), 1)
    task.close()
    task.close()


OWNER = """
import sys, time
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
task = make_task(TaskConfig(env="faulty_envs:Simulated", env_args={"folder": sys.argv[1]}, workers=1), 3)
print("ready", flush=True)
time.sleep(60)
"""


def test_processes_close_their_environments_also_when_their_owner_is_killed(tmp_path: Path) -> None:
    task = make_task(config(tmp_path, workers=1), 2)
    assert open_files(tmp_path) == 2
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, env=child_environment()
    ) as owner:
        task.close()
        assert owner.stdout is not None and owner.stdout.readline() == b"ready\n"
        assert open_files(tmp_path) == 3
        os.kill(owner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while open_files(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)
