"""The ring of transitions: the same rollouts give the same sample, also from a snapshot."""

from __future__ import annotations

import numpy as np
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.experience.transition_sample import (
    TransitionSampler,
)
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec

AGENTS = 2
SPEC = TaskSpec(
    name="made_up",
    description="",
    groups=(
        GroupSpec(
            name="all",
            agents=("a", "b"),
            obs_size=1,
            n_actions=2,
            features=(FeatureSpec(name="clock", kind="quantity", low=0, high=1000),),
            events=(EventSpec(name="e"),),
        ),
    ),
    return_range=(0.0, 1.0),
    max_steps=100,
)


def rollout(reward: np.ndarray, done: np.ndarray | None = None, start: int = 0) -> Rollout:
    """`clock` is the step since `start` plus 100 times the environment; reward and done are [T, E]."""
    steps, envs = reward.shape
    clock = start + np.arange(steps)[:, None] + 100 * np.arange(envs)
    features = np.repeat(clock[..., None, None], AGENTS, axis=2).astype(np.float32)
    ends = np.zeros_like(reward) if done is None else done
    nothing = np.zeros((steps, envs), np.float32)
    return Rollout(
        obs=[features], last_obs=[features], features=[features], last_features=[features + 1],
        events=[0 * features], actions=[features[..., 0].astype(np.int64)], logp=[features[..., 0]],
        reward=reward.astype(np.float32), terminated=nothing, done=ends.astype(np.float32), success=nothing,
    )  # fmt: skip


def test_the_same_rollouts_give_the_same_sample_also_from_a_snapshot() -> None:
    def add(recorder: TransitionSampler, updates: range) -> TransitionSampler:
        for update in updates:
            recorder.add(rollout(np.zeros((12, 40)), start=1000 * update))
        return recorder

    whole = add(TransitionSampler(SPEC), range(6))
    half = TransitionSampler(SPEC)
    half.load_state_dict(add(TransitionSampler(SPEC), range(3)).state_dict())
    for name, array in add(half, range(3, 6)).state_dict().items():
        np.testing.assert_array_equal(array, whole.state_dict()[name], err_msg=name)


def test_a_snapshot_of_an_older_version_that_kept_pairs_of_states_loads() -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(np.zeros((12, 3))))
    older = recorder.state_dict() | {"paired": np.zeros(2, np.int64), "rewarded_from.0": np.zeros((256, 2, 1))}
    again = TransitionSampler(SPEC)
    again.load_state_dict(older)
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, recorder.state_dict()[name], err_msg=name)
