"""A `Task` of one's own: what it says comes before what the environment says; masks; numbers as actions; AEC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from cosignal import EventSpec, FeatureSpec, Task
from cosignal.errors import ConfigError
from cosignal.rl.envs.adapter import as_task
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from gymnasium.spaces import Box, Discrete
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import AgentSelector
from small_tasks import Walk


class Lift(ParallelEnv):  # type: ignore[misc]
    """Two pushers choose among three levers, a pusher's own number is locked; a crane moves by two numbers."""

    metadata: ClassVar[dict[str, Any]] = {"name": "lift"}

    def __init__(self, size: int = 4) -> None:
        self.possible_agents = ["pusher_0", "pusher_1", "crane"]
        self.size, self.moves = size, []  # type: ignore[var-annotated]

    def observation_space(self, agent: str) -> Box:
        return Box(0, self.size, (1,))

    def action_space(self, agent: str) -> Any:
        return Box(np.zeros(2, np.float32), np.full(2, self.size, np.float32)) if agent == "crane" else Discrete(3)

    def _views(self) -> tuple[dict[str, Any], dict[str, Any]]:
        masks = {f"pusher_{k}": {"action_mask": [j != k for j in range(3)]} for k in range(2)}
        return {a: np.array([self.t], np.float32) for a in self.agents}, masks | {"crane": {}}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.t = list(self.possible_agents), 0
        return self._views()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.moves.append(actions)
        self.t += 1
        observations, infos = self._views()
        over = dict.fromkeys(self.agents, self.t == self.size)
        rewards = {agent: float(np.sum(actions[agent])) for agent in self.agents}
        self.agents = [] if self.t == self.size else self.agents
        return observations, rewards, over, dict.fromkeys(over, False), infos


class LiftTask(Task):
    description = "Lift the load."
    return_range = (0.0, 40.0)
    max_steps = 4
    has_success = True
    deterministic = True

    def __init__(self, size: int = 4) -> None:
        super().__init__(Lift(size))

    def groups(self) -> Mapping[str, Sequence[Any]]:
        return {"pushers": ["pusher_0", "pusher_1"], "cranes": ["crane"]}

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:
        low = FeatureSpec(name="height", kind="distance", low=0, high=4, unit="m")
        return [low] if agent == "crane" else [low, FeatureSpec(name="own", kind="flag", low=0, high=1)]

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:
        return {"height": self.env.t, "own": agent == "pusher_0"}

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:
        return [EventSpec(name="lifted")] if agent == "crane" else []

    def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:
        return {"lifted": int(self.env.t == 2)}

    def success(self, infos: Any) -> bool:
        return bool(self.env.t == 4)

    def describe(self) -> str:
        return f"height {self.env.t}"


def actions(pushers: list[int], crane: list[float]) -> list[Any]:
    return [np.array([pushers]), np.array([[crane]], np.float32)]


def test_what_a_task_says_is_the_spec() -> None:
    spec = PettingZooTask(LiftTask, 1).spec
    pushers, cranes = spec.groups
    assert (spec.name, spec.description, spec.return_range) == ("lift", "Lift the load.", (0.0, 40.0))
    assert (spec.max_steps, spec.has_success, spec.deterministic) == (4, True, True)
    assert (pushers.name, pushers.agents, pushers.n_actions) == ("pushers", ("pusher_0", "pusher_1"), 3)
    assert (cranes.n_actions, cranes.action_bounds, cranes.action_shape) == (0, ((0.0, 4.0), (0.0, 4.0)), (2,))
    assert [group.feature_names() for group in spec.groups] == [["height", "own"], ["height"]]


def test_choices_and_numbers_reach_the_environment_and_come_back_as_features_events_and_success() -> None:
    task = PettingZooTask(LiftTask, 1)
    step = task.step(actions([1, 0], [-1.0, 0.5]))
    move = task.tasks[0].env.moves[-1]
    assert (move["pusher_0"], move["pusher_1"], move["crane"].tolist()) == (1, 0, [0.0, 3.0])
    assert step.reward.tolist() == [4.0]
    assert step.features[0][0].tolist() == [[1, 1], [1, 0]]
    assert step.events[1][0].tolist() == [[0]]
    assert task.step(actions([1, 0], [0, 0])).events[1][0].tolist() == [[1]]
    task.step(actions([1, 0], [0, 0]))
    end = task.step(actions([1, 0], [0, 0]))
    assert (bool(end.terminated[0]), bool(end.success[0])) == (True, True)


def test_a_number_that_is_not_finite_is_the_policys_fault() -> None:
    task = PettingZooTask(LiftTask, 1)
    with pytest.raises(ValueError, match=r"actions of group 'cranes' must be finite numbers.*fix the policy"):
        task.step(actions([1, 0], [np.nan, 0.0]))
    assert task.state_dict()["lengths"].tolist() == [0]


def test_masks_of_living_agents_and_of_those_that_left() -> None:
    task = PettingZooTask(LiftTask, 1)
    step = task.observe()
    assert step.masks is not None
    assert step.masks[0][0].tolist() == [[False, True, True], [True, False, True]]
    assert step.masks[1].shape == (1, 1, 0)
    for _ in range(4):
        step = task.step(actions([1, 0], [0, 0]))
    assert step.last_masks is not None
    assert step.last_masks[0][0].tolist() == [[False, True, True], [True, False, True]]


def test_a_mask_that_allows_nothing_is_told() -> None:
    class Stuck(Lift):
        def _views(self) -> tuple[dict[str, Any], dict[str, Any]]:
            observations, infos = super()._views()
            return observations, infos | {"pusher_0": {"action_mask": [0, 0, 0]}}

    with pytest.raises(ConfigError, match="must allow at least one of 3 actions"):
        PettingZooTask(Stuck, 1)


