"""A task whose agents are paid for what they do themselves, one a hundred times as much as the other."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from ..rl.task import EventSpec, FeatureSpec, FloatArray
from .small_task import SmallTask

MARKS, STEPS = 3, 10
SOLVED = 0.9  # of the choices of either that are right, for success
PAID = {"cheap": 0.01, "dear": 1.0}  # for a choice that is right


class Scales(SmallTask):
    """Two workers each see one of three marks in every step; `cheap` ought to choose its number, `dear` the next one.

    A right choice is an event, which pays 0.01 for `cheap` and 1 for `dear`: a return of 10.1 at best. Where each is
    paid for its own events (`trainer.reward: individual`), the advantages of `cheap` are a hundred times smaller.
    Observations are float32 [3], one-hot.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "scales", "is_parallelizable": True}
    return_range, max_steps = (0.0, STEPS * sum(PAID.values())), STEPS
    description = (
        f"Two workers each see one of {MARKS} marks in each of {STEPS} steps, and choose one of {MARKS} actions. "
        "`cheap` is right with that of its mark and earns the team 0.01, `dear` with the one after it and earns 1. "
        "Success: both are right in 0.9 of their choices."
    )
    action_names = ("first", "second", "third")
    workers = tuple(PAID)
    seen, said = Box(0, 1, (MARKS,)), Discrete(MARKS)
    features = (
        FeatureSpec(
            name="done", kind="quantity", low=0, high=STEPS, description="Choices of the worker that were right so far."
        ),
    )
    events = tuple(
        EventSpec(name=f"{name}_right", description=f"A right choice of {name}.", reward=paid)
        for name, paid in PAID.items()
    )

    def begin(self) -> None:
        """Start an episode."""
        self.done, self._was_right = dict.fromkeys(self.workers, 0), dict.fromkeys(self.workers, False)
        self._draw_marks()

    def play(self, actions: dict[str, int]) -> float:
        """Make one joint step, and return what the right choices earn."""
        wanted = {"cheap": self.marks["cheap"], "dear": (self.marks["dear"] + 1) % MARKS}
        self._was_right = {name: actions[name] == wanted[name] for name in self.workers}
        for name, right in self._was_right.items():
            self.done[name] += right
        self._draw_marks()
        return sum(PAID[name] * right for name, right in self._was_right.items())

    def _draw_marks(self) -> None:
        self.marks = {name: int(self.rng.integers(MARKS)) for name in self.workers}

    def observed(self, agent: str) -> FloatArray:
        """Return an agent's mark, one-hot."""
        return np.array([mark == self.marks[agent] for mark in range(MARKS)], np.float32)

    def features_of(self, agent: str) -> dict[str, float]:
        """Return an agent's features by name."""
        return {"done": self.done[agent]}

    def events_of(self, agent: str) -> dict[str, int]:
        """Return whether an agent's last choice was right."""
        return {f"{agent}_right": int(self._was_right[agent])}

    @property
    def ended(self) -> bool:
        """Whether the steps are over."""
        return self.t >= STEPS

    @property
    def solved(self) -> bool:
        """Whether enough of the choices of either were right."""
        return self.ended and min(self.done.values()) >= SOLVED * STEPS
