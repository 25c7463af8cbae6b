"""Which spaces become rows of numbers and choices, and what an environment then gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.envs.pettingzoo.spaces import read_actions, read_observations
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple, flatten


@pytest.mark.parametrize(
    ("space", "observed", "row"),
    [
        (Box(0, 1, (2,)), np.array([0.25, 0.5], np.float32), [0.25, 0.5]),
        (Box(0, 255, (2, 2), np.uint8), np.array([[1, 2], [3, 4]], np.uint8), [1, 2, 3, 4]),
        (Discrete(3, start=5), 6, [0, 1, 0]),
        (MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
        (Box(0, 255, (1, 2, 1), np.uint8), np.array([[[51], [255]]], np.uint8), [np.float32(0.2), 1.0]),
        (
            Dict({"b": Discrete(2), "a": Tuple((Box(0, 9, (1, 1)), Discrete(2)))}),
            {"b": 1, "a": ([[7.0]], 0)},
            [7, 1, 0, 0, 1],
        ),
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


def test_dicts_and_tuples_are_flattened_as_gymnasium_does() -> None:
    space = Dict({"z": Tuple((Discrete(3), Dict({"y": MultiBinary(2)}))), "a": Box(-1, 1, (2, 2)), "m": Discrete(2)})
    space.seed(1)
    found = read_observations("a", space)
    assert len(found.bounds) == 3 + 2 + 4 + 2
    for _ in range(20):
        seen = space.sample()
        assert np.allclose(found.flat(seen), flatten(space, seen))


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


@pytest.mark.parametrize(("dtype", "middle"), [(np.float32, 0.5), (np.int64, 1)])
def test_a_box_without_dimensions_takes_one_number(dtype: Any, middle: float) -> None:
    box = Box(0, 1, (), dtype)
    space = read_actions("a", box)
    assert (space.width, space.bounds) == (1, ((0, 1),))
    for number, expected in ((-1.0, 0), (0.0, middle), (1.0, 1)):
        action = space.action([number])
        assert (action.shape, action.dtype, action.item()) == ((), dtype, expected)
        assert box.contains(action)


@pytest.mark.parametrize(
    ("space", "observed", "words"),
    [
        (Box(0, 1, (2,)), np.zeros(3), r"\(3,\), its space says \(2,\)"),
        (Box(0, 1, (2, 2)), np.zeros(4), r"\(4,\), its space says \(2, 2\)"),
        (Box(0, 1, (2,)), None, "None, its space says numbers"),
        (Box(0, 1, (2,)), ["0.5", "1"], r"a list of 2 \(str, str\), its space says numbers"),
        (Box(0, 1, (2,)), np.array([1j, 0]), "complex128"),
        (Box(0, 1, (2,)), [[1, 2], [3]], r"^a list of 2 \(list, list\), its space says numbers$"),
        (Discrete(3), 3, r"3, its space says Discrete\(3\)"),
        (Discrete(3, start=1), 0, "0, its space says"),
        (Discrete(3), 1.0, "1.0, its space says"),
        (MultiDiscrete([2, 3]), [2, 0], r"\[2, 0\], its space says"),
        (MultiDiscrete([2, 3], start=[1, 1]), [0, 1], r"\[0, 1\], its space says"),
        (MultiBinary(3), [1, 0], r"\(2,\), its space says"),
        (Dict({"observation": Box(0, 1, (2,)), "action_mask": MultiBinary(4)}), np.zeros(2), "says a dict of"),
        (Dict({"observation": Box(0, 1, (2,)), "action_mask": MultiBinary(4)}), {"observation": None}, "None"),
        (Dict({"a": Discrete(2)}), {"b": 1}, "a dict of 'b', its space says a dict with 'a'"),
        (Tuple((Discrete(2), Discrete(2))), (1,), r"a list of 1|a tuple of 1 .*its space says a tuple of at least 2"),
    ],
)
def test_what_is_not_of_the_space_is_told(space: Space[Any], observed: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_observations("a", space).flat(observed)


def test_a_list_and_another_dtype_are_numbers_too() -> None:
    assert read_observations("a", Box(0, 1, (2,))).flat([0, True]).tolist() == [0, 1]
    assert read_observations("a", Discrete(3)).flat(np.array([2], np.uint8)).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (["yes", "no"], r"a list of 2 \(str, str\)"),
        ([0, -np.inf, -np.inf], r"^\[0.0, -inf, -inf\]$"),
        (np.array([1, np.nan]), r"^\[1.0, nan\]$"),
        ([0, 2, 5], r"^\[0, 2, 5\]$"),
        (np.array([1, -1], np.int8), r"^\[1, -1\]$"),
        ([[1], [1, 0]], r"a list of 2 \(list, list\)"),
    ],
)
def test_a_mask_of_anything_but_0_and_1_is_told(mask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_observations("a", Box(0, 1, (2,))).mask(np.zeros(2), {"action_mask": mask})


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float32])
def test_a_mask_holds_0_or_1_of_any_type(dtype: Any) -> None:
    found = read_observations("a", Box(0, 1, (2,)))
    assert mask_of(found.mask(np.zeros(2), {"action_mask": np.array([0, 1, 1], dtype)})) == [False, True, True]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1, 1, np.int64),
        (0, 3, np.uint8),
        (-128, 127, np.int8),
        (0, 1, np.bool_),
        (5, 5, np.int32),
        (np.array([0, -5]), np.array([1, 5]), np.int32),
    ],
)
def test_every_integer_of_a_box_has_an_equal_part_of_what_policies_give(low: Any, high: Any, dtype: Any) -> None:
    box = Box(low, high, np.shape(low) or (1,), dtype)
    space, n = read_actions("a", box), 4096
    # The middles of n equal parts of -1..1.
    found = np.array([space.action([x] * space.width) for x in (2 * np.arange(n) + 1) / n - 1])
    assert found.dtype == dtype and all(box.contains(action) for action in found)
    for k in range(space.width):
        numbers, counts = np.unique(found[:, k], return_counts=True)
        assert numbers.tolist() == list(range(int(box.low[k]), int(box.high[k]) + 1))
        assert counts.max() - counts.min() <= 1
    for end, bound in ((-1.0, box.low), (1.0, box.high), (-7.0, box.low), (7.0, box.high)):
        assert space.action([end] * space.width).tolist() == bound.tolist()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32])
def test_the_largest_boxes_of_integers_are_filled(dtype: Any) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    box = Box(low, high, (1,), dtype)
    space = read_actions("a", box)
    for x, expected in ((-1.0, low), (1.0, high), (0.0, (low + high + 1) // 2)):
        action = space.action([x])
        assert (action.dtype, action.tolist(), box.contains(action)) == (dtype, [expected], True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.3), (-0.1, 0.7), (-65504, 65504), (2, 2)])
def test_an_action_lies_in_its_box_of_floats(low: float, high: float, dtype: Any) -> None:
    box = Box(np.array([low], dtype), np.array([high], dtype), dtype=dtype)
    space = read_actions("a", box)
    for x in (-1.0, -0.3, 0.0, 0.7, np.nextafter(1, 0), 1.0, 9.0):
        action = space.action([x])
        assert action.dtype == dtype and box.contains(action)
    assert space.action([-1.0]) == box.low and space.action([1.0]) == box.high


def test_what_has_an_open_end_is_refused_with_a_remedy() -> None:
    largest = np.finfo(np.float64).max
    boxes = (
        Box(0, np.inf, (1,), np.int64),
        Box(-np.inf, 0, (1,)),
        Box(np.array([0, -np.inf], np.float32), np.ones(2, np.float32)),
        Box(-largest, largest, (1,), np.float64),
    )
    for space in (*boxes, MultiBinary(3), MultiDiscrete([3, 4], start=[1, 1])):
        with pytest.raises(ConfigError, match="bounds on the Box"):
            read_actions("a", space)
