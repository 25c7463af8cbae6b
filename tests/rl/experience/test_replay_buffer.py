"""The replay: what is drawn, what a snapshot links, and that forks cannot disturb each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cosignal.errors import SnapshotError
from cosignal.rl.experience import replay_buffer as module
from cosignal.rl.experience.replay_buffer import ReplayBuffer, remove_stale
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec

X = FeatureSpec(name="x", kind="quantity", low=0, high=1)
SPEC = TaskSpec(
    name="count", description="",
    groups=(GroupSpec(name="agents", agents=("a", "b"), obs_size=2, n_actions=3, features=(X,)),),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10 * module.record_type(SPEC).itemsize)


def rollout(first: int, steps: int = 2, envs: int = 3) -> Rollout:
    """Transitions numbered by their reward, with every other field told by the number."""
    number = np.arange(first, first + steps * envs, dtype=np.float32).reshape(steps, envs)
    per_agent = number[..., None, None] + np.array([[0.0], [0.5]], np.float32)  # [T, E, A, 1]
    obs, features = per_agent.repeat(2, -1), per_agent / 1000
    events, logp = np.zeros((steps, envs, 2, 0), np.float32), np.zeros((steps, envs, 2), np.float32)
    actions = (number[..., None] % 3).repeat(2, -1).astype(np.int64)
    zeros = np.zeros_like(number)
    return Rollout(
        [obs], [obs + 1], [features], [features + 1], [events], [actions], [logp], number, number % 2, zeros, zeros
    )


def filled(parent: Path, capacity: int, rollouts: int) -> ReplayBuffer:
    found = ReplayBuffer(SPEC, capacity, parent)
    for i in range(rollouts):
        found.add(rollout(6 * i))
    return found


def drawn(replay: ReplayBuffer, n: int = 500) -> np.ndarray:
    return replay.sample(n, torch.Generator().manual_seed(1)).reward


def test_draws_all_of_the_last_transitions_and_no_other(tmp_path: Path) -> None:
    replay = filled(tmp_path, capacity=20, rollouts=7)
    assert (replay.count, len(replay), replay.segment_size) == (42, 20, 10)
    assert set(drawn(replay)) == set(range(22, 42))


def test_every_field_belongs_to_its_transition(tmp_path: Path) -> None:
    sample = filled(tmp_path, 1000, 5).sample(50, torch.Generator().manual_seed(2))
    number = sample.reward
    assert np.array_equal(sample.obs[0], number[:, None, None] + np.array([[0, 0], [0.5, 0.5]], np.float32))
    assert np.array_equal(sample.last_obs[0], sample.obs[0] + 1)
    assert sample.features[0][:, 1, 0] == pytest.approx((number + 0.5) / 1000)
    assert sample.last_features[0] == pytest.approx(sample.features[0] + 1)
    assert np.array_equal(sample.actions[0][:, 0], number % 3)
    assert np.array_equal(sample.terminated, number % 2)
    assert sample.events[0].shape == (50, 2, 0)


def test_files_of_old_transitions_go(tmp_path: Path) -> None:
    replay = filled(tmp_path, capacity=20, rollouts=20)
    assert len(list(replay.folder.iterdir())) == 2  # the last 20 of 120 lie in two segments of ten


def test_a_snapshot_links_and_copies_nothing(tmp_path: Path) -> None:
    replay, snapshot = filled(tmp_path / "replay", 20, 4), tmp_path / "snapshot"
    snapshot.mkdir()
    replay.link_into(snapshot)
    assert {path.stat().st_ino for path in snapshot.iterdir()} == {
        path.stat().st_ino for path in replay.folder.iterdir()
    }


def test_forks_of_a_snapshot_go_their_own_ways(tmp_path: Path) -> None:
    """The line that was forked, a fork, and a line that goes back to the snapshot: each draws its own transitions."""
    main, snapshot = filled(tmp_path / "replay", 1000, 3), tmp_path / "snapshot"
    snapshot.mkdir()
    state = main.state_dict()
    main.link_into(snapshot)
    main.add(rollout(1000))
    fork = ReplayBuffer(SPEC, 1000, tmp_path / "replay")
    fork.load_state_dict(state, snapshot)
    assert set(drawn(fork)) == set(range(18))
    fork.add(rollout(2000))
    assert set(drawn(main)) == {*range(18), *range(1000, 1006)}
    assert set(drawn(fork)) == {*range(18), *range(2000, 2006)}
    main.load_state_dict(state)
    main.add(rollout(3000))
    assert set(drawn(main)) == {*range(18), *range(3000, 3006)}
    assert set(drawn(fork)) == {*range(18), *range(2000, 2006)}


def test_a_snapshot_outlives_the_line_that_made_it(tmp_path: Path) -> None:
    main, snapshot = filled(tmp_path / "replay", 20, 4), tmp_path / "snapshot"
    snapshot.mkdir()
    state = main.state_dict()
    main.link_into(snapshot)
    folder = main.folder
    del main
    assert not folder.exists()
    fork = ReplayBuffer(SPEC, 20, tmp_path / "replay")
    fork.load_state_dict(state, snapshot)
    assert set(drawn(fork)) == set(range(4, 24))


def test_a_missing_file_is_a_snapshot_error(tmp_path: Path) -> None:
    state = filled(tmp_path, 20, 4).state_dict()
    for directory in (None, tmp_path):
        with pytest.raises(SnapshotError, match="use save_snapshot and load_snapshot"):
            ReplayBuffer(SPEC, 20, tmp_path).load_state_dict(state, directory)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    replay = filled(tmp_path, 20, 1)
    (tmp_path / f"{2**22 + 1}-left").mkdir()  # above the highest process id
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [replay.folder]
