"""The map of Two-Switch as tables, so that a step needs look-ups only.

A *pose* is (x, y, heading), numbered `(y * WIDTH + x) * 4 + heading`; headings are 0 east, 1 south, 2 west, 3 north,
x grows to the right and y downwards. `flags` is a bit mask of triggered switches: 1 is A, 2 is B, 3 opens the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..task import FloatArray, IntArray

MAP = (
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
WIDTH, HEIGHT = len(MAP[0]), len(MAP)
N_POSES = WIDTH * HEIGHT * 4
HEADINGS = ("east", "south", "west", "north")
DELTAS = ((1, 0), (0, 1), (-1, 0), (0, -1))
ACTION_NAMES = ("stay", "turn_left", "turn_right", "forward", "interact")
STAY, TURN_LEFT, TURN_RIGHT, FORWARD, INTERACT = range(5)
AGENTS = ("green", "orange")
OBS_SIZE = 20
N_FLAGS = 4
ALL_TRIGGERED = 3
UNREACHED = 10_000


def find(symbol: str) -> tuple[int, int]:
    """(x, y) of the one cell that shows `symbol`."""
    return next((row.index(symbol), y) for y, row in enumerate(MAP) if symbol in row)


SWITCH_A, SWITCH_B, DOOR, GOAL = find("A"), find("B"), find("D"), find("G")
OBJECTS = (SWITCH_A, SWITCH_B, GOAL)
# The floor of the upper room, row by row.
START_CELLS = tuple((x, y) for y in range(DOOR[1]) for x in range(WIDTH) if MAP[y][x] == ".")


def pose_number(x: int, y: int, heading: int) -> int:
    return (y * WIDTH + x) * 4 + heading


def walkable(x: int, y: int, door_open: bool) -> bool:
    """Walls, switches and a closed door block."""
    return MAP[y][x] in ".G" or (MAP[y][x] == "D" and door_open)


def standing_poses() -> list[tuple[int, int, int]]:
    """Every pose an agent can ever take: floor, door cell, goal."""
    return [(x, y, h) for y in range(HEIGHT) for x in range(WIDTH) if walkable(x, y, True) for h in range(4)]


def next_pose_table() -> IntArray:
    """[2, N_POSES, 5]: the pose after an action, by door (0 closed, 1 open); a blocked move keeps the pose."""
    table = np.repeat(np.arange(N_POSES)[None, :, None], 2, axis=0).repeat(5, axis=2)
    for x, y, heading in standing_poses():
        pose = pose_number(x, y, heading)
        table[:, pose, TURN_LEFT] = pose_number(x, y, (heading - 1) % 4)
        table[:, pose, TURN_RIGHT] = pose_number(x, y, (heading + 1) % 4)
        ahead = (x + DELTAS[heading][0], y + DELTAS[heading][1])
        for door_open in (0, 1):
            if walkable(*ahead, bool(door_open)):
                table[door_open, pose, FORWARD] = pose_number(*ahead, heading)
    return table.astype(np.int64)


def faced_table() -> IntArray:
    """[N_POSES]: the bit of the switch in the faced cell, 0 where there is none."""
    table = np.zeros(N_POSES, dtype=np.int64)
    for x, y, heading in standing_poses():
        ahead = (x + DELTAS[heading][0], y + DELTAS[heading][1])
        table[pose_number(x, y, heading)] = {SWITCH_A: 1, SWITCH_B: 2}.get(ahead, 0)
    return table


def distances_to(targets: NDArray[np.bool_], next_pose: IntArray) -> IntArray:
    """[N_POSES]: fewest actions from each pose to any target pose, by relaxing all poses until nothing changes.

    targets: [N_POSES]; next_pose: [N_POSES, 5], one door state. Poses from which none can be reached stay `UNREACHED`.
    """
    distance = np.where(targets, 0, UNREACHED)
    while True:
        relaxed = np.minimum(distance, 1 + distance[next_pose].min(axis=1))
        relaxed = np.minimum(relaxed, UNREACHED)
        if np.array_equal(relaxed, distance):
            return distance
        distance = relaxed


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
    onehot = [float(h == heading) for h in range(4)]
    triggered = [float(flags & 1), float(flags >> 1)]
    relative = [value for ox, oy in OBJECTS for value in ((ox - x) / WIDTH, (oy - y) / HEIGHT)]
    return [x / WIDTH, y / HEIGHT, *onehot, *[0.0] * 6, *triggered, *relative]


def _feature_row(flags: int, pose: tuple[int, int, int], dist: list[int]) -> list[float]:
    """dist: to A, B, door and goal."""
    to_a, to_b = (0 if flags & 1 else dist[0]), (0 if flags & 2 else dist[1])
    nearest = min((d for d in (to_a, to_b) if d), default=0)
    triggered, door_open = (flags & 1) + (flags >> 1), flags == ALL_TRIGGERED
    return [float(v) for v in (nearest, to_a, to_b, dist[2], dist[3], 0, *pose, triggered, 0, door_open)]


@cache
def tables() -> Tables:
    """Built once per process (a few milliseconds); read-only."""
    next_pose, faced = next_pose_table(), faced_table()
    cells = np.arange(N_POSES) // 4
    to_a = 1 + distances_to(faced == 1, next_pose[1])
    to_b = 1 + distances_to(faced == 2, next_pose[1])
    to_door = distances_to(cells == DOOR[1] * WIDTH + DOOR[0], next_pose[1])
    to_goal = distances_to(cells == GOAL[1] * WIDTH + GOAL[0], next_pose[1])
    trigger = np.zeros((N_POSES, len(ACTION_NAMES)), dtype=np.int64)
    trigger[:, INTERACT] = faced
    obs = np.zeros((N_FLAGS, N_POSES, OBS_SIZE), dtype=np.float32)
    features = np.zeros((N_FLAGS, N_POSES, len(FEATURE_NAMES)), dtype=np.float32)
    for pose in standing_poses():
        number = pose_number(*pose)
        dist = [int(table[number]) for table in (to_a, to_b, to_door, to_goal)]
        for flags in range(N_FLAGS):
            obs[flags, number] = _obs_row(flags, *pose)
            features[flags, number] = _feature_row(flags, pose, dist)
    result = Tables(next_pose, trigger, obs, features, to_a, to_b, to_door, to_goal)
    for array in vars(result).values():
        array.setflags(write=False)
    return result
