"""A hand-written judge and controller for Two-Switch: each agent has a sub-goal, and moves towards it are good.

The rules are those of LCA's human heuristic (Lin et al., arXiv 2502.03723). As a controller it solves every episode, in
16.7 steps on average; the joint optimum is 16.6. It takes no part in training, but where a config asks for it as an
oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..grid.map import AGENTS, FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT, Pose, ahead
from .game import TwoSwitchGame, distance, moved, switch_distance
from .map import SWITCH_A, SWITCH_B

Cost = Callable[[Pose], int]  # actions left to the sub-goal


class Scene(NamedTuple):
    """The part of a state that the rules read: both poses, and whether switches A and B are triggered."""

    poses: tuple[Pose, Pose]
    triggered: tuple[bool, bool]

    @property
    def door_open(self) -> bool:
        return all(self.triggered)


def scene_of(game: TwoSwitchGame) -> Scene:
    """Copy the part of a game that the rules read."""
    return Scene((game.poses[0], game.poses[1]), (game.triggered[0], game.triggered[1]))


def _to_switch(switch: int) -> Cost:
    return lambda pose: switch_distance(pose, switch)


def _to_door_front(pose: Pose) -> int:
    return distance(pose, "door_front", door_open=False)


def _to_goal(pose: Pose) -> int:
    return distance(pose, "goal", door_open=True)


def subgoals(scene: Scene) -> tuple[Cost, Cost]:
    """Return the cost functions of green's and orange's sub-goals."""
    green, orange = scene.poses
    match [switch for switch in (0, 1) if not scene.triggered[switch]]:
        case [_, _]:
            # The switch that green takes: least maximum of both distances, then least sum, then A.
            pairs = [(switch_distance(green, switch), switch_distance(orange, 1 - switch)) for switch in (0, 1)]
            loads = [(max(pair), sum(pair)) for pair in pairs]
            switch = 0 if loads[0] <= loads[1] else 1
            return _to_switch(switch), _to_switch(1 - switch)
        # Who is nearer takes the last switch (green on a tie); the other waits in front of the door.
        case [switch]:
            nearer = switch_distance(green, switch) <= switch_distance(orange, switch)
            return (_to_switch(switch), _to_door_front) if nearer else (_to_door_front, _to_switch(switch))
        case _:
            return _to_goal, _to_goal


class TwoSwitchHeuristic:
    """The `Heuristic` of Two-Switch."""

    def state(self, env: Any) -> Scene:
        """Copy the part of the environment's episode that the rules read."""
        return scene_of(env.game)

    def prefers(self, agent: str, before: Scene, action: int, after: Scene) -> int:
        """Return 1 for triggering a switch or coming nearer to the sub-goal, -1 for going away from it, else 0."""
        i = AGENTS.index(agent)
        # Triggering any switch is good, also the one that the mate was to take.
        untriggered = [cell for cell, on in zip((SWITCH_A, SWITCH_B), before.triggered, strict=True) if not on]
        if action == INTERACT and ahead(before.poses[i]) in untriggered:
            return 1
        cost = subgoals(before)[i]
        gained = cost(before.poses[i]) - cost(after.poses[i])
        return (gained > 0) - (gained < 0)

    def act(self, agent: str, state: Scene) -> int:
        """Return the first action that brings the sub-goal nearer; interact when only that is missing, else stay."""
        i = AGENTS.index(agent)
        pose, cost = state.poses[i], subgoals(state)[i]
        # One action is looked ahead.
        now = cost(pose)
        for action in (FORWARD, TURN_LEFT, TURN_RIGHT):
            if cost(moved(pose, action, state.door_open)) < now:
                return action
        return INTERACT if now > 0 else STAY


def greedy_heuristic(game: TwoSwitchGame) -> tuple[int, int]:
    """Return the actions of green and orange, a pure function of the state. Meant for agents that may share a cell."""
    scene, heuristic = scene_of(game), TwoSwitchHeuristic()
    return heuristic.act(AGENTS[0], scene), heuristic.act(AGENTS[1], scene)
