"""Flags by agent: what is neither true nor false is told, and costs the episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import structlog
from cosignal.errors import ConfigError
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from faulty_envs import LENGTH, Faulty


class Flagged(Faulty):
    """Gives agent b `value` as its flag `name`; `late` only in its last step, of other episodes than that of seed 0."""

    has_success = True

    def __init__(self, name: str, value: Any, late: bool = False) -> None:
        super().__init__()
        self.name, self.value, self.late = name, value, late

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seed = seed
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> Any:
        seen, rewards, terminations, truncations, infos = super().step(actions)
        if not self.late or (self.seed and self.t == LENGTH):
            flags = {"terminations": terminations, "truncations": truncations, "success": infos["b"]}
            flags[self.name]["success" if self.name == "success" else "b"] = self.value
        return seen, rewards, terminations, truncations, infos


PLACES = ["terminations", "truncations", "success"]
NO_FLAGS = ["no", "False", np.nan, np.array([True, False]), np.zeros(0), [], {}, 2, -1.0, np.str_("True"), 1j]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("value", NO_FLAGS)
def test_what_is_no_flag_is_refused_at_the_probe(name: str, value: Any) -> None:
    words = rf"{name}.* must.* True or False.*'faulty' gave agent 'b' .*in step 1 of the episode"
    with pytest.raises(ConfigError, match=words):
        PettingZooTask(lambda: Flagged(name, value), 1)


@pytest.mark.parametrize("name", PLACES[:2])
def test_nothing_is_no_ending(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must hold True or False by agent, 'faulty' gave agent 'b' None"):
        PettingZooTask(lambda: Flagged(name, None), 1)


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_flag_costs_the_episode(name: str) -> None:
    task = PettingZooTask(lambda: Flagged(name, "no", late=True), 1)
    with structlog.testing.capture_logs() as logs:
        lost = [bool(task.step([np.zeros((1, 2), int)]).lost[0]) for _ in range(LENGTH)]  # type: ignore[index]
    assert lost == [False] * (LENGTH - 1) + [True]
    assert "'faulty' gave agent 'b' 'no'" in logs[0]["error"] and f"in step {LENGTH}" in logs[0]["error"]


@pytest.mark.parametrize("flag", [True, np.True_, 1, np.int8(1), 1.0, np.float32(1), np.array(True)])
def test_true_of_any_type_is_a_flag(flag: Any) -> None:
    for name, shown in (("terminations", "terminated"), ("success", "success")):
        task = PettingZooTask(lambda name=name: Flagged(name, flag, late=True), 1)  # type: ignore[misc]
        for _ in range(LENGTH):
            step = task.step([np.zeros((1, 2), int)])
        assert bool(step.success[0]) == (name == "success") and step.truncated[0], shown


def test_a_success_of_which_nothing_is_said_is_none() -> None:
    task = PettingZooTask(lambda: Flagged("success", None), 1)
    assert not any(task.step([np.zeros((1, 2), int)]).success[0] for _ in range(LENGTH))
