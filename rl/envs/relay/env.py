"""Relay as a PettingZoo `ParallelEnv`, as a `Task`, and as a compiled batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..adapter import Task
from ..grid.batch import GridBatch
from ..grid.env import GridEnv, viewpoint
from ..grid.map import AGENTS
from .game import RelayGame
from .map import LEVERS, OBS_SIZE, ROLES, RULES, kernel_tables
from .spec import EVENTS, N_MAX, RETURN_RANGE, description, features, relay_spec


class RelayEnv(GridEnv):
    """The ParallelEnv. Observations are float32 [26], see `RelayGame.observation`."""

    return_range: ClassVar[tuple[float, float]] = RETURN_RANGE
    game_type = RelayGame

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True, render_mode: str | None = None) -> None:
        # Relative places may be negative; they come before the role's two numbers.
        lowest, relative = np.zeros(OBS_SIZE, dtype=np.float32), 2 * len(LEVERS)
        lowest[-2 - relative : -2] = -1.0
        super().__init__("relay", lowest, n_max, allow_agent_overlap, render_mode)
        self.description = description(n_max, allow_agent_overlap)
        self.feature_specs = {agent: features(i, allow_agent_overlap) for i, agent in enumerate(AGENTS)}
        self.event_specs = EVENTS


class RelayTask(Task):
    """The environment with all its declarations, in the groups "guide" (green) and "porter" (orange).

    Args:
        n_max: time limit of an episode in steps.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        super().__init__(RelayEnv(n_max, allow_agent_overlap, render_mode="ansi"))

    def groups(self) -> Mapping[str, Sequence[Any]]:
        return {role: [agent] for role, agent in zip(ROLES, AGENTS, strict=True)}

    def viewpoint(self, agent: str) -> str:
        game: RelayGame = self.env.game
        who = viewpoint(game, agent, role=f", the {ROLES[AGENTS.index(agent)]},")
        levers = (
            f"Lever {number} at ({x},{y}): {'pulled' if game.pulled[number - 1] else 'not pulled'}."
            for number, (x, y) in enumerate(LEVERS, start=1)
        )
        return " ".join([who, *levers])


class BatchedRelay(GridBatch):
    """The compiled batch, in two groups, "guide" (green) and "porter" (orange); see `GridBatch`.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        spec = relay_spec(n_max, allow_agent_overlap)
        super().__init__(num_envs, n_max, allow_agent_overlap, spec, kernel_tables(), RULES, RelayGame)
