"""The limit on the time of a step of environments that share a process with a branch."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.step_alarm import STOPPED, step_alarm


class Rang(Exception):
    """Stands for the end of the process."""


class Slow:
    """A task of 16 environments whose calls take as long as they are told to."""

    num_envs = 16
    seconds = 0.0

    def step(self, actions: Any) -> str:
        time.sleep(self.seconds)
        return "stepped"

    def reset(self, seed: int) -> str:
        return "reset"

    def load_state_dict(self, state: Any, fresh: bool = False) -> None:
        time.sleep(self.seconds)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Rang

    before = signal.signal(STOPPED, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(STOPPED, before)


def config(step_timeout_s: float, **task: Any) -> TaskConfig:
    return TaskConfig(**{"env": "some:Env", "step_timeout_s": step_timeout_s, **task})


def test_a_step_that_takes_too_long_ends_the_process_and_others_do_not() -> None:
    task: Any = Slow()
    with step_alarm(task, config(0.02), envs=8):
        assert (task.step([]), task.reset(1)) == ("stepped", "reset")
        time.sleep(0.1)  # learning may take as long as it likes
        task.seconds = 30.0
        with pytest.raises(Rang):
            task.step([])
        with pytest.raises(Rang):
            task.load_state_dict({})
        # Twice as many environments as the trainer has; a replay of 4 steps, and a reset of each.
        task.seconds = 0.03
        task.step([])
        task.load_state_dict({"lengths": np.array([4, 0])})
    assert vars(task).keys() == {"seconds"}
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("task", [{"env": None, "name": "two_switch"}, {"workers": 1}])
def test_compiled_environments_and_those_in_processes_have_no_alarm(task: dict[str, Any]) -> None:
    plain: Any = SimpleNamespace(step=lambda actions: None, num_envs=1)
    step = plain.step
    with step_alarm(plain, config(0.01, **task), envs=8):
        assert plain.step is step
