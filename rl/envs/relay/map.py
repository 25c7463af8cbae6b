"""The map of Relay, and its tables, so that a step needs look-ups only; poses are numbered as in `grid.map`.

`flags` is a bit mask of the levers that have been pulled, in the order of LEVERS. Lever k opens door k, the only way
into the next room, so that levers can be pulled in this order only; the last one ends the episode.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from ...task import IntArray
from ..grid.map import (
    AGENTS,
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
N_FLAGS = ALL_PULLED + 1
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


@cache
def kernel_tables() -> Tables:
    """Build what the kernel looks up, once per process. Read-only."""
    standing = standing_poses()
    shape = len(AGENTS), N_FLAGS, MAP.n_poses
    obs, features = np.zeros((*shape, OBS_SIZE), np.float32), np.zeros((*shape, len(FEATURE_NAMES)), np.float32)
    for pose in standing:
        number = MAP.number(*pose)
        distances = to_levers()[:, number].tolist()
        for flags in range(N_FLAGS):
            pulled = [bool(flags >> k & 1) for k in range(len(LEVERS))]
            # The six numbers about the teammate are filled in by the kernel, and so are two of the features.
            shared = [*pose_numbers(MAP, pose), *[0.0] * 6, *map(float, pulled), *relative(MAP, pose, LEVERS)]
            for agent in range(len(AGENTS)):
                obs[agent, flags, number] = [*shared, *(float(agent == i) for i in range(len(AGENTS)))]
            left = [0 if done else distance for done, distance in zip(pulled, distances, strict=True)]
            features[:, flags, number] = [*left, 0, *pose, sum(pulled), 0, *pulled[: len(DOORS)]]
    # An agent pulls the levers of its role only.
    bits = [{LEVERS[k]: 1 << k for k in levers} for levers in BY_ROLE]
    return Tables(
        next_pose=np.stack([MAP.next_poses(standing, partial(walkable, flags=flags)) for flags in range(N_FLAGS)]),
        trigger=np.stack([interaction(MAP.facing(standing, of_role)) for of_role in bits]),
        obs=obs,
        features=features,
        start_poses=np.array([MAP.number(*cell, 0) for cell in START_CELLS], dtype=np.int64),
    ).read_only()
