"""What a time limit is recorded as."""

from __future__ import annotations

import numpy as np
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
from cosignal.rl.experience.rollout import Collector, Rollout
from cosignal.rl.task import BatchedTask, Step


class Still:
    """Nobody ever does anything."""

    def act(self, obs, masks=None, rnn_states=None):  # type: ignore[no-untyped-def]
        return [np.zeros(x.shape[:-1], np.int64) for x in obs], [np.zeros(x.shape[:-1], np.float32) for x in obs]


def collected(limit_terminates: bool, lose: bool = False) -> Rollout:
    """Seven steps of two environments whose episodes are cut after three."""
    task: BatchedTask = make_task(TaskConfig(name="two_switch", n_max=3), 2)
    made = task.step

    def step(actions: list[np.ndarray]) -> Step:
        found = made(actions)
        found.lost = np.array([lose and bool(found.truncated[0]), False])
        return found

    task.step = step  # type: ignore[method-assign]
    collector = Collector(task, 7, limit_terminates)
    collector.collect(Still(), task.reset(0))
    return collector.rollout


def test_a_time_limit_is_truncation_unless_it_is_asked_for() -> None:
    for limit_terminates in (False, True):
        rollout = collected(limit_terminates)
        assert np.flatnonzero(rollout.done[:, 0]).tolist() == [2, 5]
        assert (rollout.terminated == (rollout.done if limit_terminates else 0)).all()


def test_a_lost_episode_has_not_ended() -> None:
    rollout = collected(limit_terminates=True, lose=True)
    assert rollout.done[2].tolist() == [1, 1]
    assert rollout.terminated[2].tolist() == [0, 1]