def test_a_restored_task_continues_with_numbers_as_actions() -> None:
    one, other = PettingZooTask(LiftTask, 1), PettingZooTask(LiftTask, 1)
    one.step(actions([1, 2], [0.1, -0.3]))
    other.load_state_dict(one.state_dict())
    move, again = (task.tasks[0].env.moves[-1]["crane"] for task in (one, other))
    assert move.tobytes() == again.tobytes()
    assert other.step(actions([1, 0], [0, 0])).features[1][0, 0, 0] == 2


def test_an_episode_as_text_names_choices_and_numbers() -> None:
    lines = (
        PettingZooTask(LiftTask, 1).episode_text(0, [np.array([[1, 0]]), np.array([[[0.5, -1.0]]], np.float32)]).lines
    )
    assert lines[0].startswith("step 1: pusher_0 1, pusher_1 0, crane (+0.50, -1.00) -> height 1 | events: none")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"all": ["pusher_0", "pusher_1"]}, "must name every agent once"),
        ({"a": ["pusher_0", "pusher_1"], "b": ["crane", "pusher_0"]}, "must name every agent once"),
        ({"all": ["pusher_0", "pusher_1", "crane"]}, "must have equal spaces"),
    ],
)
def test_groups_that_do_not_fit_are_told(groups: dict[str, list[str]], words: str) -> None:
    class Wrong(LiftTask):
        def groups(self) -> Mapping[str, Sequence[Any]]:
            return groups

    with pytest.raises(ConfigError, match=words):
        PettingZooTask(Wrong, 1)


class Turns(AECEnv):  # type: ignore[misc]
    """Two agents, one after the other; each is paid what it chose."""

    metadata: ClassVar[dict[str, Any]] = {"name": "turns", "is_parallelizable": True}
    action_names = ("none", "left", "right", "lift")

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents, self.render_mode = ["first", "second"], None

    def observation_space(self, agent: str) -> Box:
        return Box(0, 9, (1,))

    def action_space(self, agent: str) -> Discrete:
        return Discrete(4)

    def observe(self, agent: str) -> Any:
        return np.array([self.t], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.t = list(self.possible_agents), 0
        self.rewards, self._cumulative_rewards = (dict.fromkeys(self.agents, 0.0) for _ in range(2))
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.turn = AgentSelector(self.agents)
        self.agent_selection = self.turn.next()

    def step(self, action: int) -> None:
        agent = self.agent_selection
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        self.rewards[agent] = float(action)
        self.t += self.turn.is_last()
        self.agent_selection = self.turn.next()
        self._accumulate_rewards()


def test_an_aec_environment_is_converted() -> None:
    task = PettingZooTask(Turns, 2)
    assert (task.spec.name, task.spec.groups[0].n_actions) == ("turns", 4)
    assert task.spec.groups[0].action_names == ("none", "left", "right", "lift")  # of the environment inside
    step = task.step([np.array([[0, 1], [2, 3]])])
    assert step.reward.tolist() == [1.0, 5.0]
    assert step.obs[0][:, :, 0].tolist() == [[1, 1], [1, 1]]


def test_what_is_no_environment_is_told() -> None:
    class OneAfterTheOther(Turns):
        metadata: ClassVar[dict[str, Any]] = {"name": "turns"}

    with pytest.raises(TypeError, match="a dict"):
        as_task({})
    with pytest.raises(TypeError, match="is_parallelizable"):
        as_task(OneAfterTheOther())


def test_a_task_without_a_success_test_is_not_asked_for_it() -> None:
    class Never(LiftTask):
        has_success = False

        def success(self, infos: Any) -> bool:
            raise AssertionError("asked")

    task = PettingZooTask(Never, 1)
    steps = np.array([[1, 0]] * 4)
    lines = task.episode_text(0, [steps, np.zeros((4, 1, 2), np.float32)]).lines
    assert lines[-1].endswith("| terminated")
    for _ in range(4):
        task.step(actions([1, 0], [0, 0]))


def test_a_task_restored_after_somebody_left_shows_what_was_last_seen_of_it() -> None:
    one, other = (PettingZooTask(Walk, 3) for _ in range(2))
    rng, left = np.random.default_rng(0), False
    for _ in range(60):
        step = one.step([np.where(rng.random((3, 2)) < 0.6, 2, 0)])
        assert step.alive is not None
        left |= bool((~step.alive[0]).any())
        other.load_state_dict(one.state_dict())
        seen = other.observe()
        assert seen.alive is not None
        assert np.array_equal(seen.features[0], step.features[0])
        assert np.array_equal(seen.alive[0], step.alive[0])
    assert left


def test_agents_of_a_group_see_which_of_them_they_are() -> None:
    """Behind what they observe; not in a group of one, and not as features."""
    task = PettingZooTask(LiftTask, 2, agent_ids=True)
    assert [group.obs_size for group in task.spec.groups] == [3, 1]
    task.step([np.array([[1, 0]] * 2), np.zeros((2, 1, 2), np.float32)])
    assert task.observe().obs[0][1].tolist() == [[1, 1, 0], [1, 0, 1]]
    walk = PettingZooTask(Walk, 1, agent_ids=True)
    for _ in range(6):
        step = walk.step([np.array([[2, 0]])])
    assert step.obs[0][0, 0].tolist() == [0, 0, 0, 0]  # one that has left shows nothing
    assert step.obs[0][0, 1, 2:].tolist() == [0, 1]
