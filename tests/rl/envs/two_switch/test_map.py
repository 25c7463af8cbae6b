"""The tables against numbers counted by hand on the map, and against the plain game's own search."""

from __future__ import annotations

import pytest
from cosignal.rl.envs.grid import kernel
from cosignal.rl.envs.grid.map import ACTION_NAMES, FORWARD
from cosignal.rl.envs.two_switch.game import distance, moved, switch_distance
from cosignal.rl.envs.two_switch.map import (
    DOOR,
    GOAL,
    MAP,
    START_CELLS,
    SWITCH_A,
    SWITCH_B,
    distances,
    next_pose_table,
    standing_poses,
)
from cosignal.rl.envs.two_switch.spec import features

EAST, SOUTH, WEST, NORTH = range(4)


def test_the_map_is_the_published_one() -> None:
    assert (SWITCH_A, SWITCH_B, DOOR, GOAL) == ((1, 2), (7, 2), (4, 4), (7, 7))
    assert len(START_CELLS) == 19
    assert len(standing_poses()) == 4 * (19 + 1 + 21)


@pytest.mark.parametrize(
    ("pose", "actions"),
    [
        ((2, 2, WEST), 1),
        ((2, 2, NORTH), 2),
        ((2, 2, EAST), 3),
        ((3, 2, WEST), 2),
        ((1, 1, SOUTH), 1),
        ((1, 3, EAST), 2),
    ],
)
def test_distance_to_switch_a_includes_the_interact_action(pose: tuple[int, int, int], actions: int) -> None:
    assert distances().to_switch_a[MAP.number(*pose)] == actions
    assert switch_distance(pose, 0) == actions


@pytest.mark.parametrize(
    ("pose", "door", "goal"),
    [
        ((4, 4, SOUTH), 0, 7),  # three forward, turn left, three forward
        ((4, 3, SOUTH), 1, 8),
        ((4, 3, EAST), 2, 9),
        ((4, 5, NORTH), 1, 7),  # turn right, three east, turn right, two south
        ((6, 7, EAST), 8, 1),  # to the door: turn left, two north, turn left, two west, turn right, one north
        ((7, 1, EAST), 9, 16),  # two turns, three west, turn left, three (six) south; then turn left, three east
        ((1, 7, WEST), 9, 8),  # to the door: turn right, two north, turn right, three east, turn left, one north
        ((7, 7, NORTH), 8, 0),
    ],
)
def test_distances_to_door_and_goal(pose: tuple[int, int, int], door: int, goal: int) -> None:
    number = MAP.number(*pose)
    assert distances().to_goal[number] == goal
    assert distances().to_door[number] == door


def test_every_table_entry_equals_the_games_own_search() -> None:
    table, next_pose = distances(), next_pose_table()
    for pose in standing_poses():
        number = MAP.number(*pose)
        assert table.to_door[number] == distance(pose, "door", door_open=True)
        assert table.to_goal[number] == distance(pose, "goal", door_open=True)
        for action in range(5):
            for door_open in (0, 1):
                expected = MAP.number(*moved(pose, action, bool(door_open)))
                assert next_pose[door_open, number, action] == expected
        if pose[1] < DOOR[1]:
            assert table.to_switch_a[number] == switch_distance(pose, 0)
            assert table.to_switch_b[number] == switch_distance(pose, 1)


def test_the_closed_door_blocks_and_the_open_one_does_not() -> None:
    front = MAP.number(4, 3, SOUTH)
    assert next_pose_table()[0, front, FORWARD] == front
    assert next_pose_table()[1, front, FORWARD] == MAP.number(4, 4, SOUTH)


def test_feature_bounds_are_the_true_ones() -> None:
    bounds = {spec.name: (spec.low, spec.high) for spec in features()}
    # Farthest from A: (7,1) facing east. Two turns, six west to (1,1), turn left, interact: ten.
    assert bounds["dist_switch_a"] == bounds["dist_switch_b"] == bounds["dist_nearest_open_switch"] == (0, 10)
    assert bounds["dist_goal"] == (0, 16)
    assert bounds["dist_door"] == (0, 9)
    assert bounds["dist_mate"] == (0, 12)
    assert {spec.name: spec.low for spec in features(allow_agent_overlap=False)}["dist_mate"] == 1
    assert bounds["x"] == bounds["y"] == (1, 7)


def test_the_kernel_repeats_the_number_of_actions() -> None:
    """numba's cache on disk is renewed when the kernel's file changes, but not when an imported one does."""
    assert len(ACTION_NAMES) == kernel.N_ACTIONS
