"""The map of Victim-Rubble, and its tables, so that a step needs look-ups only; poses are numbered as in `grid.map`.

`flags` is a bit mask of what has been handled, in the order of THINGS: 1 the free victim, 2 the blocked victim, 4, 8
and 16 the three pieces of rubble. A healed victim and cleared rubble are gone: their cells can be walked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from ...task import IntArray
from ..grid.map import UNREACHED, Cell, GridMap, Pose, Rules, Tables, distances_to
from ..grid.roles import tables_of_roles

MAP = GridMap(
    (
        "#############",
        "#v.#....P.#V#",
        "#......#.Q..#",
        "####...######",
        "#......######",
        "#..#..r######",
        "#############",
    )
)
SYMBOLS = "vVPQr"
THINGS: tuple[Cell, ...] = tuple(MAP.find(symbol) for symbol in SYMBOLS)
VICTIMS, RUBBLE = (0, 1), (2, 3, 4)  # indices of THINGS: green heals the ones, orange clears the others
ROLES = ("medic", "engineer")  # of AGENTS, and the names of their groups
BY_ROLE = (VICTIMS, RUBBLE)
BLOCKING = (2, 3)  # rubble on the only path to the blocked victim
ALL_HANDLED = (1 << len(THINGS)) - 1
OBS_SIZE = 29
# (x from, x to, y from, y to) of the rooms of floor, both ends included.
CHAMBERS = ((1, 2, 1, 2), (1, 2, 4, 5), (4, 6, 1, 5), (11, 11, 1, 2), (8, 9, 1, 2))

FEATURE_NAMES = (
    "dist_free_victim",
    "dist_blocked_victim",
    "dist_rubble_1",
    "dist_rubble_2",
    "dist_rubble_3",
    "dist_mate",
    "x",
    "y",
    "heading",
    "victims_healed",
    "rubble_cleared",
    "own_handled",
    "way_open",
)
RULES = Rules(
    MAP.width,
    dist_mate=FEATURE_NAMES.index("dist_mate"),
    own_handled=FEATURE_NAMES.index("own_handled"),
    all_flags=ALL_HANDLED,
)


def in_chamber(number: int, cell: Cell) -> bool:
    """Return whether a cell is in a chamber; chambers are numbered from 1."""
    left, right, top, bottom = CHAMBERS[number - 1]
    return left <= cell[0] <= right and top <= cell[1] <= bottom


# The free floor of the middle chamber, row by row.
START_CELLS = tuple(
    (x, y) for y in range(MAP.height) for x in range(MAP.width) if in_chamber(3, (x, y)) and MAP.rows[y][x] == "."
)


def walkable(x: int, y: int, flags: int) -> bool:
    """Return whether a cell can be walked on: walls block, and things that have not been handled."""
    if (x, y) in THINGS:
        return bool(flags >> THINGS.index((x, y)) & 1)
    return MAP.rows[y][x] == "."


def standing_poses() -> list[Pose]:
    """Return every pose an agent can ever take."""
    return list(MAP.standing_poses(lambda x, y: walkable(x, y, ALL_HANDLED)))


@cache
def to_things() -> IntArray:
    """Return [5, N_POSES]: fewest actions until a thing is handled, `interact` included, were all others gone."""
    standing = standing_poses()
    rows = []
    # The thing itself still blocks, and is faced.
    for k, cell in enumerate(THINGS):
        next_pose = MAP.next_poses(standing, partial(walkable, flags=ALL_HANDLED & ~(1 << k)))
        rows.append(np.minimum(1 + distances_to(MAP.facing(standing, {cell: 1}) == 1, next_pose), UNREACHED))
    return np.stack(rows)


def _progress(gone: Sequence[bool]) -> list[float]:
    """Return the features after the heading, from the things that are gone."""
    healed, cleared = (sum(gone[k] for k in things) for things in BY_ROLE)
    return [healed, cleared, 0, all(gone[k] for k in BLOCKING)]


@cache
def kernel_tables() -> Tables:
    """Build what the kernel looks up, once per process (a second). Read-only."""
    return tables_of_roles(
        MAP,
        THINGS,
        BY_ROLE,
        standing=standing_poses(),
        walkable=walkable,
        distances=to_things(),
        progress=_progress,
        obs_size=OBS_SIZE,
        n_features=len(FEATURE_NAMES),
        start_cells=START_CELLS,
    )
