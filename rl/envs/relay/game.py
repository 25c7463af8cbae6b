"""Relay in plain Python, see `grid.game`."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np

from ...task import FloatArray
from ..grid.game import GridGame, shortest
from ..grid.map import AGENTS, Cell, GridMap, Pose, ahead, pose_numbers, relative
from .map import ALL_PULLED, BY_ROLE, DOORS, FEATURE_NAMES, LEVERS, MAP, START_CELLS, walkable

EVENT_NAMES = ("guide_pulled", "porter_pulled")


@cache
def lever_distance(pose: Pose, k: int) -> int | None:
    """Return the actions until lever `k` is pulled, `interact` included, were all doors open."""
    steps = shortest(pose, lambda p: ahead(p) == LEVERS[k], lambda x, y: walkable(x, y, ALL_PULLED))
    return None if steps is None else steps + 1


class RelayGame(GridGame):
    """One episode of Relay."""

    grid: ClassVar[GridMap] = MAP
    signs: ClassVar[str] = "# wall, . floor, A to D levers 1 to 4 (a to d: pulled), 1 to 3 doors (/: open)"
    start_cells: ClassVar[tuple[Cell, ...]] = START_CELLS
    event_names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = ((EVENT_NAMES[0],), (EVENT_NAMES[1],))
    pays_events: ClassVar[bool] = False

    def __init__(self, seed: int, n_max: int = 120, allow_agent_overlap: bool = True) -> None:
        super().__init__(seed, n_max, allow_agent_overlap)
        self.pulled = [False] * len(LEVERS)

    @property
    def flags(self) -> int:
        """The bit mask of the levers that have been pulled, in the order of LEVERS."""
        return sum(1 << k for k, done in enumerate(self.pulled) if done)

    def walkable(self, x: int, y: int) -> bool:
        return walkable(x, y, self.flags)

    def handle(self, i: int, cell: Cell) -> str | None:
        for k in BY_ROLE[i]:
            if cell == LEVERS[k] and not self.pulled[k]:
                self.pulled[k] = True
                return EVENT_NAMES[i]
        return None

    def enter(self, i: int) -> str | None:  # noqa: ARG002 no place is a goal
        return None

    def solved(self) -> bool:
        return all(self.pulled)

    def observation(self, i: int) -> FloatArray:
        """Return what agent i observes, float32 [26].

        The numbers are its own pose (x/W, y/H, one-hot heading), the mate's pose, four flags, the levers relative to
        itself, and its role (one-hot).
        """
        me, mate = (pose_numbers(MAP, self.poses[j]) for j in (i, 1 - i))
        flags, role = [float(flag) for flag in self.pulled], [float(i == j) for j in range(len(AGENTS))]
        return np.array([*me, *mate, *flags, *relative(MAP, self.poses[i], LEVERS), *role], dtype=np.float32)

    def features(self, i: int) -> dict[str, float]:
        """Return the named numbers of agent i, in the order of the task's feature specs."""
        pose, mate = self.poses[i], self.poses[1 - i]
        values = (
            *(0 if done else lever_distance(pose, k) for k, done in enumerate(self.pulled)),
            abs(pose[0] - mate[0]) + abs(pose[1] - mate[1]),
            *pose,
            sum(self.pulled),
            self.handled_by[i],
            *self.pulled[: len(DOORS)],
        )
        return {name: float(value or 0) for name, value in zip(FEATURE_NAMES, values, strict=True)}

    def describe(self) -> str:
        """Return the state in one line."""
        pulled = ", ".join(str(k) for k, done in enumerate(self.pulled, start=1) if done)
        return f"{self.poses_text()}; levers pulled: {pulled or 'none'}"

    def sign(self, x: int, y: int) -> str:
        if (x, y) in LEVERS and self.pulled[LEVERS.index((x, y))]:
            return MAP.rows[y][x].lower()
        return "/" if (x, y) in DOORS and walkable(x, y, self.flags) else MAP.rows[y][x]
