"""The map of Relay, and its tables, so that a step needs look-ups only; poses are numbered as in `grid.map`.

`flags` is a bit mask of the levers that have been pulled, in the order of LEVERS. Lever k opens door k, the only way
into the next room, so that levers can be pulled in this order only; the last one ends the episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from ...task import IntArray
from ..grid.map import Cell, GridMap, Pose, Rules, Tables, distances_to
from ..grid.roles import tables_of_roles

MAP = GridMap(
    (
        "#A###############C#######",
        "#.....#.....#.....#.....#",
        "#.....#.....#.....#.....#",
        "#.....1.....2.....3.....#",
        "#.....#.....#.....#.....#",
        "#.....#.....#.....#.....#",
        "###########B###########D#",
    )
)
LEVERS: tuple[Cell, ...] = tuple(map(MAP.find, "ABCD"))
DOORS: tuple[Cell, ...] = tuple(map(MAP.find, "123"))
ROLES = ("guide", "porter")  # of AGENTS, and the names of their groups
BY_ROLE = ((0, 2), (1, 3))  # indices of LEVERS: green pulls the ones, orange the others
ALL_PULLED = (1 << len(LEVERS)) - 1
OBS_SIZE = 26

FEATURE_NAMES = (
    "dist_lever_1",
    "dist_lever_2",
    "dist_lever_3",
    "dist_lever_4",
    "dist_mate",
    "x",
    "y",
    "heading",
    "levers_pulled",
    "own_pulled",
    "door_1_open",
    "door_2_open",
    "door_3_open",
)
RULES = Rules(
    MAP.width,
    dist_mate=FEATURE_NAMES.index("dist_mate"),
    own_handled=FEATURE_NAMES.index("own_pulled"),
    all_flags=ALL_PULLED,
    pays_events=False,
)
# The floor of the first room, row by row.
START_CELLS = tuple((x, y) for y in range(MAP.height) for x in range(DOORS[0][0]) if MAP.rows[y][x] == ".")


def walkable(x: int, y: int, flags: int) -> bool:
    """Return whether a cell can be walked on: walls, levers and closed doors block."""
    if (x, y) in DOORS:
        return bool(flags >> DOORS.index((x, y)) & 1)
    return MAP.rows[y][x] == "."


def standing_poses(flags: int = ALL_PULLED) -> list[Pose]:
    """Return every pose that an agent can have while the levers of `flags`, a first part of them, have been pulled."""
    closed = [x for k, (x, _) in enumerate(DOORS) if not flags >> k & 1]
    end = min(closed, default=MAP.width)
    return [pose for pose in MAP.standing_poses(lambda x, y: walkable(x, y, flags)) if pose[0] < end]


@cache
def to_levers() -> IntArray:
    """Return [4, N_POSES]: fewest actions until a lever is pulled, `interact` included, were all doors open."""
    standing = standing_poses()
    next_pose = MAP.next_poses(standing, partial(walkable, flags=ALL_PULLED))
    return np.stack([1 + distances_to(MAP.facing(standing, {cell: 1}) == 1, next_pose) for cell in LEVERS])


def _progress(pulled: Sequence[bool]) -> list[float]:
    """Return the features after the heading, from the levers that have been pulled."""
    return [sum(pulled), 0, *pulled[: len(DOORS)]]


@cache
def kernel_tables() -> Tables:
    """Build what the kernel looks up, once per process. Read-only."""
    return tables_of_roles(
        MAP,
        LEVERS,
        BY_ROLE,
        standing=standing_poses(),
        walkable=walkable,
        distances=to_levers(),
        progress=_progress,
        obs_size=OBS_SIZE,
        n_features=len(FEATURE_NAMES),
        start_cells=START_CELLS,
    )
