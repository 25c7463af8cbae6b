"""What an environment declares about itself, and what is no declaration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.envs.adapter import Task
from cosignal.rl.envs.pettingzoo.layout import read_layout
from faulty_envs import Faulty

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
    "bounds", [(1, 0), (1, 1), (NAN, 1), (-INF, 0), (0, INF), (1,), (0, 1, 2), 5, (None, 1), "01", ("a", "b")]
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
