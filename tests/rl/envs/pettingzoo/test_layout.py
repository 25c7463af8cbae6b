"""What an environment declares about itself, and what is no declaration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.envs.adapter import Task
from cosignal.rl.envs.pettingzoo.layout import read_layout
from cosignal.rl.task import TaskSpec
from faulty_envs import Faulty
from gymnasium.spaces import Box, Discrete
from pydantic import ValidationError

INF, NAN = float("inf"), float("nan")


def spec(**declared: Any) -> Any:
    env = Faulty()
    for name, value in declared.items():
        setattr(env, name, value)
    return read_layout(Task(env)).spec


@pytest.mark.parametrize("limit", [INF, -INF, NAN, 20.5, -3, 0, "20", True, [20]])
def test_a_time_limit_is_a_number_of_steps(limit: Any) -> None:
    with pytest.raises(ConfigError, match="max_steps must be a whole number of steps.*'faulty' declares"):
        spec(max_steps=limit)


@pytest.mark.parametrize("limit", [20, 20.0, np.int32(20)])
def test_a_whole_number_of_any_type_is_a_time_limit(limit: Any) -> None:
    assert spec(max_steps=limit).max_steps == 20
    assert spec(max_steps=None).max_steps is None


@pytest.mark.parametrize(
    "bounds",
    [(0, 10**400), (1, 0), (1, 1), (NAN, 1), (-INF, 0), (0, INF), (1,), (0, 1, 2), 5, (None, 1), "01", ("a", "b")],
)
def test_a_range_of_returns_is_two_finite_numbers_in_order(bounds: Any) -> None:
    with pytest.raises(ConfigError, match=r"return_range must be \(worst, best\).*'faulty' declares"):
        spec(return_range=bounds)


def test_two_numbers_of_any_type_are_a_range_of_returns() -> None:
    assert spec(return_range=np.array([0, 2.5])).return_range == (0.0, 2.5)


@pytest.mark.parametrize("agents", [[], None, "ab", ["a", "b", "a"], 2])
def test_agents_have_names_of_their_own(agents: Any) -> None:
    with pytest.raises(ConfigError, match="must name its agents in possible_agents, each once, 'faulty' has"):
        spec(possible_agents=agents)


SPEED = {"name": "speed", "kind": "quantity", "low": 0, "high": 9}


@pytest.mark.parametrize("bound", ["low", "high"])
@pytest.mark.parametrize("value", [INF, -INF, NAN, np.float32(INF), 10**400, "inf", None])
def test_a_bound_of_a_feature_is_a_finite_number(bound: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"agent 'b' has a bad entry .{bound}: must be a finite number in 'speed'"):
        spec(feature_specs={"a": [SPEED], "b": [SPEED | {bound: value}]})


def test_a_distance_may_be_done_and_the_spec_keeps_that() -> None:
    class Sees(Task):
        def features(self, agent: Any, info: Any) -> dict[str, float]:
            return {"near": 3, "speed": 1}

    env, near = Faulty(), {"name": "near", "kind": "distance", "low": 0, "high": 9, "done": 0}
    env.feature_specs = {"a": [near, SPEED], "b": [near, SPEED]}
    found = read_layout(Sees(env)).spec
    assert [feature.done for feature in found.groups[0].features] == [0, None]
    assert TaskSpec.model_validate(found.model_dump()) == found  # as a worker process sends it


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"done": 10}, "done must be a value of a feature of kind distance, between its low and high; 'near' is"),
        ({"kind": "count"}, "'near' is a count from 0 to 9 with done 0; correct it or leave it out"),
        (
            {"name": "nearest"},
            "name: a feature must not be named like a word of term expressions, 'nearest' is; rename",
        ),
        ({"name": "not"}, "'not' is; rename it"),
    ],
)
def test_a_feature_that_expressions_could_not_read_is_refused(wrong: dict[str, Any], message: str) -> None:
    near = {"name": "near", "kind": "distance", "low": 0, "high": 9, "done": 0}
    with pytest.raises(ConfigError, match=f"agent 'b' has a bad entry .*{message}"):
        spec(feature_specs={"a": [near], "b": [near | wrong]})


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_the_reward_of_an_event_is_a_finite_number(value: float) -> None:
    with pytest.raises(ConfigError, match="agent 'a' has a bad entry .reward: must be a finite number in 'rang'"):
        spec(event_specs={"a": [{"name": "rang", "reward": value}], "b": []})


def test_numbers_of_a_spec_are_finite() -> None:
    """So that it is the same after it was sent as JSON."""
    found = spec()
    assert TaskSpec.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="finite"):
        TaskSpec(name="t", description="", groups=(), return_range=(0, INF))


def test_a_component_whose_bounds_are_infinite_on_the_wrong_side_is_an_open_one() -> None:
    class Beyond(Faulty):
        def observation_space(self, agent: str) -> Box:
            return Box(np.array([INF, -INF], np.float32), np.array([INF, -INF], np.float32))

    features = read_layout(Task(Beyond())).spec.groups[0].features
    assert [(feature.low, feature.high) for feature in features] == [(-10, 10), (-10, 10)]


FLAGS = ["has_masks", "has_success", "deterministic"]


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["no", "False", 1.5, NAN, 2, [], np.array([True, False]), lambda: False])
def test_a_declared_flag_is_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be True or False, 'faulty' declares"):
        spec(**{name: value})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [False, True])
def test_a_declared_flag_of_numpy_is_one(name: str, value: bool) -> None:
    for given in (value, np.bool_(value), np.array(value), int(value)):
        assert getattr(spec(**{name: given}), name) is value


def test_a_mask_against_a_promise_of_numpy_is_refused() -> None:
    class Masking(Faulty):
        has_masks = np.False_

        def _told(self) -> Any:
            seen, infos = super()._told()
            infos["b"]["action_mask"] = [0, 2, 5]
            return seen, infos

    with pytest.raises(ConfigError, match="has declared has_masks = False, but gave agent 'b' an action mask"):
        read_layout(Task(Masking()))


@pytest.mark.parametrize("stay", [99, 3, -1, 1.5, NAN, INF, "no", "1", True, np.True_, [1], np.array([0, 1])])
def test_staying_is_one_of_the_choices(stay: Any) -> None:
    with pytest.raises(ConfigError, match=r"stay must be one of the choices 0\.\.2, 'faulty' declares") as told:
        spec(stay=stay)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("stay", [2, 2.0, np.int64(2)])
def test_a_choice_of_any_type_is_one_to_stay(stay: Any) -> None:
    assert spec(stay=stay).groups[0].stay == 2


def test_only_a_group_with_that_many_choices_has_the_one_to_stay() -> None:
    class Unequal(Faulty):
        stay = 3

        def action_space(self, agent: str) -> Any:
            return Discrete(5) if agent == "a" else Discrete(3)

    class Moved(Faulty):
        stay = 0

        def action_space(self, agent: str) -> Any:
            return Box(0, 1, (2,))

    assert [group.stay for group in read_layout(Task(Unequal())).spec.groups] == [3, None]
    with pytest.raises(ConfigError, match="stay must be left out where actions are numbers in a Box"):
        read_layout(Task(Moved()))
