"""A deceptive chain: a small reward near, a large one far, and nothing on the way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from ..rl.task import FeatureSpec, FloatArray
from .small_task import SmallTask

LENGTH, STEPS = 12, 30  # cells to the right of the start; the left end is next to it
SMALL, LARGE = 0.1, 1.0


class Chain(SmallTask):
    """Two walkers on a chain of cells go left or right in every step; they move only where both go the same way.

    The left end, one step from the start, ends the episode and pays 0.1; the right end, twelve steps away, pays 1. So
    by chance next to nobody comes to the right end, and what pays first leads away from it.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "chain", "is_parallelizable": True}
    return_range, max_steps = (0.0, 1.0), STEPS
    description = (
        f"Two walkers go left or right on a chain, and move where both go the same way. The left end is one step from "
        f"the start and pays {SMALL}, the right end is {LENGTH} steps away and pays {LARGE}; either ends the episode. "
        "Success: the right end."
    )
    action_names = ("left", "right")
    workers = ("one", "other")
    seen, said = Box(0, 1, (2,)), Discrete(2)

    def __init__(self, length: int = LENGTH) -> None:
        self.length = length
        cell = FeatureSpec(
            name="cell", kind="count", low=0, high=length, description="Cells to the right of the start."
        )
        self.features = (cell,)
        super().__init__()

    def begin(self) -> None:
        """Start an episode."""
        self._cell = 0

    def play(self, actions: dict[str, int]) -> float:
        """Make one joint step, and return what the end pays that the walkers have come to."""
        moves = {2 * action - 1 for action in actions.values()}
        self._cell += moves.pop() if len(moves) == 1 else 0
        return (LARGE if self.solved else SMALL) if self.ended else 0.0

    def observed(self, agent: str) -> FloatArray:  # noqa: ARG002
        """Return the cell and the time, as shares."""
        return np.array([self._cell / self.length, self.t / STEPS], np.float32).clip(0, 1)

    def features_of(self, agent: str) -> dict[str, float]:  # noqa: ARG002
        """Return an agent's features by name."""
        return {"cell": max(self._cell, 0)}

    @property
    def ended(self) -> bool:
        """Whether the walkers are at an end of the chain."""
        return self._cell in (-1, self.length)

    @property
    def solved(self) -> bool:
        """Whether they are at the right one."""
        return self._cell == self.length
