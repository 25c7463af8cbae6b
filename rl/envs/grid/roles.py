"""Tasks whose agents have a role each: their spec, and their tables.

Such a task has things that are handled once and for good, each by the agents of one role. Bit k of `flags` says whether
thing k has been handled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from ...task import EventSpec, FeatureSpec, GroupSpec, IntArray, TaskSpec
from .map import ACTION_NAMES, AGENTS, STAY, Cell, GridMap, Pose, Tables, interaction, pose_numbers, relative


def spec_of_roles(
    name: str,
    description: str,
    *,
    roles: Sequence[str],
    obs_size: int,
    features: Sequence[tuple[FeatureSpec, ...]],
    events: Mapping[str, tuple[EventSpec, ...]],
    return_range: tuple[float, float],
    n_max: int,
) -> TaskSpec:
    """Return the spec of a grid task whose agents have a role each, and so a group each.

    Args:
        name: of the task.
        description: what the team has to do.
        roles: of the agents, in the order of AGENTS.
        obs_size: numbers that an agent observes.
        features: of each agent.
        events: by agent.
        return_range: (worst, best) return of an episode.
        n_max: steps until an episode is cut off.
    """
    groups = tuple(
        GroupSpec(
            name=role,
            agents=(agent,),
            obs_size=obs_size,
            n_actions=len(ACTION_NAMES),
            action_names=ACTION_NAMES,
            stay=STAY,
            features=own,
            events=events[agent],
        )
        for agent, role, own in zip(AGENTS, roles, features, strict=True)
    )
    return TaskSpec(name=name, description=description, groups=groups, return_range=return_range, max_steps=n_max)


class WalkableByFlags(Protocol):
    """Tells whether a cell can be walked on, by what has been handled."""

    def __call__(self, x: int, y: int, flags: int) -> bool: ...


def tables_of_roles(
    grid: GridMap,
    things: Sequence[Cell],
    by_role: Sequence[Sequence[int]],
    *,
    standing: Sequence[Pose],
    walkable: WalkableByFlags,
    distances: IntArray,
    progress: Callable[[Sequence[bool]], Sequence[float]],
    obs_size: int,
    n_features: int,
    start_cells: Sequence[Cell],
) -> Tables:
    """Build what the kernel looks up, for all F = 2 ** n values of the flags of n things. Read-only.

    An agent observes its pose, its teammate's, which things have been handled, where they are, and which agent it is.
    Its features are the distances to the things, the distance to its teammate, its pose, and `progress`.

    Args:
        grid: the map.
        things: their cells; thing k is bit k of the flags.
        by_role: of each agent in the order of AGENTS, indices of the things that it handles.
        standing: every pose that an agent can ever have.
        walkable: tells whether a cell can be walked on.
        distances: [n, N_POSES], fewest actions until a thing is handled.
        progress: returns the last features from what has been handled ([n]), with 0 for the agent's own count.
        obs_size: numbers that an agent observes.
        n_features: features of an agent.
        start_cells: on which agents begin.
    """
    agents, n_flags = len(AGENTS), 1 << len(things)
    obs = np.zeros((agents, n_flags, grid.n_poses, obs_size), np.float32)
    features = np.zeros((agents, n_flags, grid.n_poses, n_features), np.float32)
    for pose in standing:
        number = grid.number(*pose)
        steps = distances[:, number].tolist()
        for flags in range(n_flags):
            handled = [bool(flags >> k & 1) for k in range(len(things))]
            # The six numbers about the teammate are filled in by the kernel, and so are two of the features.
            shared = [*pose_numbers(grid, pose), *[0.0] * 6, *map(float, handled), *relative(grid, pose, things)]
            for agent in range(agents):
                obs[agent, flags, number] = [*shared, *(float(agent == i) for i in range(agents))]
            # What has been handled is no distance away.
            left = [0 if done else distance for done, distance in zip(handled, steps, strict=True)]
            features[:, flags, number] = [*left, 0, *pose, *progress(handled)]
    tables = [grid.next_poses(standing, partial(walkable, flags=flags)) for flags in range(n_flags)]
    # An agent handles the things of its role only.
    bits = [{things[k]: 1 << k for k in own} for own in by_role]
    return Tables(
        next_pose=np.stack(tables),
        trigger=np.stack([interaction(grid.facing(standing, of_role)) for of_role in bits]),
        obs=obs,
        features=features,
        start_poses=np.array([grid.number(*cell, 0) for cell in start_cells], dtype=np.int64),
    ).read_only()
