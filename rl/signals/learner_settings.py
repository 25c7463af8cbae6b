"""How the policies learn, where a proposal changes that: what is wrong is not always the signal.

Agents that share one network and see alike cannot act differently, whatever they are paid ("How Exploration Breaks
Cooperation": parameter coupling under partial observability); agents whose advantages differ in scale learn at
different rates (Dr. MAS normalises them for every agent apart); and no reward mends a step size. The list is closed,
and bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .terms.base import Model


# The prompt of the Generator shows this docstring to models, as the schema's description.
class LearnerSettings(Model):
    """How the policies learn from now on, also after the terms have left; null keeps what is in force.
    `share_parameters` false: every agent gets a network of its own, which begins as a copy of the shared one.
    `advantage_norm`: advantages are normalised over a minibatch, or for every agent apart. `lr`: Adam's step size.
    `blend_lr`: each term gets a factor, 1 at first, that moves by about so much an update to where the sparse return's
    gradient through the policy's step leads, so that what misleads fades (0: none)."""

    share_parameters: Literal[False] | None = None
    advantage_norm: Literal["minibatch", "agent"] | None = None
    lr: float | None = Field(default=None, ge=1e-5, le=1e-2)
    blend_lr: float | None = Field(default=None, ge=0, le=0.2)

    @property
    def changed(self) -> dict[str, object]:
        """What it sets, by the names of the trainer's config."""
        return self.model_dump(exclude_none=True)

    def over(self, before: LearnerSettings) -> LearnerSettings:
        """Return what is in force where these settings come after others."""
        return before.model_copy(update=self.changed)

    def describe(self) -> Iterator[str]:
        """Give a line for each setting."""
        yield from (f"learner: {key} {str(value).lower()}" for key, value in self.changed.items())
