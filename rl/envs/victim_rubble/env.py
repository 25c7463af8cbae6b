"""Victim-Rubble as a PettingZoo `ParallelEnv`, as a `Task`, and as a compiled batch.

The game is that of LCA (Lin et al., arXiv 2502.03723), rebuilt from its description on the smallest map that has the
coordinates of its prompts. To train on it through the generic wrapper instead of the native batch, set `task.env` to
"cosignal.rl.envs.victim_rubble:VictimRubbleTask", `team_reward` to mean and `agent_ids` to false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..adapter import Task
from ..grid.batch import GridBatch
from ..grid.env import GridEnv, viewpoint
from ..grid.map import AGENTS, Cell
from .game import VictimRubbleGame
from .heuristic import VictimRubbleHeuristic
from .map import BLOCKING, CHAMBERS, OBS_SIZE, ROLES, RUBBLE, RULES, THINGS, VICTIMS, in_chamber, kernel_tables
from .spec import EVENTS, N_MAX, RETURN_RANGE, description, features, victim_rubble_spec

_BLOCKED = {
    BLOCKING[0]: "blocking the only passage between Chamber5 and Chamber3 from the side of Chamber5",
    BLOCKING[1]: "blocking the only passage to Chamber4, which holds Victim2",
}


class VictimRubbleEnv(GridEnv):
    """The ParallelEnv. Observations are float32 [29], see `VictimRubbleGame.observation`."""

    return_range: ClassVar[tuple[float, float]] = RETURN_RANGE
    game_type = VictimRubbleGame

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True, render_mode: str | None = None) -> None:
        # Relative places may be negative; they come before the role's two numbers.
        lowest, relative = np.zeros(OBS_SIZE, dtype=np.float32), 2 * len(THINGS)
        lowest[-2 - relative : -2] = -1.0
        super().__init__("victim_rubble", lowest, n_max, allow_agent_overlap, render_mode)
        self.description = description(n_max, allow_agent_overlap)
        self.feature_specs = {agent: features(i, allow_agent_overlap) for i, agent in enumerate(AGENTS)}
        self.event_specs = EVENTS


class VictimRubbleTask(Task):
    """The environment with all its declarations, and a heuristic that judges single agents' moves.

    The groups are "medic" (green) and "engineer" (orange).

    Args:
        n_max: time limit of an episode in steps.
        allow_agent_overlap: whether agents may share a cell.
    """

    heuristic = VictimRubbleHeuristic()

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        super().__init__(VictimRubbleEnv(n_max, allow_agent_overlap, render_mode="ansi"))

    def groups(self) -> Mapping[str, Sequence[Any]]:
        return {role: [agent] for role, agent in zip(ROLES, AGENTS, strict=True)}

    def viewpoint(self, agent: str) -> str:
        game: VictimRubbleGame = self.env.game
        who = viewpoint(game, agent, place, f", the {ROLES[AGENTS.index(agent)]},")
        things = []
        for number, k in enumerate(VICTIMS, start=1):
            things.append(f"Victim{number} at {place(THINGS[k])}: {'healed' if game.handled[k] else 'not healed'}.")
        for number, k in enumerate(RUBBLE, start=1):
            state = "cleared" if game.handled[k] else _BLOCKED.get(k, "blocking nothing")
            things.append(f"Rubble{number} at {place(THINGS[k])}: {state}.")
        return " ".join([who, *things])


class BatchedVictimRubble(GridBatch):
    """The compiled batch, in two groups, "medic" (green) and "engineer" (orange); see `GridBatch`.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        spec = victim_rubble_spec(n_max, allow_agent_overlap)
        super().__init__(num_envs, n_max, allow_agent_overlap, spec, kernel_tables(), RULES, VictimRubbleGame)


def place(cell: Cell) -> str:
    """Name a cell by its chamber, as in "Chamber3 (4,3)"; a cell between two chambers is a passage."""
    number = next((n for n in range(1, len(CHAMBERS) + 1) if in_chamber(n, cell)), None)
    return f"{'passage' if number is None else f'Chamber{number}'} ({cell[0]},{cell[1]})"
