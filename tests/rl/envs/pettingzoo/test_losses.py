"""A bad step costs the episode, whatever is bad about it; what is bad from the start is refused; too much is told."""

from __future__ import annotations

import re
import signal
from typing import Any

import numpy as np
import pytest
import structlog
from cosignal.errors import ConfigError, EnvironmentLost
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, task_spec
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.pettingzoo.losses import MAX_LOSSES, MAX_LOST_EPISODES
from cosignal.rl.processes import Terminated
from cosignal.rl.task import Step, episode_seed
from faulty_envs import AT_RESETS, FAULTS, IN_STEPS, LENGTH, Faulty, FaultyTask
from gymnasium.spaces import Box, Dict, MultiBinary

ENVS = 4
WORDS = {**FAULTS, **AT_RESETS}
Played = list[dict[str, Any]]


def play(task: Any, steps: int) -> Played:
    """Copies of the steps, whose numbers are all finite."""
    played = []
    for _ in range(steps):
        step: Step = task.step([np.zeros((task.num_envs, 2), np.int64)])
        copied = {name: np.array(value) for name, value in vars(step).items()}
        assert all(np.isfinite(array).all() for array in copied.values() if array.dtype == np.float32)
        played.append(copied)
    return played


@pytest.mark.parametrize("what", FAULTS)
def test_a_bad_step_costs_the_episode_and_is_told_with_its_place(what: str) -> None:
    task = PettingZooTask(lambda: FaultyTask(what=what), ENVS)
    task.reset(0)
    seeds = [[episode_seed(0, e, episode) for episode in range(20)] for e in range(ENVS)]
    with structlog.testing.capture_logs() as logs:
        played = play(task, 2 * LENGTH)
    # In step 2 of the episodes whose seed can be divided by 3, and in no other.
    expected = [[False] * ENVS for _ in played]
    for e in range(ENVS):
        episode, t = 0, 0
        for row in expected:
            t += 1
            row[e] = t == 2 and seeds[e][episode] % 3 == 0
            if row[e] or t == LENGTH:
                episode, t = episode + 1, 0
    assert [step["lost"].tolist() for step in played] == expected
    assert np.sum(expected) == len(logs) > 0
    for before, step, lost in zip(played, played[1:], expected[1:], strict=False):
        assert step["truncated"][lost].all() and not step["terminated"].any()
        assert not step["reward"][lost].any() and (step["reward"][~np.array(lost)] == 2).all()
        assert not step["events"][0, lost].any()
        assert np.array_equal(step["last_obs"][0, lost], before["obs"][0, lost])  # s' = s
        assert not step["obs"][0, lost, :, 0].any()  # the next episode
    for log in logs:
        assert re.search(FAULTS[what], log["error"]), log["error"]
        assert "in step 2 of the episode with reset seed" in log["error"]


@pytest.mark.parametrize("what", [*IN_STEPS, *AT_RESETS])
def test_a_bad_reset_is_tried_with_the_next_episode(what: str) -> None:
    task = PettingZooTask(lambda: FaultyTask(what=what, at=0), ENVS)
    with structlog.testing.capture_logs() as logs:
        task.reset(0)
        played = play(task, 2 * LENGTH)
    assert not any(step["lost"].any() for step in played)
    assert (task.state_dict()["seeds"] % 3 != 0).all()
    words = WORDS[what]
    assert logs and all(re.search(words, log["error"]) for log in logs)
    assert all("at the reset of the episode with reset seed" in log["error"] for log in logs)


@pytest.mark.parametrize(
    ("what", "at"), [(what, 3) for what in FAULTS] + [(what, 0) for what in [*IN_STEPS, *AT_RESETS]]
)
def test_what_is_bad_from_the_start_is_refused(what: str, at: int) -> None:
    config = TaskConfig(env="faulty_envs:FaultyTask", env_args={"what": what, "at": at, "from_start": True})
    place = f"in step {at}" if at else "at the reset"
    with pytest.raises(ConfigError, match=WORDS[what]) as told:
        task_spec(config)
    if what not in ("raises", "exits", "interrupts", "recurses", "panics", "cancels"):
        assert f"({place} of the episode with reset seed 0)" in str(told.value)


