"""Scenes of Two-Switch set up and reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.rl.envs.grid.game import play
from cosignal.rl.envs.grid.map import FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT, Pose
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.map import START_CELLS

EAST, SOUTH, WEST, NORTH = range(4)


def scene(green: Pose, orange: Pose, triggered: tuple[bool, bool] = (False, False), **options: object) -> TwoSwitchGame:
    game = TwoSwitchGame(seed=0, **options)  # type: ignore[arg-type]
    game.poses, game.triggered = [green, orange], list(triggered)
    return game


def test_starts_are_distinct_cells_of_the_upper_room() -> None:
    poses = [TwoSwitchGame(seed).poses for seed in range(300)]
    assert all(green[:2] != orange[:2] for green, orange in poses)
    assert {pose[:2] for pair in poses for pose in pair} == set(START_CELLS)
    assert {pose[2] for pair in poses for pose in pair} == {0, 1, 2, 3}


def test_a_switch_is_triggered_only_by_one_who_faces_it() -> None:
    game = scene((2, 2, NORTH), (5, 1, EAST))
    assert game.step((INTERACT, STAY)).events[0]["switch_triggered"] == 0
    game.step((TURN_LEFT, STAY))
    outcome = game.step((INTERACT, STAY))
    assert outcome.events == ({"switch_triggered": 1, "goal_reached": 0}, {"switch_triggered": 0, "goal_reached": 0})
    assert outcome.reward == pytest.approx(1 - 0.01)
    assert (game.triggered, game.handled_by) == ([True, False], [1, 0])


def test_a_triggered_switch_gives_nothing_more_and_still_blocks() -> None:
    game = scene((2, 2, WEST), (5, 1, EAST), (True, False))
    outcome = game.step((INTERACT, STAY))
    assert outcome.reward == pytest.approx(-0.01)
    game.step((FORWARD, STAY))
    assert game.poses[0] == (2, 2, WEST)


def test_both_interacting_with_one_switch_is_one_event() -> None:
    credited = set()
    for seed in range(20):
        game = scene((1, 1, SOUTH), (1, 3, NORTH))
        game.stream = TwoSwitchGame(seed).stream
        events = game.step((INTERACT, INTERACT)).events
        assert events[0]["switch_triggered"] + events[1]["switch_triggered"] == 1
        credited.add(events[0]["switch_triggered"])
    assert credited == {0, 1}  # by the random order


def test_the_door_opens_when_both_switches_are_triggered() -> None:
    game = scene((4, 3, SOUTH), (6, 2, EAST), (True, False))
    game.step((FORWARD, STAY))
    assert game.poses[0] == (4, 3, SOUTH)
    assert not game.door_open
    game.step((STAY, INTERACT))
    assert game.door_open
    game.step((FORWARD, STAY))
    assert game.poses[0] == (4, 4, SOUTH)


def test_one_agent_can_do_everything_alone() -> None:
    game = scene((2, 2, WEST), (7, 3, SOUTH))
    turn_around, west_to_east = [TURN_RIGHT, TURN_RIGHT], [FORWARD] * 4
    to_door = [TURN_RIGHT, TURN_RIGHT, FORWARD, FORWARD, TURN_LEFT, FORWARD, FORWARD]
    to_goal = [FORWARD] * 3 + [TURN_LEFT] + [FORWARD] * 3
    path = [INTERACT, *turn_around, *west_to_east, INTERACT, *to_door, *to_goal]
    outcomes = [game.step((action, STAY)) for action in path]
    assert outcomes[-1].terminated
    assert not any(outcome.terminated for outcome in outcomes[:-1])
    assert sum(outcome.reward for outcome in outcomes) == pytest.approx(4 - len(path) / 100)
    assert game.handled_by == [2, 0]


def test_arriving_together_is_credited_once() -> None:
    credited = set()
    for seed in range(20):
        game = scene((6, 7, EAST), (7, 6, SOUTH), (True, True))
        game.stream = TwoSwitchGame(seed).stream
        outcome = game.step((FORWARD, FORWARD))
        assert outcome.events[0]["goal_reached"] + outcome.events[1]["goal_reached"] == 1
        assert game.poses[0][:2] == game.poses[1][:2] == (7, 7)
        assert outcome.reward == pytest.approx(2 - 0.01)
        credited.add(outcome.events[0]["goal_reached"])
    assert credited == {0, 1}


def test_without_overlap_one_arrives_and_the_other_is_blocked() -> None:
    game = scene((6, 7, EAST), (7, 6, SOUTH), (True, True), allow_agent_overlap=False)
    game.step((FORWARD, FORWARD))
    assert sorted(pose[:2] == (7, 7) for pose in game.poses) == [False, True]


def test_without_overlap_an_agent_blocks_a_cell_but_not_a_turn() -> None:
    game = scene((3, 1, EAST), (4, 1, WEST), allow_agent_overlap=False)
    game.step((FORWARD, TURN_LEFT))
    assert game.poses == [(3, 1, EAST), (4, 1, SOUTH)]
    overlapping = scene((3, 1, EAST), (4, 1, WEST))
    overlapping.step((FORWARD, STAY))
    assert overlapping.poses[0] == (4, 1, EAST)


def test_the_time_limit_truncates() -> None:
    game = scene((2, 2, EAST), (5, 1, EAST), n_max=3)
    ends = [game.step((STAY, STAY)) for _ in range(3)]
    assert [outcome.truncated for outcome in ends] == [False, False, True]
    assert not any(outcome.terminated for outcome in ends)
    assert sum(outcome.reward for outcome in ends) == pytest.approx(-1)


def test_the_goal_on_the_last_step_terminates_and_does_not_truncate() -> None:
    outcome = scene((6, 7, EAST), (4, 5, SOUTH), (True, True), n_max=1).step((FORWARD, STAY))
    assert (outcome.terminated, outcome.truncated) == (True, False)
    assert outcome.reward == pytest.approx(1 + 1 - 1)


def test_observation_by_hand() -> None:
    game = scene((2, 2, WEST), (5, 1, EAST), (False, True))
    expected = [2 / 9, 2 / 9, 0, 0, 1, 0, 5 / 9, 1 / 9, 1, 0, 0, 0, 0, 1, -1 / 9, 0, 5 / 9, 0, 5 / 9, 5 / 9]
    np.testing.assert_array_equal(game.observation(0), np.array(expected, dtype=np.float32))
    assert game.observation(1)[:2].tolist() == game.observation(0)[6:8].tolist()


def test_features_by_hand() -> None:
    game = scene((2, 2, WEST), (4, 3, EAST), (False, True))
    game.handled_by = [0, 1]
    assert game.features(0) == {
        "dist_nearest_open_switch": 1,
        "dist_switch_a": 1,
        "dist_switch_b": 0,
        "dist_door": 7,  # turn left, one south, turn left, two east, turn right: (4,3) facing south; one more
        "dist_goal": 7 + 7,
        "dist_mate": 3,
        "x": 2,
        "y": 2,
        "heading": WEST,
        "switches_triggered": 1,
        "own_triggered": 0,
        "door_open": 0,
    }
    assert game.features(1)["own_triggered"] == 1


def test_an_action_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="5"):
        TwoSwitchGame(0).step((5, 0))


def test_the_text_has_a_line_a_step_and_stops_at_the_end() -> None:
    game = scene((6, 7, NORTH), (5, 6, EAST), (True, True))
    lines = play(game, [(TURN_RIGHT, STAY), (FORWARD, TURN_LEFT), (STAY, STAY)]).lines
    assert lines == [
        "step 1: green turn_right, orange stay -> green at (6,7) facing east; orange at (5,6) facing east;"
        " switches A on, B on; door open | events: none | team reward -0.010",
        "step 2: green forward, orange turn_left -> green at (7,7) facing east; orange at (5,6) facing north;"
        " switches A on, B on; door open | events: green goal_reached | team reward +1.990 | success",
    ]
