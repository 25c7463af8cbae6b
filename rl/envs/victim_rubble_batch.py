"""Victim-Rubble as a batch."""

from __future__ import annotations

from .grid_batch import GridBatch
from .victim_rubble_game import VictimRubbleGame
from .victim_rubble_map import RULES, kernel_tables
from .victim_rubble_spec import N_MAX, victim_rubble_spec


class BatchedVictimRubble(GridBatch):
    """`num_envs` games in two groups, "medic" (green) and "engineer" (orange), see `GridBatch`.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        spec = victim_rubble_spec(n_max, allow_agent_overlap)
        super().__init__(num_envs, n_max, allow_agent_overlap, spec, kernel_tables(), RULES, VictimRubbleGame)
