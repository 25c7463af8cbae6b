"""Where the same seed and actions do not lead to the same states."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from cosignal.doctor.check import ok
from cosignal.doctor.repeat import check_processes, check_repeats, equal_steps, play_digests
from cosignal.rl.envs.config import TaskConfig
from small_tasks import Walk


class Late(Walk):
    """Not what the seed says from the tenth step on."""

    chance: ClassVar[Any] = np.random.default_rng()

    def _observed(self) -> dict[str, Any]:
        noise = self.chance.normal() if self.t > 9 else 0.0
        return {agent: x + np.float32(noise) for agent, x in super()._observed().items()}


class Later(Walk):
    """Its episodes change as it counts more of them."""

    first, last = 30, 1_000
    episodes = 0

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        observed, infos = super().reset(seed, options)
        self.episodes += 1
        level = min(max(self.episodes - self.first, 0), self.last)
        return {agent: x + np.float32(level) for agent, x in observed.items()}, infos


class Soon(Later):
    """It is at its last level when a state is kept, and a new one is not."""

    first, last = 5, 1


class Failing(Walk):
    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        if self.t == 12:
            raise ZeroDivisionError("too far")
        return super().step(actions)


def config(env: str) -> TaskConfig:
    return TaskConfig(env=f"{__name__}:{env}")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("Late", "the same seed and actions must lead to the same states, step 10 of random play differed, so a fork"),
        ("Later", "going back to a state after playing on must lead to the same states again, step "),
        ("Soon", "going back to a state in a new environment must lead to the same states again, step "),
        ("Failing", "the environment raised after 12 steps"),
    ],
)
def test_what_cannot_be_repeated_is_a_warning_with_its_remedy(env: str, words: str) -> None:
    check, digests = check_repeats(config(env), lambda _: None)
    assert (check.name, check.state, digests) == ("task.deterministic", "warning", [])
    assert words in check.message
    assert check.remedy


@pytest.mark.parametrize("task", [TaskConfig(name="two_switch"), TaskConfig(env="small_tasks:Walk")])
def test_what_can_be_repeated_is_compared_step_by_step(task: TaskConfig) -> None:
    check, digests = check_repeats(task, lambda _: None)
    assert (check.state, len(digests), len(set(digests)) > 20) == ("ok", 1_000, True)
    assert play_digests(task, 50, lambda _: None) == digests[:50]


def test_processes_are_told_apart_by_what_differs() -> None:
    here, steps = ok("task.deterministic", "twice"), ["a", "b", "c"]
    same = check_processes(here, steps, steps, [steps, steps])
    assert (same.state, same.message) == ("ok", "twice; the same in other processes")
    hashes = check_processes(here, steps, steps, [steps, ["a", "x", "c"]])
    assert hashes.state == "ok"
    assert "(PYTHONHASHSEED) step 2 differed" in hashes.message
    process = check_processes(here, steps, ["a", "b", "x"], [["x", "b", "c"]])
    assert process.state == "warning"
    assert "another process must come to the same states, step 3 differed" in process.message


def test_equal_steps_are_counted_from_the_start() -> None:
    assert equal_steps("abc", "abc") == 3
    assert equal_steps("abc", "axc") == 1
    assert equal_steps("abc", "") == 0
