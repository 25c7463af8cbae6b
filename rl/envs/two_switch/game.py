"""Two-Switch in plain Python, see `grid.game`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import ClassVar, Literal

import numpy as np

from ...task import FloatArray
from ..grid.game import GridGame, shortest
from ..grid.game import moved as moved_on
from ..grid.map import HEADINGS, Cell, GridMap, Pose, ahead, pose_numbers, relative
from .map import DOOR, FEATURE_NAMES, GOAL, MAP, OBJECTS, START_CELLS, SWITCH_A, SWITCH_B, walkable

Target = Literal["face_a", "face_b", "door", "goal", "door_front"]

_IS_AT: Mapping[Target, Callable[[Pose], bool]] = {
    "face_a": lambda pose: ahead(pose) == SWITCH_A,
    "face_b": lambda pose: ahead(pose) == SWITCH_B,
    "door": lambda pose: pose[:2] == DOOR,
    "goal": lambda pose: pose[:2] == GOAL,
    "door_front": lambda pose: pose == (DOOR[0], DOOR[1] - 1, HEADINGS.index("south")),
}


def moved(pose: Pose, action: int, door_open: bool) -> Pose:
    """Return the pose after an action, other agents ignored."""
    return moved_on(pose, action, lambda x, y: walkable(x, y, door_open))


@cache
def distance(pose: Pose, target: Target, door_open: bool) -> int:
    """Return the fewest turns and moves from `pose` to a target, breadth first.

    Raises:
        ValueError: the target cannot be reached.
    """
    steps = shortest(pose, _IS_AT[target], lambda x, y: walkable(x, y, door_open))
    if steps is None:
        raise ValueError(f"a target must be reachable, {target!r} is not from {pose!r} (door open: {door_open})")
    return steps


def switch_distance(pose: Pose, switch: int) -> int:
    """Return the actions until switch 0 (A) or 1 (B) is triggered, the interact action included."""
    target: Target = "face_b" if switch else "face_a"
    return distance(pose, target, door_open=False) + 1


class TwoSwitchGame(GridGame):
    """One episode of Two-Switch."""

    grid: ClassVar[GridMap] = MAP
    signs: ClassVar[str] = "# wall, . floor, A and B switches (a and b: triggered), D door (/: open), G goal"
    start_cells: ClassVar[tuple[Cell, ...]] = START_CELLS
    event_names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (("switch_triggered", "goal_reached"),) * 2

    def __init__(self, seed: int, n_max: int = 100, allow_agent_overlap: bool = True) -> None:
        super().__init__(seed, n_max, allow_agent_overlap)
        self.triggered = [False, False]  # A, B
        self.home = False  # whether an agent has stepped on the goal

    @property
    def door_open(self) -> bool:
        return all(self.triggered)

    def walkable(self, x: int, y: int) -> bool:
        return walkable(x, y, self.door_open)

    def handle(self, i: int, cell: Cell) -> str | None:  # noqa: ARG002 both agents may
        # A switch is triggered once and for good.
        for switch, place in enumerate((SWITCH_A, SWITCH_B)):
            if cell == place and not self.triggered[switch]:
                self.triggered[switch] = True
                return "switch_triggered"
        return None

    def enter(self, i: int) -> str | None:
        if self.poses[i][:2] != GOAL or self.home:
            return None
        self.home = True
        return "goal_reached"

    def solved(self) -> bool:
        return self.home

    def observation(self, i: int) -> FloatArray:
        """Return what agent i observes, float32 [20].

        The numbers are its own pose (x/W, y/H, one-hot heading), the mate's pose, two flags, and A, B and goal relative
        to itself.
        """
        me, mate = (pose_numbers(MAP, self.poses[j]) for j in (i, 1 - i))
        flags = [float(flag) for flag in self.triggered]
        return np.array([*me, *mate, *flags, *relative(MAP, self.poses[i], OBJECTS)], dtype=np.float32)

    def features(self, i: int) -> dict[str, float]:
        """Return the named numbers of agent i, in the order of the task's feature specs."""
        pose, mate = self.poses[i], self.poses[1 - i]
        # A triggered switch is no distance away; the nearest counts only those that are left.
        to_switch = [0 if self.triggered[s] else switch_distance(pose, s) for s in (0, 1)]
        values = (
            min((steps for steps in to_switch if steps > 0), default=0),
            *to_switch,
            distance(pose, "door", door_open=True),
            distance(pose, "goal", door_open=True),
            abs(pose[0] - mate[0]) + abs(pose[1] - mate[1]),
            *pose,
            sum(self.triggered),
            self.handled_by[i],
            self.door_open,
        )
        return {name: float(value) for name, value in zip(FEATURE_NAMES, values, strict=True)}

    def describe(self) -> str:
        """Return the state in one line."""
        switches = ", ".join(f"{n} {'on' if on else 'off'}" for n, on in zip("AB", self.triggered, strict=True))
        return f"{self.poses_text()}; switches {switches}; door {'open' if self.door_open else 'closed'}"

    def sign(self, x: int, y: int) -> str:
        for place, done in zip((SWITCH_A, SWITCH_B), self.triggered, strict=True):
            if (x, y) == place and done:
                return MAP.rows[y][x].lower()
        return "/" if (x, y) == DOOR and self.door_open else MAP.rows[y][x]
