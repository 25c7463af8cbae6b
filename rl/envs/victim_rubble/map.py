"""The map of Victim-Rubble as tables, so that a step needs look-ups only; poses are numbered as in `grid`.

`flags` is a bit mask of what has been handled, in the order of THINGS: 1 the free victim, 2 the blocked victim, 4, 8
and 16 the three pieces of rubble. A healed victim and cleared rubble are gone: their cells can be walked on.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from ...task import IntArray
from ..grid.map import (
    AGENTS,
    UNREACHED,
    Cell,
    GridMap,
    Pose,
    Rules,
    Tables,
    distances_to,
    interaction,
    pose_numbers,
    relative,
)

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
BLOCKING = (2, 3)  # rubble on the only way to the blocked victim
ALL_HANDLED = (1 << len(THINGS)) - 1
N_FLAGS = ALL_HANDLED + 1
OBS_SIZE = 29
# (x from, x to, y from, y to) of the rooms of floor, both ends included.
CHAMBERS = ((1, 2, 1, 2), (1, 2, 4, 5), (4, 6, 1, 5), (11, 11, 1, 2), (8, 9, 1, 2))


def in_chamber(number: int, cell: Cell) -> bool:
    """Chambers are numbered from 1."""
    left, right, top, bottom = CHAMBERS[number - 1]
    return left <= cell[0] <= right and top <= cell[1] <= bottom


# The free floor of the middle chamber, row by row.
START_CELLS = tuple(
    (x, y) for y in range(MAP.height) for x in range(MAP.width) if in_chamber(3, (x, y)) and MAP.rows[y][x] == "."
)


def walkable(x: int, y: int, flags: int) -> bool:
    """Walls block, and things that have not been handled."""
    if (x, y) in THINGS:
        return bool(flags >> THINGS.index((x, y)) & 1)
    return MAP.rows[y][x] == "."


def standing_poses() -> list[Pose]:
    """Every pose an agent can ever take."""
    return list(MAP.standing_poses(lambda x, y: walkable(x, y, ALL_HANDLED)))


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
DIST_MATE = FEATURE_NAMES.index("dist_mate")
OWN_HANDLED = FEATURE_NAMES.index("own_handled")
RULES = Rules(MAP.width, DIST_MATE, OWN_HANDLED, all_flags=ALL_HANDLED)


def handled(flags: int) -> list[bool]:
    """By thing."""
    return [bool(flags >> k & 1) for k in range(len(THINGS))]


def _obs_row(agent: int, flags: int, pose: Pose) -> list[float]:
    role = [float(agent == i) for i in range(len(AGENTS))]
    flag_row = [float(flag) for flag in handled(flags)]
    return [*pose_numbers(MAP, pose), *[0.0] * 6, *flag_row, *relative(MAP, pose, THINGS), *role]


def _feature_row(flags: int, pose: Pose, distances: list[int]) -> list[float]:
    """distances: to handle each thing."""
    done = handled(flags)
    left = [0 if gone else distance for gone, distance in zip(done, distances, strict=True)]
    healed, cleared = (sum(done[k] for k in things) for things in BY_ROLE)
    way_open = all(done[k] for k in BLOCKING)
    return [float(v) for v in (*left, 0, *pose, healed, cleared, 0, way_open)]


@cache
def to_things() -> IntArray:
    """[5, N_POSES]: fewest actions until a thing is handled, the interact action included, were all others gone."""
    standing = standing_poses()
    found = []
    for k, cell in enumerate(THINGS):
        others = MAP.next_poses(standing, partial(walkable, flags=ALL_HANDLED & ~(1 << k)))
        found.append(np.minimum(1 + distances_to(MAP.facing(standing, {cell: 1}) == 1, others), UNREACHED))
    return np.stack(found)


@cache
def kernel_tables() -> Tables:
    """Built once per process (a second); read-only."""
    standing = standing_poses()
    shape = len(AGENTS), N_FLAGS, MAP.n_poses
    obs, features = np.zeros((*shape, OBS_SIZE), np.float32), np.zeros((*shape, len(FEATURE_NAMES)), np.float32)
    for pose in standing:
        number = MAP.number(*pose)
        distances = to_things()[:, number].tolist()
        for flags in range(N_FLAGS):
            features[:, flags, number] = _feature_row(flags, pose, distances)
            for agent in range(len(AGENTS)):
                obs[agent, flags, number] = _obs_row(agent, flags, pose)
    result = Tables(_next_poses(standing), _triggers(standing), obs, features, _starts())
    for array in vars(result).values():
        array.setflags(write=False)
    return result


def _next_poses(standing: list[Pose]) -> IntArray:
    return np.stack([MAP.next_poses(standing, partial(walkable, flags=flags)) for flags in range(N_FLAGS)])


def _triggers(standing: list[Pose]) -> IntArray:
    bits = [{THINGS[k]: 1 << k for k in things} for things in BY_ROLE]
    return np.stack([interaction(MAP.facing(standing, own)) for own in bits])


def _starts() -> IntArray:
    return np.array([MAP.number(*cell, 0) for cell in START_CELLS], dtype=np.int64)
