"""Which spaces become rows of numbers and choices, and what an environment then gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.envs.pettingzoo.layout import read_actions, read_observations
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space


@pytest.mark.parametrize(
    ("space", "observed", "row"),
    [
        (Box(0, 1, (2,)), np.array([0.25, 0.5], np.float32), [0.25, 0.5]),
        (Box(0, 255, (2, 2), np.uint8), np.array([[1, 2], [3, 4]], np.uint8), [1, 2, 3, 4]),
        (Discrete(3, start=5), 6, [0, 1, 0]),
        (MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
    ],
)
def test_observations_are_rows_of_numbers(space: Space[Any], observed: Any, row: list[float]) -> None:
    found = read_observations("a", space)
    assert np.asarray(found.flat(observed)).tolist() == row
    assert len(found.bounds) == len(row)
    masked = read_observations("a", Dict({"observation": space, "action_mask": MultiBinary(4)}))
    together = {"observation": observed, "action_mask": np.array([1, 0, 0, 1], np.int8)}
    assert np.asarray(masked.flat(together)).tolist() == row
    assert mask_of(masked.mask(together, {})) == [True, False, False, True]


def mask_of(mask: Any) -> list[bool]:
    assert mask.dtype == np.bool_
    found: list[bool] = mask.tolist()
    return found


def test_a_mask_may_come_in_the_infos() -> None:
    found = read_observations("a", Box(0, 1, (2,)))
    assert found.mask(np.zeros(2), {}) is None
    assert mask_of(found.mask(np.zeros(2), {"action_mask": np.array([0, 1, 1])})) == [False, True, True]


def test_a_choice_counts_from_the_spaces_start() -> None:
    space = read_actions("a", Discrete(3, start=-1))
    assert [space.action(np.array([k])) for k in range(3)] == [-1, 0, 1]
    assert space.probe(np.array([True, True, True])) == 0
    assert space.probe(np.array([False, False, True])) == 1
    assert space.probe(np.array([True, False, False])) == -1


def test_numbers_fill_the_bounds_of_a_box_and_are_clipped_to_them() -> None:
    box = Box(np.array([[0, -2]], np.float32), np.array([[1, 2]], np.float32))
    space = read_actions("a", box)
    assert (space.width, space.bounds) == (2, ((0.0, 1.0), (-2.0, 2.0)))
    for row, expected in (([-1, -1], [[0, -2]]), ([0, 0.5], [[0.5, 1]]), ([7, -9], [[1, -2]])):
        action = space.action(np.array(row, np.float64))
        assert action.tolist() == expected
        assert box.contains(action)
