"""The map of Two-Switch as tables, so that a step needs look-ups only.

A *pose* is (x, y, heading), numbered `(y * WIDTH + x) * 4 + heading`; headings are 0 east, 1 south, 2 west, 3 north,
x grows to the right and y downwards. `flags` is a bit mask of triggered switches: 1 is A, 2 is B, 3 opens the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from ...task import FloatArray, IntArray
from ..grid import map as grid
from ..grid.map import AGENTS, GridMap, Pose, Rules, distances_to, interaction, pose_numbers, relative

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


def pose_number(x: int, y: int, heading: int) -> int:
    return MAP.number(x, y, heading)


def walkable(x: int, y: int, door_open: bool) -> bool:
    """Walls, switches and a closed door block."""
    return MAP.rows[y][x] in ".G" or (MAP.rows[y][x] == "D" and door_open)


def standing_poses() -> list[Pose]:
    """Every pose an agent can ever take: floor, door cell, goal."""
    return list(MAP.standing_poses(lambda x, y: walkable(x, y, True)))


def next_pose_table() -> IntArray:
    """[2, N_POSES, 5]: the pose after an action, by door (0 closed, 1 open)."""
    standing = standing_poses()
    return np.stack([MAP.next_poses(standing, partial(walkable, door_open=door_open)) for door_open in (False, True)])


@dataclass(frozen=True)
class Tables:
    """Everything the kernel looks up. `D` below are actions; the door is taken as open in all distances.

    next_pose [2, N_POSES, 5] and trigger [N_POSES, 5] (bit of the switch that the action handles) say what an action
    does. obs [4, N_POSES, 20] and features [4, N_POSES, 12] are rows by flags and pose, in which only the numbers about
    the teammate and about the episode's history are left at 0.
    """

    next_pose: IntArray
    trigger: IntArray
    obs: FloatArray
    features: FloatArray
    to_switch_a: IntArray  # [N_POSES] D until A is triggered, the interact action included
    to_switch_b: IntArray
    to_door: IntArray  # [N_POSES] D until standing on the door cell
    to_goal: IntArray  # [N_POSES] D until standing on the goal cell


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
DIST_MATE = FEATURE_NAMES.index("dist_mate")
OWN_TRIGGERED = FEATURE_NAMES.index("own_triggered")


def _obs_row(flags: int, x: int, y: int, heading: int) -> list[float]:
    pose, triggered = (x, y, heading), [float(flags & 1), float(flags >> 1)]
    return [*pose_numbers(MAP, pose), *[0.0] * 6, *triggered, *relative(MAP, pose, OBJECTS)]


def _feature_row(flags: int, pose: tuple[int, int, int], dist: list[int]) -> list[float]:
    """dist: to A, B, door and goal."""
    to_a, to_b = (0 if flags & 1 else dist[0]), (0 if flags & 2 else dist[1])
    nearest = min((d for d in (to_a, to_b) if d), default=0)
    triggered, door_open = (flags & 1) + (flags >> 1), flags == ALL_TRIGGERED
    return [float(v) for v in (nearest, to_a, to_b, dist[2], dist[3], 0, *pose, triggered, 0, door_open)]


@cache
def tables() -> Tables:
    """Built once per process (a few milliseconds); read-only."""
    next_pose, faced = next_pose_table(), MAP.facing(standing_poses(), {SWITCH_A: 1, SWITCH_B: 2})
    cells = np.arange(MAP.n_poses) // 4
    to_a = 1 + distances_to(faced == 1, next_pose[1])
    to_b = 1 + distances_to(faced == 2, next_pose[1])
    to_door = distances_to(cells == MAP.cell(DOOR), next_pose[1])
    to_goal = distances_to(cells == MAP.cell(GOAL), next_pose[1])
    obs = np.zeros((N_FLAGS, MAP.n_poses, OBS_SIZE), dtype=np.float32)
    features = np.zeros((N_FLAGS, MAP.n_poses, len(FEATURE_NAMES)), dtype=np.float32)
    for pose in standing_poses():
        number = pose_number(*pose)
        dist = [int(table[number]) for table in (to_a, to_b, to_door, to_goal)]
        for flags in range(N_FLAGS):
            obs[flags, number] = _obs_row(flags, *pose)
            features[flags, number] = _feature_row(flags, pose, dist)
    result = Tables(next_pose, interaction(faced), obs, features, to_a, to_b, to_door, to_goal)
    for array in vars(result).values():
        array.setflags(write=False)
    return result


RULES = Rules(MAP.width, DIST_MATE, OWN_TRIGGERED, goal_cell=MAP.cell(GOAL))


@cache
def kernel_tables() -> grid.Tables:
    """`tables` as the kernel reads them: the door is open by flags, and both agents see and do the same."""
    table, agents = tables(), len(AGENTS)
    return grid.Tables(
        next_pose=np.ascontiguousarray(table.next_pose[[int(flags == ALL_TRIGGERED) for flags in range(N_FLAGS)]]),
        trigger=np.stack([table.trigger] * agents),
        obs=np.stack([table.obs] * agents),
        features=np.stack([table.features] * agents),
        start_poses=np.array([pose_number(*cell, 0) for cell in START_CELLS], dtype=np.int64),
    )
