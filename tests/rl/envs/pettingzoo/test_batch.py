"""Any ParallelEnv as a batch: equal to the native one where there is one, and fair to those who die early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from cosignal.errors import ConfigError, SnapshotError
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.two_switch.env import BatchedTwoSwitch, TwoSwitchEnv
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.heuristic import greedy_heuristic
from cosignal.rl.task import IntArray, Step, episode_seed
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo import ParallelEnv


class Counting(ParallelEnv):  # type: ignore[misc]
    """Two walkers and a watcher with spaces of its own. Each walker sees its steps so far and a random number; walker
    k leaves after `lives[k]` steps, the watcher stays until both are gone."""

    metadata: ClassVar[dict[str, Any]] = {"name": "counting"}

    def __init__(self, lives: tuple[int, int] = (2, 4), by_limit: bool = False, seeded: bool = True) -> None:
        self.possible_agents = ["walker_0", "walker_1", "watcher"]
        self.lives, self.by_limit, self.seeded = dict(zip(self.possible_agents, lives, strict=False)), by_limit, seeded
        walker = Box(np.array([0, -np.inf], dtype=np.float32), np.array([9, np.inf], dtype=np.float32))
        self._spaces = dict.fromkeys(self.possible_agents[:2], walker)
        self._spaces["watcher"] = Box(0, 1, (1,))
        self._actions = {agent: Discrete(3, start=-1) for agent in self.possible_agents[:2]} | {"watcher": Discrete(2)}
        self.received: list[dict[str, int]] = []

    def observation_space(self, agent: str) -> Box:
        return self._spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        return self._actions[agent]

    def _obs(self) -> dict[str, Any]:
        all_obs = {agent: np.array([self.t, 20 * self.rng.normal()], np.float32) for agent in self.possible_agents[:2]}
        all_obs["watcher"] = np.array([0.5], np.float32)
        return {agent: all_obs[agent] for agent in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.rng = np.random.default_rng(seed if self.seeded else None)
        self.agents, self.t = list(self.possible_agents), 0
        return self._obs(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.received.append(dict(actions))
        self.t += 1
        gone = {agent: self.t >= self.lives.get(agent, max(self.lives.values())) for agent in self.agents}
        never = dict.fromkeys(self.agents, False)
        result = self._obs(), {a: float(actions[a]) for a in self.agents}
        flags = (never, gone) if self.by_limit else (gone, never)
        infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not gone[agent]]
        return (*result, *flags, infos)


def constant(*values: int) -> list[IntArray]:
    """Actions for one environment of Counting: two walkers, one watcher."""
    return [np.array([values[:2]]), np.array([values[2:]])]


def assert_steps_equal(one: Step, other: Step) -> None:
    for name, value in vars(one).items():
        if name == "lost":
            assert not any(lost is not None and lost.any() for lost in (value, other.lost))
            continue
        if value is None or getattr(other, name) is None:  # everything is allowed
            assert all(mask.all() for mask in value or getattr(other, name) or []), name
            continue
        mine, theirs = (value, getattr(other, name)) if isinstance(value, list) else ([value], [getattr(other, name)])
        assert [array.tobytes() for array in mine] == [array.tobytes() for array in theirs], name


@settings(max_examples=5, deadline=None)
@given(base_seed=st.integers(0, 2**62), action_seed=st.integers(0, 2**32), overlap=st.booleans())
def test_wrapped_two_switch_equals_the_native_batch(base_seed: int, action_seed: int, overlap: bool) -> None:
    wrapped = PettingZooTask(lambda: TwoSwitchEnv(30, overlap), 3, team_reward="mean")
    native = BatchedTwoSwitch(3, 30, overlap)
    assert wrapped.spec == native.spec
    assert_steps_equal(wrapped.reset(base_seed), native.reset(base_seed))
    rng = np.random.default_rng(action_seed)
    for _ in range(150):
        actions = [rng.integers(0, 5, (3, 2))]
        assert_steps_equal(wrapped.step(actions), native.step(actions))


def test_wrapped_two_switch_equals_the_native_batch_through_successes() -> None:
    wrapped, native = PettingZooTask(TwoSwitchEnv, 4, team_reward="mean"), BatchedTwoSwitch(4)
    wrapped.reset(3), native.reset(3)
    rng, successes = np.random.default_rng(0), 0
    for _ in range(500):
        skilled = np.array([greedy_heuristic(task.env.game) for task in wrapped.tasks])
        actions = [np.where(rng.random((4, 2)) < 0.2, rng.integers(0, 5, (4, 2)), skilled)]
        step = native.step(actions)
        assert_steps_equal(wrapped.step(actions), step)
        successes += int(step.success.sum())
    assert successes > 50
    text = [np.zeros((200, 2), dtype=np.int64)]
    assert wrapped.episode_text(9, text) == native.episode_text(9, text)


def test_text_of_a_solved_episode_equals_the_native_one() -> None:
    game, rows, home = TwoSwitchGame(5), [], False
    while not home:
        rows.append(greedy_heuristic(game))
        home = game.step(rows[-1]).terminated
    actions = [np.array(rows)]
    lines = PettingZooTask(TwoSwitchEnv, 1, team_reward="mean").episode_text(5, actions).lines
    assert lines == BatchedTwoSwitch(1).episode_text(5, actions).lines
    assert lines[-1].endswith("success")


def test_sum_pays_twice_where_every_agent_is_paid_the_team_reward() -> None:
    task = PettingZooTask(TwoSwitchEnv, 1)
    assert task.step([np.zeros((1, 2), dtype=np.int64)]).reward[0] == np.float32(-0.02)


def test_agents_with_equal_spaces_form_groups() -> None:
    spec = PettingZooTask(Counting, 1).spec
    assert [(group.name, group.agents) for group in spec.groups] == [
        ("group_0", ("walker_0", "walker_1")),
        ("group_1", ("watcher",)),
    ]
    assert [group.n_actions for group in spec.groups] == [3, 2]
    assert (spec.name, spec.has_success, spec.deterministic, spec.return_range) == ("counting", False, True, None)


def test_observation_components_are_the_features_where_none_are_declared() -> None:
    task = PettingZooTask(Counting, 8)
    steps, random_number = task.spec.groups[0].features
    assert (steps.name, steps.kind, steps.low, steps.high) == ("obs_0", "quantity", 0, 9)
    assert (random_number.low, random_number.high) == (-10, 10)  # an open bound
    step = task.reset(0)
    assert abs(step.obs[0][..., 1]).max() > 10
    np.testing.assert_array_equal(step.features[0], np.clip(step.obs[0], -10, 10))


def test_an_agent_that_dies_early_leaves_zeros_and_is_not_asked() -> None:
    task = PettingZooTask(lambda: Counting((2, 4)), 1)
    env = task.tasks[0].env
    env.received.clear()
    task.step(constant(2, 0, 1))
    gone = task.observe().features[0][0, 0].tolist()
    last = task.step(constant(2, 0, 1))
    assert not last.last_obs[0][0, 0].any()  # it has left with this step
    assert last.last_features[0][0, 0].tolist() == gone
    after = task.step(constant(2, 0, 1))
    assert not after.last_obs[0][0, 0].any()
    assert after.last_features[0][0, 0].tolist() == gone  # as they were
    assert after.last_masks is not None
    assert after.last_alive is not None
    assert after.last_masks[0][0].tolist() == [[True, False, False], [True, True, True]]
    assert after.last_alive[0][0].tolist() == [False, True]
    assert after.last_obs[0][0, 1, 0] == 3
    assert after.reward[0] == -1 + 1  # walker_1 and the watcher; action 0 of a space that starts at -1 is -1
    assert not after.terminated[0]
    end = task.step(constant(2, 0, 1))
    assert (bool(end.terminated[0]), bool(end.truncated[0]), bool(end.success[0])) == (True, False, False)
    assert end.last_obs[0][0, 1, 0] == 4
    assert end.obs[0][0, :, 0].tolist() == [0, 0]  # the next episode
    assert [sorted(actions) for actions in env.received] == [["walker_0", "walker_1", "watcher"]] * 2 + [
        ["walker_1", "watcher"]
    ] * 2
    assert env.received[0] == {"walker_0": 1, "walker_1": -1, "watcher": 1}


def test_leaving_by_the_limit_truncates() -> None:
    task = PettingZooTask(lambda: Counting((1, 1), by_limit=True), 1)
    step = task.step(constant(0, 0, 0))
    assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, True)


def test_n_max_truncates_from_outside() -> None:
    task = PettingZooTask(lambda: Counting((9, 9)), 1, n_max=3)
    assert task.spec.max_steps == 3
    ends = [bool(task.step(constant(0, 0, 0)).truncated[0]) for _ in range(6)]
    assert ends == [False, False, True, False, False, True]
    assert len(task.episode_text(0, [np.zeros((9, 2), np.int64), np.zeros((9, 1), np.int64)]).lines) == 3


def test_episodes_start_from_their_recorded_seeds() -> None:
    task, env = PettingZooTask(lambda: Counting((1, 1)), 2), Counting()
    task.reset(42)
    for episode in range(1, 4):
        step = task.step([np.zeros((2, 2), np.int64), np.zeros((2, 1), np.int64)])
        for e in (0, 1):
            obs, _ = env.reset(seed=episode_seed(42, e, episode))
            np.testing.assert_array_equal(step.obs[0][e, 0], obs["walker_0"])


def test_reseed_leaves_the_running_episode_and_changes_the_next() -> None:
    task, env = PettingZooTask(lambda: Counting((2, 2)), 1), Counting()
    before = task.reset(1).obs[0].copy()
    task.reseed(2)
    np.testing.assert_array_equal(task.observe().obs[0], before)
    task.step(constant(0, 0, 0))
    step = task.step(constant(0, 0, 0))
    np.testing.assert_array_equal(step.obs[0][0, 0], env.reset(seed=episode_seed(2, 0, 1))[0]["walker_0"])


@pytest.mark.parametrize("factory", [TwoSwitchEnv, lambda: Counting((3, 5))])
@pytest.mark.parametrize("before", [0, 1, 17])
def test_a_restored_task_continues_bit_for_bit(factory: Callable[[], Any], before: int) -> None:
    rng, task, other = np.random.default_rng(5), PettingZooTask(factory, 3), PettingZooTask(factory, 3)

    def actions() -> list[IntArray]:
        return [rng.integers(0, group.n_actions, (3, len(group.agents))) for group in task.spec.groups]

    task.reset(8)
    for _ in range(before):
        task.step(actions())
    other.load_state_dict(task.state_dict())
    assert_steps_equal(task.observe(), other.observe())
    for _ in range(30):
        chosen = actions()
        assert_steps_equal(task.step(chosen), other.step(chosen))
    for name, array in task.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])


def test_a_task_that_is_not_deterministic_is_found_out_and_starts_afresh() -> None:
    task = PettingZooTask(lambda: Counting((5, 5), seeded=False), 1)
    assert not task.spec.deterministic
    task.step(constant(0, 0, 0))
    task.load_state_dict(task.state_dict())
    step = task.observe()
    assert step.obs[0][0, 0, 0] == 0
    assert task.state_dict()["episodes"].tolist() == [1]


class Promising(Counting):
    deterministic = True


def test_a_false_promise_of_determinism_is_told_at_the_restore_which_starts_afresh() -> None:
    task = PettingZooTask(lambda: Promising((5, 5), seeded=False), 2)
    step = task.step([np.zeros((2, len(group.agents)), int) for group in task.spec.groups])
    before = step.obs[0][0, 0, 1]
    difference = task.load_state_dict(task.state_dict())
    assert difference is not None
    for words in ("agent 'walker_0'", "as number 1 after step 1", f"it was {before}", "deterministic = False"):
        assert words in difference, difference
    assert task.state_dict()["episodes"].tolist() == [1, 1], "all environments alike"
    assert not task.state_dict()["lengths"].any()
    assert task.load_state_dict(task.state_dict(), fresh=True) is None
    assert task.state_dict()["episodes"].tolist() == [2, 2]


class Shortening(Counting):
    """From the eleventh reset of all instances on episodes end after one step; a further one raises."""

    resets = 0

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        Shortening.resets += 1
        self.short = Shortening.resets > 10
        return super().reset(seed, options)

    def step(self, actions: dict[str, Any]) -> Any:
        if not self.agents:
            raise RuntimeError("nobody is left")
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if self.short:
            self.agents, terminated = [], dict.fromkeys(terminated, True)
        return observations, rewards, terminated, truncated, infos


@pytest.mark.parametrize(("steps", "words"), [(1, "all agents had left by step 1"), (2, "went wrong in the episode")])
def test_a_replay_that_ends_early_or_raises_starts_afresh(steps: int, words: str) -> None:
    Shortening.resets = 0
    task = PettingZooTask(lambda: Shortening((9, 9)), 1)
    for _ in range(steps):
        task.step([np.zeros((1, len(group.agents)), int) for group in task.spec.groups])
    Shortening.resets = 10
    difference = task.load_state_dict(task.state_dict())
    assert difference is not None and words in difference
    assert task.state_dict()["episodes"].tolist() == [1]
    assert task.state_dict()["lengths"].tolist() == [0]


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(SnapshotError, match="1 environments"):
        PettingZooTask(TwoSwitchEnv, 1).load_state_dict(PettingZooTask(TwoSwitchEnv, 2).state_dict())


def test_bad_actions_are_refused() -> None:
    task = PettingZooTask(Counting, 1)
    with pytest.raises(ValueError, match=r"group_0.*0\.\.2.*3\.\.3"):
        task.step(constant(3, 3, 0))
    with pytest.raises(ValueError, match="shape"):
        task.step([np.zeros((2, 2), np.int64), np.zeros((1, 1), np.int64)])


def test_spaces_that_cannot_be_batched_are_refused() -> None:
    def with_space(**spaces: Any) -> Callable[[], Any]:
        def build() -> Any:
            env = Counting()
            env._spaces |= {agent: spaces["obs"] for agent in env._spaces if "obs" in spaces}
            env._actions |= {agent: spaces["act"] for agent in env._actions if "act" in spaces}
            return env

        return build

    for space in (Text(5), Dict({"near": Box(0, 1, (2,)), "name": Text(5)}), Box(0, 1, (0,))):
        with pytest.raises(ConfigError, match="put it into a Box"):
            PettingZooTask(with_space(obs=space), 1)
    for space in (Discrete(1), MultiDiscrete([2, 2]), Box(0, np.inf, (2,)), Dict({"move": Discrete(2)})):
        with pytest.raises(ConfigError, match="must be Discrete with at least 2 choices, or a bounded Box"):
            PettingZooTask(with_space(act=space), 1)


def test_a_factory_that_gives_the_same_environment_twice_is_refused() -> None:
    env = Counting()
    with pytest.raises(ConfigError, match="new environment"):
        PettingZooTask(lambda: env, 2)


class Declaring(Counting):
    """Says more about itself, with plain dicts; `broken` forgets a feature in its infos."""

    has_success = True
    return_range = (-4.0, 4.0)
    feature_specs: ClassVar[dict[str, Any]] = {
        agent: [{"name": "steps", "kind": "count", "low": 0, "high": 9}]
        for agent in ("walker_0", "walker_1", "watcher")
    }
    event_specs: ClassVar[dict[str, Any]] = {key: [{"name": "left"}] for key in ("walker_0", "walker_1", "watcher")}
    broken = False

    def _tell(self, infos: dict[str, Any], gone: dict[str, bool]) -> None:
        for agent, info in infos.items():
            info["features"] = {} if self.broken else {"steps": self.t}
            info["events"] = {"left": int(gone.get(agent, False))}
            info["success"] = agent == "watcher" and gone.get(agent, False)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        observations, infos = super().reset(seed)
        self._tell(infos, {})
        return observations, infos

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        result = super().step(actions)
        self._tell(result[4], result[2])
        return result


def test_declared_features_events_and_success_come_from_infos() -> None:
    task = PettingZooTask(lambda: Declaring((1, 2)), 1)
    assert task.spec.groups[0].feature_names() == ["steps"]
    assert task.spec.return_range == (-4.0, 4.0)
    first = task.step(constant(0, 0, 0))
    assert first.events[0][0, :, 0].tolist() == [1, 0]
    assert first.features[0][0, :, 0].tolist() == [0, 1]  # of who has left they stay as they were
    second = task.step(constant(0, 0, 0))
    assert second.events[0][0, :, 0].tolist() == [0, 1]
    assert second.events[1][0, 0].tolist() == [1]
    assert (bool(second.success[0]), bool(second.terminated[0])) == (True, True)
    line = task.episode_text(0, constant(0, 2, 1)).lines[0]
    assert line == "step 1: walker_0 0, walker_1 2, watcher 1 | events: walker_0 left | team reward +1.000"


def test_a_declared_feature_that_does_not_come_is_told() -> None:
    class Broken(Declaring):
        broken = True

    with pytest.raises(ConfigError, match=r"'walker_0' no 'steps'"):
        PettingZooTask(Broken, 1)


def test_a_bad_declaration_is_told() -> None:
    class Wrong(Declaring):
        feature_specs: ClassVar[dict[str, Any]] = {"walker_0": [{"name": "steps"}]}

    with pytest.raises(ConfigError, match="must map every agent"):
        PettingZooTask(Wrong, 1)
