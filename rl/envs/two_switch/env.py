"""Two-Switch as a PettingZoo `ParallelEnv`, as a `Task`, and as a compiled batch.

The game is that of LCA (Lin et al., arXiv 2502.03723), rebuilt from its description. To train on it through the generic
wrapper instead of the native batch, set `task.env` to "cosignal.rl.envs.two_switch:TwoSwitchEnv", `team_reward` to
mean and `agent_ids` to false.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..adapter import Task
from ..grid.batch import GridBatch
from ..grid.env import GridEnv, viewpoint
from ..grid.map import AGENTS
from .game import TwoSwitchGame
from .heuristic import TwoSwitchHeuristic
from .map import DOOR, GOAL, RULES, SWITCH_A, SWITCH_B, kernel_tables
from .spec import EVENTS, N_MAX, RETURN_RANGE, description, features, two_switch_spec


class TwoSwitchEnv(GridEnv):
    """The ParallelEnv. Observations are float32 [20], see `TwoSwitchGame.observation`."""

    return_range: ClassVar[tuple[float, float]] = RETURN_RANGE
    game_type = TwoSwitchGame

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True, render_mode: str | None = None) -> None:
        # Two poses and two flags are 0 at least; relative places may be negative.
        lowest = np.array([0.0] * 14 + [-1.0] * 6, dtype=np.float32)
        super().__init__("two_switch", lowest, n_max, allow_agent_overlap, render_mode)
        self.description = description(n_max, allow_agent_overlap)
        self.feature_specs = dict.fromkeys(AGENTS, features(allow_agent_overlap))
        self.event_specs = dict.fromkeys(AGENTS, EVENTS)


class TwoSwitchTask(Task):
    """The environment with all its declarations, and a heuristic that judges single agents' moves.

    Args:
        n_max: time limit of an episode in steps.
        allow_agent_overlap: whether agents may share a cell.
    """

    heuristic = TwoSwitchHeuristic()

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        super().__init__(TwoSwitchEnv(n_max, allow_agent_overlap, render_mode="ansi"))

    def viewpoint(self, agent: str) -> str:
        game: TwoSwitchGame = self.env.game
        switches = " ".join(
            f"Switch {name} at ({x},{y}): {'triggered' if on else 'not triggered'}."
            for name, (x, y), on in zip("AB", (SWITCH_A, SWITCH_B), game.triggered, strict=True)
        )
        door = "open" if game.door_open else "closed, it opens when both switches are triggered"
        return (
            f"{viewpoint(game, agent)} {switches} Door at ({DOOR[0]},{DOOR[1]}): {door}. Goal at ({GOAL[0]},{GOAL[1]})."
        )


class BatchedTwoSwitch(GridBatch):
    """The compiled batch, in one group "agents" (green, orange); see `GridBatch`.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        spec = two_switch_spec(n_max, allow_agent_overlap)
        super().__init__(num_envs, n_max, allow_agent_overlap, spec, kernel_tables(), RULES, TwoSwitchGame)
