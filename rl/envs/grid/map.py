"""The mechanics of the grid worlds: poses, actions, and tables of what they do.

x runs to the right, y downwards, (0, 0) is the upper left cell; a heading is 0 east, 1 south, 2 west, 3 north. A pose
is (x, y, heading), and its number is (y * width + x) * 4 + heading. Every action is a row of a table, so that the
compiled batch only looks up. `N_POSES` in shapes is the number of all poses of a map, walls included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ...task import FeatureKind, FeatureSpec, FloatArray, IntArray

HEADINGS = ("east", "south", "west", "north")
DELTAS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (x, y) of a step, by heading
ACTION_NAMES = ("stay", "turn_left", "turn_right", "forward", "interact")
STAY, TURN_LEFT, TURN_RIGHT, FORWARD, INTERACT = range(5)
AGENTS = ("green", "orange")
UNREACHED = 10_000

Cell = tuple[int, int]  # x, y
Pose = tuple[int, int, int]  # x, y, heading
Walkable = Callable[[int, int], bool]  # x, y
Meaning = tuple[FeatureKind, str, str]  # of a feature: kind, unit, description


# ---------------------------------------------------------------- the map


def ahead(pose: Pose) -> Cell:
    """Return the cell that is faced."""
    dx, dy = DELTAS[pose[2]]
    return pose[0] + dx, pose[1] + dy


@dataclass(frozen=True)
class GridMap:
    """Rows of cells; '#' is wall, '.' floor, every other sign a thing of the game."""

    rows: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.rows[0])

    @property
    def height(self) -> int:
        return len(self.rows)

    @property
    def n_poses(self) -> int:
        return self.width * self.height * 4

    def find(self, symbol: str) -> Cell:
        """Return the one cell that shows `symbol`."""
        return next((row.index(symbol), y) for y, row in enumerate(self.rows) if symbol in row)

    def number(self, x: int, y: int, heading: int) -> int:
        """Return the number of a pose."""
        return (y * self.width + x) * 4 + heading

    def cell(self, place: Cell) -> int:
        """Return the number of a cell; that of a pose in it is 4 times as much, plus its heading."""
        return place[1] * self.width + place[0]

    def standing_poses(self, walkable: Walkable) -> Iterator[Pose]:
        """Yield every pose on a cell that can be walked on, row by row."""
        for y in range(self.height):
            for x in range(self.width):
                if walkable(x, y):
                    yield from ((x, y, heading) for heading in range(4))

    def next_poses(self, standing: Sequence[Pose], walkable: Walkable) -> IntArray:
        """Return [N_POSES, 5], the pose after each action, from the poses of `standing`.

        A blocked move keeps the pose, and so does every action from any other pose.
        """
        # At first every action keeps the pose.
        table = np.repeat(np.arange(self.n_poses)[:, None], len(ACTION_NAMES), axis=1)
        for x, y, heading in standing:
            pose, front = self.number(x, y, heading), ahead((x, y, heading))
            # Headings are numbered clockwise.
            table[pose, TURN_LEFT] = self.number(x, y, (heading - 1) % 4)
            table[pose, TURN_RIGHT] = self.number(x, y, (heading + 1) % 4)
            if walkable(*front):
                table[pose, FORWARD] = self.number(*front, heading)
        return table.astype(np.int64)

    def facing(self, standing: Sequence[Pose], bits: dict[Cell, int]) -> IntArray:
        """Return [N_POSES], the bit of the thing in the faced cell, 0 where there is none."""
        table = np.zeros(self.n_poses, dtype=np.int64)
        for pose in standing:
            table[self.number(*pose)] = bits.get(ahead(pose), 0)
        return table


def distances_to(targets: NDArray[np.bool_], next_pose: IntArray) -> IntArray:
    """Return [N_POSES], the fewest actions from each pose to any target pose.

    All poses are relaxed until nothing changes. Poses from which no target can be reached stay `UNREACHED`.

    Args:
        targets: [N_POSES], true at target poses.
        next_pose: [N_POSES, 5], see `GridMap.next_poses`.
    """
    distance = np.where(targets, 0, UNREACHED)
    while True:
        # One action, then from there; UNREACHED must not grow.
        relaxed = np.minimum(distance, 1 + distance[next_pose].min(axis=1))
        relaxed = np.minimum(relaxed, UNREACHED)
        if np.array_equal(relaxed, distance):
            return distance
        distance = relaxed


# ---------------------------------------------------------------- tables of the kernel


@dataclass(frozen=True)
class Rules:
    """The rules that a game adds to its tables.

    Attributes:
        width: cells in a row.
        dist_mate: column of the feature that is the distance to the teammate, which no table holds.
        own_handled: column of the feature that counts what the agent itself has handled, likewise.
        goal_cell: number of the cell that ends the episode when an agent steps on it; -1 for none.
        all_flags: flags that end the episode, when everything is handled; -1 for none.
        pays_events: whether events are paid and time costs; else success alone is paid.
    """

    width: int
    dist_mate: int
    own_handled: int
    goal_cell: int = -1
    all_flags: int = -1
    pays_events: bool = True

    def row(self, overlap: bool) -> IntArray:
        """Return [7], the rules as `kernel` reads them. `overlap`: whether agents may share a cell."""
        numbers = (self.width, self.dist_mate, self.own_handled, self.goal_cell, self.all_flags)
        return np.array([*numbers, int(overlap), int(self.pays_events)], dtype=np.int64)


@dataclass(frozen=True)
class Tables:
    """Everything that the kernel looks up, by agent i (0 or 1), flags (which things are handled) and pose.

    In rows of `obs` the six numbers about the teammate are left at 0, in rows of `features` its distance and the
    agent's own count.
    """

    next_pose: IntArray  # [F, N_POSES, 5]
    trigger: IntArray  # [2, N_POSES, 5] bit of the thing that agent i handles by the action
    obs: FloatArray  # [2, F, N_POSES, O]
    features: FloatArray  # [2, F, N_POSES, K]
    start_poses: IntArray  # [cells], heading 0

    def read_only(self) -> Self:
        """Make the arrays read-only, since all batches of a process share them."""
        for array in vars(self).values():
            array.setflags(write=False)
        return self


def interaction(faced: IntArray) -> IntArray:
    """Return [N_POSES, 5], the bits that each action handles, from those that are faced ([N_POSES]).

    Only `interact` handles what is faced.
    """
    trigger = np.zeros((len(faced), len(ACTION_NAMES)), dtype=np.int64)
    trigger[:, INTERACT] = faced
    return trigger


# ---------------------------------------------------------------- observations and features


def pose_numbers(grid: GridMap, pose: Pose) -> list[float]:
    """Return [6]: x / width, y / height, one-hot heading."""
    x, y, heading = pose
    return [x / grid.width, y / grid.height, *(float(h == heading) for h in range(4))]


def relative(grid: GridMap, pose: Pose, things: Sequence[Cell]) -> list[float]:
    """Return [2 n]: x and y of each thing as seen from the pose, in shares of the map's size."""
    x, y, _ = pose
    return [number for ox, oy in things for number in ((ox - x) / grid.width, (oy - y) / grid.height)]


def feature_specs(
    names: Sequence[str],
    meaning: Mapping[str, Meaning],
    bounds: Mapping[str, tuple[float, float]],
    handled: Collection[str],
) -> tuple[FeatureSpec, ...]:
    """Return the specs in the order of `names`, which is that of the feature arrays.

    Args:
        names: of the features.
        meaning: by name.
        bounds: by name, lowest and highest value.
        handled: distances to things that are handled once and for good: 0 then, and at least 1 before.
    """
    # The same order as in the arrays, or names and numbers would not belong together.
    specs = []
    for name in names:
        kind, unit, text = meaning[name]
        low, high = bounds[name]
        done = 0.0 if name in handled else None
        specs.append(FeatureSpec(name=name, kind=kind, low=low, high=high, done=done, unit=unit, description=text))
    return tuple(specs)
