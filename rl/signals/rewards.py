"""The signal in force as an algorithm sees it: what any transitions are worth now, and what the critic is offset by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..experience.rollout import Rollout, Transitions
from ..task import BoolArray, FloatArray
from .reward_view import RewardView, added_individually
from .shaping import CompiledSignal, Shaping, SignalMemory
from .terms.base import zero_where_gone


class Rewards:
    """Everything that agents are paid besides the team reward, fixed for one update.

    Attributes:
        compiled: the signal in force.
        left: potentials that are in force no longer, and offset the critic's output.
        gamma: the discount factor of the learner, in 0..1.
        age: main environment steps since the version's first update.
        paid: which agents the task's own reward is paid to.
    """

    def __init__(
        self,
        compiled: CompiledSignal,
        left: Sequence[CompiledSignal],
        gamma: float,
        age: int,
        paid: RewardView = "team",
    ) -> None:
        self.compiled, self.left, self.gamma, self.age, self.paid = compiled, left, gamma, age, paid

    def shape(self, transitions: Transitions, memory: SignalMemory | None = None) -> Shaping:
        """Return what is added to the team reward of these transitions now, whenever they were made.

        The signal adds to it, and the reward view.

        Args:
            transitions: in any order; consecutive steps [T, E] where there is a memory.
            memory: what terms remember of the running episodes; it is brought forward in place.
        """
        shaping = self.compiled.shape(transitions, self.gamma, self.age, memory)
        if self.paid == "team":
            return shaping
        individual = added_individually(self.paid, transitions.events, self.compiled.spec)
        total = [a + b for a, b in zip(shaping.total, individual, strict=True)]
        return Shaping(total, shaping.per_term)

    def step_rewards(self, rollout: Rollout) -> list[FloatArray] | None:
        """Return [g] [T, E, A_g]: what is added to advantages, in their standard deviations; None where nothing is."""
        return self.compiled.step_rewards(rollout, self.age)

    def offset(
        self, features: list[FloatArray], alive: list[BoolArray] | None, obs: list[FloatArray]
    ) -> list[FloatArray] | None:
        """Return what the critic's output lacks since potentials left or annealed.

        Args:
            features: [g] [..., A_g, F_g] of the states that the critic looks at.
            alive: [g] [..., A_g], None where nobody leaves early.
            obs: [g] [..., A_g, O_g] of the same states.

        Returns:
            [g] [..., A_g], None where nothing has left.
        """
        total: list[FloatArray] | None = None
        for compiled in self.left:
            values = zero_where_gone(compiled.potential(features, obs), alive)
            part = [(compiled.strength * x).astype(np.float32) for x in values]
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total
