"""The compiled batch against the plain game, step for step and bit for bit."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from cosignal.errors import ConfigError, SnapshotError
from cosignal.rl.envs.two_switch.env import BatchedTwoSwitch
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.heuristic import greedy_heuristic
from cosignal.rl.task import IntArray, Step, episode_seed
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**63)


def random_actions(rng: np.random.Generator, num_envs: int) -> list[IntArray]:
    return [rng.integers(0, 5, (num_envs, 2))]


def assert_steps_equal(one: Step, other: Step) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


class Twins:
    """E plain games with auto-reset, compared with the batch after every step."""

    def __init__(self, batch: BatchedTwoSwitch, base_seed: int) -> None:
        self.batch, self.base_seed = batch, base_seed
        self.episodes = [0] * batch.num_envs
        self.games = [self.start(e) for e in range(batch.num_envs)]
        self.ended = 0
        first = batch.reset(base_seed)
        for e in range(batch.num_envs):
            self.assert_views(first, "", e)
            self.assert_views(first, "last_", e)

    def start(self, e: int) -> TwoSwitchGame:
        seed = episode_seed(self.base_seed, e, self.episodes[e])
        return TwoSwitchGame(seed, self.batch.n_max, self.batch.allow_agent_overlap)

    def assert_views(self, step: Step, prefix: str, e: int) -> None:
        game = self.games[e]
        obs, features = getattr(step, f"{prefix}obs")[0][e], getattr(step, f"{prefix}features")[0][e]
        assert obs.tobytes() == np.stack([game.observation(i) for i in (0, 1)]).tobytes()
        for i in (0, 1):
            assert dict(zip(self.batch.spec.groups[0].feature_names(), features[i], strict=True)) == game.features(i)

    def step(self, actions: IntArray) -> None:
        step = self.batch.step([actions])
        for e, game in enumerate(self.games):
            outcome = game.step((int(actions[e, 0]), int(actions[e, 1])))
            assert step.events[0][e].tolist() == [list(events.values()) for events in outcome.events]
            assert step.reward[e] == np.float32(outcome.reward)
            assert step.terminated[e] == step.success[e] == outcome.terminated
            assert step.truncated[e] == outcome.truncated
            self.assert_views(step, "last_", e)
            if outcome.terminated or outcome.truncated:
                self.ended += 1
                self.episodes[e] += 1
                self.games[e] = self.start(e)
            self.assert_views(step, "", e)


@settings(max_examples=15, deadline=None)
@given(base_seed=SEEDS, action_seed=st.integers(0, 2**32), overlap=st.booleans(), n_max=st.integers(1, 60))
def test_random_play_equals_the_plain_game(base_seed: int, action_seed: int, overlap: bool, n_max: int) -> None:
    twins = Twins(BatchedTwoSwitch(3, n_max, overlap), base_seed)
    rng = np.random.default_rng(action_seed)
    for _ in range(70):
        twins.step(random_actions(rng, 3)[0])
    assert twins.ended >= 3


@pytest.mark.parametrize("overlap", [True, False])
def test_skilled_play_equals_the_plain_game_through_every_phase(overlap: bool) -> None:
    twins = Twins(BatchedTwoSwitch(8, 100, overlap), 11)
    rng = np.random.default_rng(0)
    for _ in range(600):
        actions = np.array([greedy_heuristic(game) for game in twins.games])
        noise = rng.random((8, 2)) < 0.3
        twins.step(np.where(noise, rng.integers(0, 5, (8, 2)), actions))
    assert twins.ended > 100


def test_features_stay_within_their_bounds() -> None:
    batch = BatchedTwoSwitch(64)
    rng = np.random.default_rng(3)
    low = np.array([feature.low for feature in batch.spec.groups[0].features])
    high = np.array([feature.high for feature in batch.spec.groups[0].features])
    for _ in range(500):
        step = batch.step(random_actions(rng, 64))
        assert (step.last_features[0] >= low).all()
        assert (step.last_features[0] <= high).all()


@settings(max_examples=10, deadline=None)
@given(base_seed=SEEDS, before=st.integers(0, 50))
def test_a_restored_batch_continues_bit_for_bit(base_seed: int, before: int) -> None:
    rng = np.random.default_rng(1)
    batch = BatchedTwoSwitch(4, n_max=20)
    batch.reset(base_seed)
    for _ in range(before):
        batch.step(random_actions(rng, 4))
    state = batch.state_dict()
    other = BatchedTwoSwitch(4, n_max=20)
    other.load_state_dict(state)
    assert_steps_equal(batch.observe(), other.observe())
    for _ in range(50):
        actions = random_actions(rng, 4)
        assert_steps_equal(batch.step(actions), other.step(actions))


def test_the_state_is_a_copy() -> None:
    batch = BatchedTwoSwitch(2)
    state = batch.state_dict()
    before = deepcopy(state)
    batch.step([np.full((2, 2), 1)])
    assert all((state[name] == before[name]).all() for name in state)


def test_reseed_changes_the_episodes_to_come_and_repeats_itself() -> None:
    def play(new_seed: int | None) -> tuple[list[list[int]], bytes]:
        batch, rng = BatchedTwoSwitch(2, n_max=5), np.random.default_rng(0)
        batch.reset(7)
        if new_seed is not None:
            batch.reseed(new_seed)
        for _ in range(5):
            step = batch.step(random_actions(rng, 2))
        return batch.state_dict()["streams"].tolist(), step.obs[0].tobytes()

    assert play(8) == play(8)
    assert play(8) != play(9)
    assert play(8) != play(None)
    batch = BatchedTwoSwitch(1, n_max=1)
    batch.reset(7)
    batch.reseed(8)
    step = batch.step([np.zeros((1, 2), dtype=np.int64)])
    game = TwoSwitchGame(episode_seed(8, 0, 1), n_max=1)
    np.testing.assert_array_equal(step.obs[0][0, 0], game.observation(0))


def test_reseed_changes_who_acts_first_in_the_running_episode() -> None:
    def order_after(seed: int) -> list[float]:
        batch = BatchedTwoSwitch(64)
        batch.reset(0)
        state = batch.state_dict()
        state["state"][:, :2] = [(1 * 9 + 1) * 4 + 1, (3 * 9 + 1) * 4 + 3]  # both face A
        batch.load_state_dict(state)
        batch.reseed(seed)
        return batch.step([np.full((64, 2), 4)]).events[0][:, 0, 0].tolist()

    assert order_after(1) != order_after(2)
    assert 10 < sum(order_after(1)) < 54


def test_observe_shows_the_present_without_events() -> None:
    batch = BatchedTwoSwitch(2)
    shown = deepcopy(batch.step([np.ones((2, 2), dtype=np.int64)]))
    again = batch.observe()
    np.testing.assert_array_equal(shown.obs[0], again.obs[0])
    np.testing.assert_array_equal(again.last_obs[0], again.obs[0])
    assert not again.reward.any()
    assert not again.events[0].any()


def test_bad_actions_are_refused_and_change_nothing() -> None:
    batch = BatchedTwoSwitch(2)
    before = batch.state_dict()
    with pytest.raises(ValueError, match="environment 1"):
        batch.step([np.array([[0, 4], [0, 5]])])
    with pytest.raises(ValueError, match="shape"):
        batch.step([np.zeros((3, 2), dtype=np.int64)])
    assert all((before[name] == value).all() for name, value in batch.state_dict().items())


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(SnapshotError, match="2 environments"):
        BatchedTwoSwitch(2).load_state_dict(BatchedTwoSwitch(3).state_dict())
    with pytest.raises(SnapshotError, match="streams"):
        BatchedTwoSwitch(2).load_state_dict({"state": BatchedTwoSwitch(2).state_dict()["state"]})


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        BatchedTwoSwitch(0)


def test_episode_text_tells_the_episode_of_a_seed() -> None:
    batch = BatchedTwoSwitch(1, n_max=3)
    lines = batch.episode_text(5, [np.zeros((10, 2), dtype=np.int64)]).lines
    assert len(lines) == 3
    assert TwoSwitchGame(5).describe() in lines[0]
    assert lines[-1].endswith("time limit")


def test_the_spec_tells_rules_and_ranges() -> None:
    spec = BatchedTwoSwitch(1, n_max=50).spec
    assert spec.agents == ["green", "orange"]
    assert (spec.return_range, spec.max_steps, spec.has_success) == ((-1.0, 4.0), 50, True)
    assert "#A.....B#" in spec.description
    assert not any(event.repeatable for event in spec.groups[0].events)
