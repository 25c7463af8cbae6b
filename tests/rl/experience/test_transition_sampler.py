"""Pairs of states on the way to a reward and elsewhere: where they may start, and that they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cosignal.rl.experience.episodes import EpisodeTracker
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.experience.transition_sample import (
    LAG,
    PAIRS,
    PAIRS_PER_UPDATE,
    TransitionSample,
    TransitionSampler,
    ways,
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


def at(steps: int, envs: int, *places: tuple[int, int]) -> np.ndarray:
    flags = np.zeros((steps, envs))
    for place in places:
        flags[place] = 1.0
    return flags


def test_where_pairs_may_start() -> None:
    """Twelve steps, a reward in step 8 and a penalty in all others. The way to 8 starts at 3, and every way that starts
    there or later has the reward on it or right behind it."""
    rewarded, plain = ways(rollout(at(12, 1, (8, 0)) - 0.01))
    assert np.flatnonzero(rewarded[:, 0]).tolist() == [3]
    assert np.flatnonzero(plain[:, 0]).tolist() == [0, 1, 2]


def test_a_pair_stays_within_one_episode() -> None:
    """Step 5 ends an episode: states 1 … 5 and the one LAG steps later are of two. A pair may end in its last state."""
    rewarded, plain = ways(rollout(at(12, 1, (5, 0), (8, 0)), at(12, 1, (5, 0))))
    assert np.flatnonzero(rewarded[:, 0]).tolist() == [0]
    assert not plain.any()  # 6 sees the second reward


def test_a_rollout_that_is_too_short_has_none() -> None:
    assert [found.shape for found in ways(rollout(at(LAG, 3)))] == [(0, 3), (0, 3)]


def kept(recorder: TransitionSampler) -> TransitionSample:
    return recorder.recorded(EpisodeTracker(SPEC, 1))


def test_as_many_plain_pairs_are_kept_as_rewarded_ones() -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(at(12, 3, (8, 1))))
    recorded = kept(recorder)
    assert recorded.rewarded_from[0].shape == (1, AGENTS, 1)
    assert recorded.rewarded_from[0].ravel().tolist() == [103, 103]
    assert recorded.rewarded_to[0].ravel().tolist() == [108, 108]
    assert recorded.plain_from[0].shape == (1, AGENTS, 1)
    assert (recorded.plain_to[0] - recorded.plain_from[0] == LAG).all()


def test_without_a_reward_nothing_is_paired() -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(at(12, 3)))
    assert [len(x[0]) for x in (kept(recorder).rewarded_from, kept(recorder).plain_from)] == [0, 0]


def test_the_ring_keeps_the_newest_and_never_more() -> None:
    recorder = TransitionSampler(SPEC)
    for update in range(40):  # more rewarded starts each than are taken
        recorder.add(rollout(np.vstack([np.zeros((6, 8)), at(6, 8, *[(t, e) for t in range(6) for e in range(4)])]),
                             start=1000 * update))  # fmt: skip
    recorded = kept(recorder)
    assert recorder.paired["rewarded"] == 40 * PAIRS_PER_UPDATE
    assert len(recorded.rewarded_from[0]) == len(recorded.plain_from[0]) == PAIRS
    oldest = 40 - PAIRS // PAIRS_PER_UPDATE
    assert recorded.rewarded_from[0].min() >= 1000 * oldest


def test_the_same_rollouts_give_the_same_pairs_also_from_a_snapshot() -> None:
    def add(recorder: TransitionSampler, updates: range) -> TransitionSampler:
        for update in updates:
            recorder.add(rollout(at(12, 40, *[(8, e) for e in range(30)]), start=1000 * update))
        return recorder

    whole = add(TransitionSampler(SPEC), range(6))
    half = TransitionSampler(SPEC)
    half.load_state_dict(add(TransitionSampler(SPEC), range(3)).state_dict())
    for name, array in add(half, range(3, 6)).state_dict().items():
        np.testing.assert_array_equal(array, whole.state_dict()[name], err_msg=name)


def test_a_snapshot_of_an_older_version_has_no_pairs(tmp_path: Path) -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(at(12, 3, (8, 1))))
    old = {name: array for name, array in recorder.state_dict().items() if name in recorder.ring or name == "count"}
    recorder.load_state_dict(old)
    assert [len(x[0]) for x in (kept(recorder).rewarded_from, kept(recorder).plain_to)] == [0, 0]
    assert recorder.paired == {"rewarded": 0, "plain": 0}


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_are_in_the_file(tmp_path: Path, paired: bool) -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(at(12, 3, (8, 1)) if paired else at(12, 3)))
    kept(recorder).save(tmp_path / "r.safetensors")
    again = TransitionSample.load(tmp_path / "r.safetensors", SPEC)
    for name in ("rewarded_from", "rewarded_to", "plain_from", "plain_to"):
        np.testing.assert_array_equal(getattr(again, name)[0], getattr(kept(recorder), name)[0])
