"""A hand-written judge and controller for Victim-Rubble, by the rules of LCA's human heuristic (Lin et al., arXiv
2502.03723): green always saves the accessible victim first, orange always clears first what blocks the way.

As a controller it solves every episode, in 28.0 steps on average, which is the joint optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..grid.game import moved, shortest
from ..grid.map import AGENTS, FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT, Cell, Pose, ahead
from .game import VictimRubbleGame, thing_distance
from .map import BLOCKING, BY_ROLE, RUBBLE, THINGS, in_chamber, walkable

Cost = Callable[[Pose], int]  # actions left to the sub-goal
GAP: Cell = (7, 1)  # between the middle room and the rubble
FREE_VICTIM, BLOCKED_VICTIM = 0, 1


def _is_staging(cell: Cell) -> bool:
    """Where the medic waits for the way to be cleared: near the gap, not in it."""
    return in_chamber(3, cell) and abs(cell[0] - GAP[0]) + abs(cell[1] - GAP[1]) == 2


class Scene(NamedTuple):
    """What the rules look at. `flags`: bit mask of what is handled."""

    poses: tuple[Pose, Pose]
    flags: int

    def is_handled(self, k: int) -> bool:
        return bool(self.flags >> k & 1)


class VictimRubbleHeuristic:
    """The `Heuristic` of Victim-Rubble. `strict_order`: clearing the harmless rubble before the blocking one is bad."""

    def __init__(self, strict_order: bool = False) -> None:
        self.strict_order = strict_order

    def state(self, env: Any) -> Scene:
        game: VictimRubbleGame = env.game
        return Scene((game.poses[0], game.poses[1]), game.flags)

    def prefers(self, agent: str, before: Scene, action: int, after: Scene) -> int:
        """1 for handling a thing or coming nearer to the sub-goal, -1 for going away from it; 0 where there is none."""
        i = AGENTS.index(agent)
        handled = _faced_thing(i, before) if action == INTERACT else None
        if handled is not None:
            return -1 if self._out_of_order(handled, before) else 1
        cost = _subgoal(i, before)
        if cost is None or cost(before.poses[i]) == 0:
            return 0
        gained = cost(before.poses[i]) - cost(after.poses[i])
        return (gained > 0) - (gained < 0)

    def _out_of_order(self, k: int, scene: Scene) -> bool:
        harmless = k in RUBBLE and k not in BLOCKING
        return self.strict_order and harmless and not all(scene.is_handled(other) for other in BLOCKING)

    def act(self, agent: str, state: Scene) -> int:
        """The first action that brings the sub-goal nearer; interact when only that is missing, else stay."""
        i = AGENTS.index(agent)
        cost, pose = _subgoal(i, state), state.poses[i]
        if cost is None or cost(pose) == 0:
            return STAY
        for action in (FORWARD, TURN_LEFT, TURN_RIGHT):
            if cost(moved(pose, action, partial(walkable, flags=state.flags))) < cost(pose):
                return action
        return INTERACT


def _faced_thing(i: int, scene: Scene) -> int | None:
    """What agent i would handle by interacting."""
    front = ahead(scene.poses[i])
    return next((k for k in BY_ROLE[i] if THINGS[k] == front and not scene.is_handled(k)), None)


def _subgoal(i: int, scene: Scene) -> Cost | None:
    """The cost function of an agent's sub-goal; None where nothing is left for it."""
    left = [k for k in BY_ROLE[i] if not scene.is_handled(k)]
    if not left:
        return None
    if i == 1:
        return _to_thing(left[0], scene.flags)  # blocking rubble comes first in the order of things
    if left[0] == BLOCKED_VICTIM and thing_distance(scene.poses[i], BLOCKED_VICTIM, scene.flags) is None:
        return _to_staging(scene.flags)
    return _to_thing(left[0], scene.flags)


def _to_thing(k: int, flags: int) -> Cost:
    def cost(pose: Pose) -> int:
        steps = thing_distance(pose, k, flags)
        assert steps is not None  # of reachable things only
        return steps

    return cost


def _to_staging(flags: int) -> Cost:
    def cost(pose: Pose) -> int:
        steps = shortest(pose, lambda p: _is_staging(p[:2]), partial(walkable, flags=flags))
        assert steps is not None  # no rubble lies between the medic and the middle room
        return steps

    return cost
