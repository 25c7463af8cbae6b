"""The replay of whole episodes: what is kept, what is drawn, and that it goes on as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cosignal.rl.experience import episode_replay as module
from cosignal.rl.experience.episode_replay import EpisodeReplay
from cosignal.rl.experience.replay_buffer import Sample
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec

X = FeatureSpec(name="x", kind="quantity", low=0, high=1)
SPEC = TaskSpec(
    name="count", description="",
    groups=(GroupSpec(name="agents", agents=("a", "b"), obs_size=1, n_actions=3, features=(X,)),),
)  # fmt: skip


def rollout(first: int, done: list[list[int]], lost: list[list[int]] | None = None) -> Rollout:
    """Steps of two environments, told by their reward: 10 · (number of the step) + environment."""
    ended = np.array(done, np.float32)
    number = 10.0 * np.arange(first, first + len(done), dtype=np.float32)[:, None] + np.arange(2, dtype=np.float32)
    obs = number[..., None, None].repeat(2, 2)
    actions, logp = np.zeros((*number.shape, 2), np.int64), np.zeros((*number.shape, 2), np.float32)
    events, zeros = np.zeros((*number.shape, 2, 0), np.float32), np.zeros_like(number)
    return Rollout(
        [obs], [obs + 10], [obs], [obs + 10], [events], [actions], [logp], number, ended, ended, zeros,
        lost=None if lost is None else np.array(lost, np.float32),
    )  # fmt: skip


def replay(tmp_path: Path, capacity: int = 100) -> EpisodeReplay:
    """Episodes 0 1 2 | 3 4 … of the first environment, 0 | 1 2 3 4 … of the other; the last ones go on."""
    found = EpisodeReplay(SPEC, capacity, tmp_path)
    found.add(rollout(0, [[0, 1], [0, 0], [1, 0]]))
    found.add(rollout(3, [[0, 0], [0, 1]]))
    return found


def sequences(sample: Sample) -> set[tuple[float, ...]]:
    """The rewards of the episodes that were drawn, without what only fills them up."""
    assert sample.shape is not None
    assert sample.filled is not None
    rewards, filled = sample.reward.reshape(sample.shape), sample.filled.reshape(sample.shape)
    return {tuple(rewards[filled[:, i] > 0, i].tolist()) for i in range(sample.shape[1])}


def test_episodes_that_ended_are_drawn_whole_and_running_ones_are_not(tmp_path: Path) -> None:
    found = replay(tmp_path)
    assert len(found) == 3 + 1 + 4
    drawn = sequences(found.sample(200, torch.Generator().manual_seed(1)))
    assert drawn == {(0, 10, 20), (1,), (11, 21, 31, 41)}
    found.add(rollout(5, [[1, 0]]))
    assert (30, 40, 50) in sequences(found.sample(200, torch.Generator().manual_seed(1)))


def test_a_sample_has_as_many_transitions_as_were_asked_for_and_what_fills_up_repeats_the_last_one(
    tmp_path: Path,
) -> None:
    for n in (1, 5, 60):
        sample = replay(tmp_path).sample(n, torch.Generator().manual_seed(n))
        assert sample.shape is not None and sample.filled is not None
        lengths = sample.filled.reshape(sample.shape).sum(0)
        assert n <= lengths.sum() < n + 4
        rewards = sample.reward.reshape(sample.shape)
        for i, length in enumerate(lengths.astype(int)):
            assert (rewards[length:, i] == rewards[length - 1, i]).all()
        assert np.array_equal(sample.last_obs[0], sample.obs[0] + 10)


def test_a_lost_episode_counts_for_nothing(tmp_path: Path) -> None:
    found = EpisodeReplay(SPEC, 100, tmp_path)
    found.add(rollout(0, [[0, 1], [1, 0], [1, 1]], lost=[[0, 0], [1, 0], [0, 0]]))
    assert sequences(found.sample(100, torch.Generator().manual_seed(1))) == {(20,), (1,), (11, 21)}


def test_the_oldest_episodes_go(tmp_path: Path) -> None:
    found = EpisodeReplay(SPEC, 4, tmp_path)
    for i in range(5):
        found.add(rollout(2 * i, [[0, 0], [1, 1]]))
    assert len(found) == 4
    assert sequences(found.sample(50, torch.Generator().manual_seed(1))) == {(80, 90), (81, 91)}


def test_what_goes_on_for_too_long_is_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 3)
    found = EpisodeReplay(SPEC, 100, tmp_path)
    for i in range(2):
        found.add(rollout(2 * i, [[0, 0], [0, 0]]))
    assert sequences(found.sample(50, torch.Generator().manual_seed(1))) == {(0, 10, 20), (1, 11, 21)}


def test_a_restored_replay_goes_on_and_a_fresh_start_drops_what_was_running(tmp_path: Path) -> None:
    found, other, fresh = replay(tmp_path / "a"), *(EpisodeReplay(SPEC, 100, tmp_path / x) for x in "bc")
    (tmp_path / "snapshot").mkdir()
    found.link_into(tmp_path / "snapshot")
    for restored in (other, fresh):
        restored.load_state_dict(found.state_dict(), tmp_path / "snapshot")
    fresh.forget_running()
    for x in (found, other, fresh):
        x.add(rollout(5, [[1, 0]]))
    drawn = [sequences(x.sample(300, torch.Generator().manual_seed(1))) for x in (found, other, fresh)]
    assert drawn[0] == drawn[1] and (30, 40, 50) in drawn[0]
    assert (50,) in drawn[2] and (30, 40, 50) not in drawn[2]
    assert replace(found.sample(9, torch.Generator().manual_seed(2)), shape=None).reward.tolist() == (
        other.sample(9, torch.Generator().manual_seed(2)).reward.tolist()
    )
