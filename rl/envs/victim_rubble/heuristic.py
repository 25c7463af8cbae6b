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
from .map import BLOCKING, BY_ROLE, RUBBLE, THINGS, VICTIMS, in_chamber, walkable

Cost = Callable[[Pose], int]  # actions left to the sub-goal
GAP: Cell = (7, 1)  # between the middle room and the rubble
_, BLOCKED_VICTIM = VICTIMS


class Scene(NamedTuple):
    """The part of a state that the rules read: both poses, and the bit mask of what is handled."""

    poses: tuple[Pose, Pose]
    flags: int

    def is_handled(self, k: int) -> bool:
        """Return whether thing `k` is handled."""
        return bool(self.flags >> k & 1)


class VictimRubbleHeuristic:
    """The `Heuristic` of Victim-Rubble.

    Args:
        strict_order: whether it is bad to clear the harmless rubble before the blocking one.
    """

    def __init__(self, strict_order: bool = False) -> None:
        self.strict_order = strict_order

    def state(self, env: Any) -> Scene:
        """Copy the part of the environment's episode that the rules read."""
        game: VictimRubbleGame = env.game
        return Scene((game.poses[0], game.poses[1]), game.flags)

    def prefers(self, agent: str, before: Scene, action: int, after: Scene) -> int:
        """Return 1 for handling a thing or coming nearer to the sub-goal, -1 for going away from it.

        It is 0 where the agent has no sub-goal, or is at it, and -1 for rubble out of order where `strict_order`.
        """
        i = AGENTS.index(agent)
        front = ahead(before.poses[i])
        handled = next((k for k in BY_ROLE[i] if THINGS[k] == front and not before.is_handled(k)), None)
        # Handling a thing is good, whatever the sub-goal is.
        if action == INTERACT and handled is not None:
            harmless = handled in RUBBLE and handled not in BLOCKING
            out_of_order = harmless and not all(before.is_handled(other) for other in BLOCKING)
            return -1 if self.strict_order and out_of_order else 1
        cost = _subgoal(i, before)
        # Who has nothing to do, or waits where it should, is not judged.
        if cost is None or cost(before.poses[i]) == 0:
            return 0
        gained = cost(before.poses[i]) - cost(after.poses[i])
        return (gained > 0) - (gained < 0)

    def act(self, agent: str, state: Scene) -> int:
        """Return the first action that brings the sub-goal nearer; interact when only that is missing, else stay."""
        i = AGENTS.index(agent)
        cost, pose = _subgoal(i, state), state.poses[i]
        if cost is None or cost(pose) == 0:
            return STAY
        for action in (FORWARD, TURN_LEFT, TURN_RIGHT):
            if cost(moved(pose, action, partial(walkable, flags=state.flags))) < cost(pose):
                return action
        return INTERACT


def _subgoal(i: int, scene: Scene) -> Cost | None:
    """Return the cost function of an agent's sub-goal; None where nothing is left for it."""
    left = [k for k in BY_ROLE[i] if not scene.is_handled(k)]
    if not left:
        return None
    # Without a path to the blocked victim the medic waits near the gap.
    blocked = i == 0 and left[0] == BLOCKED_VICTIM
    if blocked and thing_distance(scene.poses[i], BLOCKED_VICTIM, scene.flags) is None:
        return partial(_staging_cost, flags=scene.flags)
    return partial(_thing_cost, k=left[0], flags=scene.flags)  # blocking rubble comes first in the order of things


def _thing_cost(pose: Pose, k: int, flags: int) -> int:
    steps = thing_distance(pose, k, flags)
    assert steps is not None  # it is only asked of things that can be reached
    return steps


def _staging_cost(pose: Pose, flags: int) -> int:
    """Return the actions to where the medic waits: cells of the middle room two cells from the gap, not in it."""

    def is_staging(pose: Pose) -> bool:
        return in_chamber(3, pose[:2]) and abs(pose[0] - GAP[0]) + abs(pose[1] - GAP[1]) == 2

    steps = shortest(pose, is_staging, partial(walkable, flags=flags))
    assert steps is not None  # no rubble lies between the medic and the middle room
    return steps
