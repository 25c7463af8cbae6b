"""The map of Two-Switch, and its tables, so that a step needs look-ups only; poses are numbered as in `grid.map`.

`flags` is a bit mask of triggered switches: 1 is A, 2 is B, 3 opens the door.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import numpy as np

from ...task import IntArray
from ..grid.map import AGENTS, GridMap, Pose, Rules, Tables, distances_to, interaction, pose_numbers, relative

MAP = GridMap(
    (
        "#########",
        "#.......#",
        "#A.....B#",
        "#.......#",
        "####D####",
        "#.......#",
        "#.......#",
        "#......G#",
        "#########",
    )
)
OBS_SIZE = 20
N_FLAGS = 4
ALL_TRIGGERED = 3

SWITCH_A, SWITCH_B, DOOR, GOAL = map(MAP.find, "ABDG")
OBJECTS = (SWITCH_A, SWITCH_B, GOAL)
# The floor of the upper room, row by row.
START_CELLS = tuple((x, y) for y in range(DOOR[1]) for x in range(MAP.width) if MAP.rows[y][x] == ".")

FEATURE_NAMES = (
    "dist_nearest_open_switch",
    "dist_switch_a",
    "dist_switch_b",
    "dist_door",
    "dist_goal",
    "dist_mate",
    "x",
    "y",
    "heading",
    "switches_triggered",
    "own_triggered",
    "door_open",
)
RULES = Rules(
    MAP.width,
    dist_mate=FEATURE_NAMES.index("dist_mate"),
    own_handled=FEATURE_NAMES.index("own_triggered"),
    goal_cell=MAP.cell(GOAL),
)


def walkable(x: int, y: int, door_open: bool) -> bool:
    """Return whether a cell can be walked on: walls, switches and a closed door block."""
    return MAP.rows[y][x] in ".G" or (MAP.rows[y][x] == "D" and door_open)


def standing_poses() -> list[Pose]:
    """Return every pose an agent can ever take: floor, door cell, goal."""
    return list(MAP.standing_poses(lambda x, y: walkable(x, y, True)))


def next_pose_table() -> IntArray:
    """Return [2, N_POSES, 5], the pose after an action, by door (0 closed, 1 open)."""
    standing = standing_poses()
    return np.stack([MAP.next_poses(standing, partial(walkable, door_open=door_open)) for door_open in (False, True)])


class Distances(NamedTuple):
    """Fewest actions from each pose, each [N_POSES]. The door is taken as open."""

    to_switch_a: IntArray  # until A is triggered, the interact action included
    to_switch_b: IntArray
    to_door: IntArray  # until standing on the door cell
    to_goal: IntArray  # until standing on the goal cell


@cache
def distances() -> Distances:
    """Search all distances, once per process."""
    next_pose, faced = next_pose_table()[1], _faced()
    # Of each pose; the heading does not count.
    cells = np.arange(MAP.n_poses) // 4
    return Distances(
        to_switch_a=1 + distances_to(faced == 1, next_pose),
        to_switch_b=1 + distances_to(faced == 2, next_pose),
        to_door=distances_to(cells == MAP.cell(DOOR), next_pose),
        to_goal=distances_to(cells == MAP.cell(GOAL), next_pose),
    )


def _faced() -> IntArray:
    """Return [N_POSES], the bit of the switch that is faced."""
    return MAP.facing(standing_poses(), {SWITCH_A: 1, SWITCH_B: 2})


@cache
def kernel_tables() -> Tables:
    """Build what the kernel looks up, once per process (a few milliseconds). Read-only.

    The door is open by flags, and both agents see and do the same.
    """
    obs = np.zeros((N_FLAGS, MAP.n_poses, OBS_SIZE), dtype=np.float32)
    features = np.zeros((N_FLAGS, MAP.n_poses, len(FEATURE_NAMES)), dtype=np.float32)
    for pose in standing_poses():
        number = MAP.number(*pose)
        switch_a, switch_b, door, goal = (int(table[number]) for table in distances())
        for flags in range(N_FLAGS):
            # The six numbers about the teammate are filled in by the kernel, and so are two of the features.
            flag_row = [float(flags & 1), float(flags >> 1)]
            obs[flags, number] = [*pose_numbers(MAP, pose), *[0.0] * 6, *flag_row, *relative(MAP, pose, OBJECTS)]
            to_a, to_b = (0 if flags & 1 else switch_a), (0 if flags & 2 else switch_b)
            nearest = min((steps for steps in (to_a, to_b) if steps), default=0)
            triggered, door_open = (flags & 1) + (flags >> 1), flags == ALL_TRIGGERED
            features[flags, number] = [nearest, to_a, to_b, door, goal, 0, *pose, triggered, 0, door_open]
    agents = len(AGENTS)
    return Tables(
        # The door is closed for flags 0, 1, 2 and open for 3.
        next_pose=np.ascontiguousarray(next_pose_table()[[int(flags == ALL_TRIGGERED) for flags in range(N_FLAGS)]]),
        trigger=np.stack([interaction(_faced())] * agents),
        obs=np.stack([obs] * agents),
        features=np.stack([features] * agents),
        start_poses=np.array([MAP.number(*cell, 0) for cell in START_CELLS], dtype=np.int64),
    ).read_only()
