"""Victim-Rubble in plain Python, see `grid.game`."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np

from ...task import FloatArray
from ..grid.game import GridGame, shortest
from ..grid.map import AGENTS, Cell, GridMap, Pose, ahead, pose_numbers, relative
from .map import ALL_HANDLED, BLOCKING, BY_ROLE, FEATURE_NAMES, MAP, RUBBLE, START_CELLS, THINGS, VICTIMS, walkable

EVENT_NAMES = ("victim_healed", "rubble_cleared")


@cache
def thing_distance(pose: Pose, k: int, flags: int) -> int | None:
    """Return the actions until thing `k` is handled, `interact` included; None where it cannot be reached.

    `flags` are those of the state: what is not handled blocks.
    """
    steps = shortest(pose, lambda p: ahead(p) == THINGS[k], lambda x, y: walkable(x, y, flags))
    return None if steps is None else steps + 1


class VictimRubbleGame(GridGame):
    """One episode of Victim-Rubble."""

    grid: ClassVar[GridMap] = MAP
    signs: ClassVar[str] = "# wall, . floor, v and V victims, P, Q and r rubble"
    start_cells: ClassVar[tuple[Cell, ...]] = START_CELLS
    event_names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = ((EVENT_NAMES[0],), (EVENT_NAMES[1],))

    def __init__(self, seed: int, n_max: int = 200, allow_agent_overlap: bool = True) -> None:
        super().__init__(seed, n_max, allow_agent_overlap)
        self.handled = [False] * len(THINGS)  # whether each thing is gone

    @property
    def flags(self) -> int:
        """The bit mask of what is handled, in the order of THINGS."""
        return sum(1 << k for k, gone in enumerate(self.handled) if gone)

    def walkable(self, x: int, y: int) -> bool:
        return walkable(x, y, self.flags)

    def handle(self, i: int, cell: Cell) -> str | None:
        for k in BY_ROLE[i]:
            if cell == THINGS[k] and not self.handled[k]:
                self.handled[k] = True
                return EVENT_NAMES[i]
        return None

    def enter(self, i: int) -> str | None:  # noqa: ARG002 no place is a goal
        return None

    def solved(self) -> bool:
        return all(self.handled)

    def observation(self, i: int) -> FloatArray:
        """Return what agent i observes, float32 [29].

        The numbers are its own pose (x/W, y/H, one-hot heading), the mate's pose, five flags, the things relative to
        itself, and its role (one-hot).
        """
        me, mate = (pose_numbers(MAP, self.poses[j]) for j in (i, 1 - i))
        flags, role = [float(flag) for flag in self.handled], [float(i == j) for j in range(len(AGENTS))]
        return np.array([*me, *mate, *flags, *relative(MAP, self.poses[i], THINGS), *role], dtype=np.float32)

    def features(self, i: int) -> dict[str, float]:
        """Return the named numbers of agent i, in the order of the task's feature specs."""
        pose, mate = self.poses[i], self.poses[1 - i]
        # As if all other things were gone.
        distances = [thing_distance(pose, k, ALL_HANDLED & ~(1 << k)) for k in range(len(THINGS))]
        values = (
            *(0 if gone else d for gone, d in zip(self.handled, distances, strict=True)),
            abs(pose[0] - mate[0]) + abs(pose[1] - mate[1]),
            *pose,
            sum(self.handled[k] for k in VICTIMS),
            sum(self.handled[k] for k in RUBBLE),
            self.handled_by[i],
            all(self.handled[k] for k in BLOCKING),
        )
        return {name: float(value or 0) for name, value in zip(FEATURE_NAMES, values, strict=True)}

    def describe(self) -> str:
        """Return the state in one line."""
        victims = ", ".join(f"({x},{y})" for k in VICTIMS if not self.handled[k] for x, y in [THINGS[k]])
        rubble = ", ".join(f"({x},{y})" for k in RUBBLE if not self.handled[k] for x, y in [THINGS[k]])
        return f"{self.poses_text()}; victims left at {victims or 'none'}; rubble left at {rubble or 'none'}"

    def sign(self, x: int, y: int) -> str:
        # What is handled is gone.
        return "." if walkable(x, y, self.flags) else MAP.rows[y][x]
