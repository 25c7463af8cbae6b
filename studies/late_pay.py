"""A task whose team is paid in the last step only, for what each of many agents did on the way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from ..rl.task import FeatureSpec, FloatArray
from .small_task import SmallTask

WORKERS, STEPS = 20, 40
SOLVED = 0.9  # of the choices that are right, for success


class LatePay(SmallTask):
    """Each of twenty workers sees one of three marks in each of 40 steps, and ought to choose the action of its number.

    The last step pays the share of all choices that were right: a third for chance, 1 at best. A worker's feature
    `done` is how often it was right. Observations are float32 [3], one-hot.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "late_pay", "is_parallelizable": True}
    return_range, max_steps = (0.0, 1.0), STEPS
    description = (
        f"{WORKERS} workers each see one of three marks in each of {STEPS} steps, and choose one of three actions. In "
        "the last step the team is paid the share of all choices that were those of the marks. Success: 0.9 of them."
    )
    action_names = ("first", "second", "third")
    workers = tuple(f"worker_{i}" for i in range(WORKERS))
    seen, said = Box(0, 1, (3,)), Discrete(3)
    features = (
        FeatureSpec(
            name="done", kind="quantity", low=0, high=STEPS, description="Choices of the worker that were right so far."
        ),
    )

    def begin(self) -> None:
        """Start an episode."""
        self.done = dict.fromkeys(self.workers, 0)
        self._draw_marks()

    def play(self, actions: dict[str, int]) -> float:
        """Make one joint step, and return the share of all choices that were right, in the last step."""
        for agent, mark in self.marks.items():
            self.done[agent] += actions[agent] == mark
        self._draw_marks()
        return self._right if self.ended else 0.0

    def _draw_marks(self) -> None:
        self.marks = {agent: int(self.rng.integers(3)) for agent in self.workers}

    @property
    def _right(self) -> float:
        return sum(self.done.values()) / (WORKERS * STEPS)

    def observed(self, agent: str) -> FloatArray:
        """Return an agent's mark, one-hot."""
        return np.array([mark == self.marks[agent] for mark in range(3)], np.float32)

    def features_of(self, agent: str) -> dict[str, float]:
        """Return an agent's features by name."""
        return {"done": self.done[agent]}

    @property
    def ended(self) -> bool:
        """Whether the steps are over."""
        return self.t >= STEPS

    @property
    def solved(self) -> bool:
        """Whether enough of the choices were right."""
        return self.ended and self._right >= SOLVED
