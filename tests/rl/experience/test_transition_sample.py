"""The sample of transitions: rings that the same rollouts fill alike, and files that come back as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import SnapshotError
from cosignal.rl.experience.episodes import EpisodeTracker
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.experience.transition_sample import TransitionSample, TransitionSampler
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from safetensors.numpy import load_file, save_file

# ------------------------------------------------------------ the ring

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


def test_advantages_stay_beside_their_steps_and_are_unknown_where_there_are_none() -> None:
    recorder, played = TransitionSampler(SPEC), rollout(np.zeros((12, 40)))
    recorder.add(played, [2 * played.features[0][..., 0]])
    recorder.add(played)
    found = recorder.recorded(EpisodeTracker(SPEC, 40))
    clock, [advantage] = found.features[0][..., 0], found.advantage
    known = np.isfinite(advantage).all(axis=1)
    assert np.array_equal(advantage[known], 2 * clock[known]) and known.sum() == len(known) / 2

    older = {name: values for name, values in recorder.state_dict().items() if not name.startswith("advantage")}
    recorder.load_state_dict(older)
    assert np.isnan(recorder.recorded(EpisodeTracker(SPEC, 40)).advantage[0]).all()


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


def test_a_snapshot_of_an_older_version_that_kept_no_rewards_loads() -> None:
    recorder = TransitionSampler(SPEC)
    recorder.add(rollout(np.ones((12, 3))))
    older = {key: value for key, value in recorder.state_dict().items() if key != "reward"}
    again = TransitionSampler(SPEC)
    again.load_state_dict(older)
    again.add(rollout(np.full((1, 4), 2.0)))
    reward = again.recorded(EpisodeTracker(SPEC, 3)).reward
    assert np.isnan(reward[:32]).all() and reward[32:].tolist() == [2.0] * 4


def episodes_of_two_steps() -> tuple[TransitionSampler, EpisodeTracker]:
    """One environment, three episodes. `clock` is 0, 1, 2, …; the event happens in the second step of the last two."""
    played = rollout(np.arange(6.0)[:, None], done=np.array([[0], [1]] * 3))
    played.events = [np.zeros_like(played.features[0])]
    played.events[0][[3, 5]] = 1
    played.success[5] = 1
    recorder, episodes = TransitionSampler(SPEC), EpisodeTracker(SPEC, 1)
    recorder.add(played)
    episodes.add(played)
    return recorder, episodes


def test_a_sample_holds_rewards_and_what_episodes_began_with_and_earned() -> None:
    recorder, episodes = episodes_of_two_steps()
    sample = recorder.recorded(episodes)
    assert sorted(sample.reward.tolist()) == [0, 1, 2, 3, 4, 5]
    assert sample.end_return.tolist() == [1, 5, 9]
    assert sample.end_success.tolist() == [0, 0, 1]
    assert sample.start_features[0][:, 0, 0].tolist() == [0, 2, 4]
    assert sample.end_features[0][:, 0, 0].tolist() == [1, 3, 5]
    assert sample.end_counts[0][:, :, 0].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert sample.event_kind.tolist() == [0, 0]
    assert sample.event_features[0][:, 0, 0].tolist() == [4, 6]  # s′ of steps 3 and 5


# ------------------------------------------------------------ as a file

LATER = ("reward", "end_return", "event_kind", "end_counts.0", "start_features.0", "event_features.0")


def test_what_is_kept_of_episodes_comes_back_from_a_file_and_older_files_lack_it(tmp_path: Path) -> None:
    recorder, episodes = episodes_of_two_steps()
    path = tmp_path / "r.safetensors"
    recorder.recorded(episodes).save(path)
    again = TransitionSample.load(path, SPEC)
    assert again.end_return.tolist() == [1, 5, 9]
    assert again.event_features[0][:, 0, 0].tolist() == [4, 6]
    arrays = load_file(path)
    save_file({key: value for key, value in arrays.items() if key not in LATER}, path)
    older = TransitionSample.load(path, SPEC)
    assert len(older.terminated) == 6
    assert (older.start_features, older.end_counts, older.event_features) == ([], [], [])
    assert len(older.reward) == len(older.end_return) == len(older.event_kind) == 0
    for name, array in (("start_features.0", arrays["start_features.0"][:2]), ("event_kind", np.zeros(1))):
        save_file({**arrays, name: array}, path)
        with pytest.raises(SnapshotError, match="3 ends"):
            TransitionSample.load(path, SPEC)


@pytest.mark.parametrize(("n", "ends"), [(5, 4), (0, 0)])
def test_save_and_load(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample], n: int, ends: int
) -> None:
    recorded = record(n, ends=ends)
    recorded.save(tmp_path / "r.safetensors")
    again = TransitionSample.load(tmp_path / "r.safetensors", spec)
    for name in ("features", "last_features", "events", "end_features"):
        for a, b in zip(getattr(recorded, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(recorded.terminated, again.terminated)
    np.testing.assert_array_equal(recorded.end_success, again.end_success)


def test_what_cannot_be_read_is_a_snapshot_error(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    path = tmp_path / "r.safetensors"
    with pytest.raises(SnapshotError, match="cannot be read"):
        TransitionSample.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(SnapshotError, match="cannot be read"):
        TransitionSample.load(path)
    record(5).save(path)
    arrays = load_file(path)
    save_file({k: v for k, v in arrays.items() if k != "events.1"}, path)
    with pytest.raises(SnapshotError, match=r"lack 'events.1'"):
        TransitionSample.load(path)
    save_file(arrays | {"terminated": np.zeros(4, bool)}, path)
    with pytest.raises(SnapshotError, match="4 transitions"):
        TransitionSample.load(path)


def test_recordings_of_another_task_are_refused(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    path = tmp_path / "r.safetensors"
    record(5).save(path)
    fewer = spec.model_copy(update={"groups": spec.groups[:1]})
    with pytest.raises(
        SnapshotError, match=r"\[\(2, 2, 2\)\] per group as task 'made_up', got \[\(2, 2, 2\), \(1, 2, 1\)\]"
    ):
        TransitionSample.load(path, fewer)
