"""Two-Switch as a batch."""

from __future__ import annotations

from .grid_batch import GridBatch
from .two_switch_game import TwoSwitchGame
from .two_switch_map import RULES, kernel_tables
from .two_switch_spec import N_MAX, two_switch_spec


class BatchedTwoSwitch(GridBatch):
    """`num_envs` games in one group "agents" (green, orange), see `GridBatch`.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        spec = two_switch_spec(n_max, allow_agent_overlap)
        super().__init__(num_envs, n_max, allow_agent_overlap, spec, kernel_tables(), RULES, TwoSwitchGame)
