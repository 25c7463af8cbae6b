"""A hand-written controller for Two-Switch: each agent has a sub-goal and acts greedily towards it.

Used as a yardstick (it solves every episode, in 16.7 steps on average; the joint optimum is 16.6). No training sees it.
"""

from __future__ import annotations

from collections.abc import Callable

from .two_switch_game import Pose, TwoSwitchGame, distance, moved, switch_distance
from .two_switch_map import FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT

Cost = Callable[[Pose], int]  # actions left to the sub-goal


def _to_switch(switch: int) -> Cost:
    return lambda pose: switch_distance(pose, switch)


def _to_door_front(pose: Pose) -> int:
    return distance(pose, "door_front", door_open=False)


def _to_goal(pose: Pose) -> int:
    return distance(pose, "goal", door_open=True)


def _assign_both(green: Pose, orange: Pose) -> tuple[Cost, Cost]:
    """Who takes which switch: least maximum, then least sum, then green takes A."""

    def load(switch: int) -> tuple[int, int]:
        own, mates = switch_distance(green, switch), switch_distance(orange, 1 - switch)
        return max(own, mates), own + mates

    switch = 0 if load(0) <= load(1) else 1
    return _to_switch(switch), _to_switch(1 - switch)


def subgoals(game: TwoSwitchGame) -> tuple[Cost, Cost]:
    """The cost function of green's and orange's sub-goal."""
    green, orange = game.poses
    match [switch for switch in (0, 1) if not game.triggered[switch]]:
        case [_, _]:
            return _assign_both(green, orange)
        case [switch]:
            nearer = switch_distance(green, switch) <= switch_distance(orange, switch)
            return (_to_switch(switch), _to_door_front) if nearer else (_to_door_front, _to_switch(switch))
        case _:
            return _to_goal, _to_goal


def _greedy_action(pose: Pose, cost: Cost, door_open: bool) -> int:
    """The first action that brings the sub-goal nearer; interact when only that is missing, stay when there."""
    now = cost(pose)
    for action in (FORWARD, TURN_LEFT, TURN_RIGHT):
        if cost(moved(pose, action, door_open)) < now:
            return action
    return INTERACT if now > 0 else STAY


def greedy_heuristic(game: TwoSwitchGame) -> tuple[int, int]:
    """The actions of green and orange; a pure function of the state. Meant for agents that may share a cell."""
    green, orange = subgoals(game)
    return (
        _greedy_action(game.poses[0], green, game.door_open),
        _greedy_action(game.poses[1], orange, game.door_open),
    )