def test_processes_lose_the_same_episodes_bit_for_bit() -> None:
    """Each fault in its turn, as the seeds choose."""
    tasks = [make_task(TaskConfig(env="faulty_envs:FaultyTask", workers=workers), 12) for workers in (0, 2)]
    with structlog.testing.capture_logs() as logs:
        one, other = [play(task, 60) for task in tasks]
    for mine, theirs in zip(one, other, strict=True):
        assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)
    assert sum(step["lost"].sum() for step in one) * 2 == len(logs) > 100
    state = tasks[0].state_dict()
    for task in reversed(tasks):
        task.load_state_dict(state)
    again, once_more = [play(task, 10) for task in tasks]
    assert all(again[t]["obs"].tobytes() == once_more[t]["obs"].tobytes() for t in range(10))
    for task in tasks:
        task.close()


@pytest.mark.parametrize(("what", "at", "limit"), [("nan_obs", 1, MAX_LOSSES), ("no_obs", 3, MAX_LOST_EPISODES)])
def test_what_is_bad_in_each_episode_ends_with_what_was_wrong(what: str, at: int, limit: int) -> None:
    """Also where steps between are fine: no episode would ever come to its end."""
    task = PettingZooTask(lambda: FaultyTask(what=what, at=at, every=1), 1)
    play(task, (limit - 1) * at)
    with pytest.raises(EnvironmentLost, match=rf"may go wrong in {limit - 1} .* in a row.*{IN_STEPS[what]}.*; mend it"):
        play(task, at)
    task.reset(1)  # a new beginning, with patience as at first
    play(task, (limit - 1) * at)


def test_a_bad_number_in_a_replay_is_tried_on_a_new_instance() -> None:
    class Once(Faulty):
        bad = False

        def step(self, actions: dict[str, Any]) -> Any:
            seen, *rest = super().step(actions)
            if Once.bad and self.t == 2:
                Once.bad, seen["a"] = False, np.array([0, np.nan])
            return (seen, *rest)

    task = PettingZooTask(Once, 1)
    play(task, 2)
    before, Once.bad = task.state_dict(), True
    with structlog.testing.capture_logs() as logs:
        task.load_state_dict(before)
    assert (
        len(logs) == 1
        and "(number 1 is not); mend the environment, or scale what it shows (in step 2 of" in logs[0]["error"]
    )
    assert all(np.array_equal(before[name], array) for name, array in task.state_dict().items())


def test_a_factory_that_fails_later_counts_as_another_loss() -> None:
    class Scarce(Faulty):
        left = 3

        def __init__(self) -> None:
            super().__init__("raises", every=1)
            if Scarce.left == 0:
                raise OSError("no licence left")
            Scarce.left -= 1

    task = PettingZooTask(Scarce, 1)
    play(task, 4)
    with pytest.raises(EnvironmentLost, match=r"OSError: no licence left \(when it was built anew\)"):
        play(task, 2)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_that_ends_the_process_is_no_loss(number: signal.Signals, error: type[BaseException]) -> None:
    def leave(_number: int, _frame: object) -> None:
        raise Terminated

    class Interrupted(Faulty):
        def step(self, actions: dict[str, Any]) -> Any:
            if self.fault:
                signal.raise_signal(number)
            return super().step(actions)

    task = PettingZooTask(lambda: Interrupted("somebody ends the process", every=1), 1)
    before = signal.signal(signal.SIGTERM, leave)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background ignore it
    try:
        with pytest.raises(error):
            play(task, 1)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ctrl_c)


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_single_precision_cannot_hold_is_not_finite() -> None:
    class Large(Faulty):
        def _told(self) -> Any:
            seen, infos = super()._told()
            seen["a"] = np.array([1e39 if self.fault and self.t == 2 else 1.0, 0])
            return seen, infos

    task = PettingZooTask(lambda: Large("large", every=1), ENVS)
    task.reset(0)
    with structlog.testing.capture_logs() as logs:
        play(task, LENGTH)
    assert logs and all("(number 0 is not)" in log["error"] for log in logs)


@pytest.mark.parametrize("observed", [None, np.zeros(2), {"action_mask": [1, 1, 1]}, {"observation": None}])
def test_an_observation_with_a_mask_is_a_dict_of_both(observed: Any) -> None:
    class Masked(Faulty):
        def observation_space(self, agent: str) -> Any:
            return Dict({"observation": Box(-100, 100, (2,)), "action_mask": MultiBinary(3)})

        def _told(self) -> Any:
            seen, infos = super()._told()
            both = {agent: {"observation": row, "action_mask": [1, 1, 0]} for agent, row in seen.items()}
            return both | ({"a": observed} if self.now("masked") else {}), infos

    task = PettingZooTask(lambda: Masked("masked", every=1), 1)
    with structlog.testing.capture_logs() as logs:
        play(task, 3)
    assert len(logs) == 1 and "an observation must be one of its space, agent 'a' of 'faulty'" in logs[0]["error"]
