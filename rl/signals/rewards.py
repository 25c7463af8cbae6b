"""The signal in force as an algorithm sees it: what any transitions are worth now, and what the critic is offset by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..experience.rollout import RewardView, added_individually
from ..task import ActionArray, BoolArray, FloatArray
from .shaping import CompiledSignal, Shaping, of_the_living


class Transitions(Protocol):
    """What shaping is computed from: a rollout, or a sample of a replay. Arrays as in `CompiledSignal.shape`."""

    @property
    def features(self) -> list[FloatArray]:
        """[g] [..., A_g, F_g] of s."""
        ...

    @property
    def last_features(self) -> list[FloatArray]:
        """The same of s', before auto-reset."""
        ...

    @property
    def events(self) -> list[FloatArray]:
        """[g] [..., A_g, V_g]."""
        ...

    @property
    def obs(self) -> list[FloatArray]:
        """[g] [..., A_g, O_g] of s."""
        ...

    @property
    def last_obs(self) -> list[FloatArray]:
        """The same of s', before auto-reset."""
        ...

    @property
    def actions(self) -> list[ActionArray]:
        """[g] [..., A_g]."""
        ...

    @property
    def terminated(self) -> FloatArray:
        """[...]"""
        ...

    @property
    def alive(self) -> list[BoolArray] | None:
        """[g] [..., A_g] in s; None where nobody leaves early."""
        ...

    @property
    def last_alive(self) -> list[BoolArray] | None:
        """The same in s'."""
        ...


class Rewards:
    """Fixed for one update. `left`: potentials that are in force no longer and live on in the critic's output; `age`:
    main steps since the version's first update."""

    def __init__(
        self,
        compiled: CompiledSignal,
        left: Sequence[CompiledSignal],
        gamma: float,
        age: int,
        paid: RewardView = "team",
    ) -> None:
        self.compiled, self.left, self.gamma, self.age, self.paid = compiled, left, gamma, age, paid

    def shape(self, found: Transitions) -> Shaping:
        """What is added to the team reward of these transitions now, whenever they were made: by the signal, and by the
        reward view."""
        shaping = self.compiled.shape(
            found.features, found.last_features, found.events, found.terminated, self.gamma, self.age,
            found.alive, found.last_alive, found.obs, found.last_obs, found.actions,
        )  # fmt: skip
        if self.paid == "team":
            return shaping
        individual = added_individually(self.paid, found.events, self.compiled.spec)
        total = [a + b for a, b in zip(shaping.total, individual, strict=True)]
        return Shaping(total, shaping.per_term)

    def offset(
        self, features: list[FloatArray], alive: list[BoolArray] | None, obs: list[FloatArray]
    ) -> list[FloatArray] | None:
        """[g] [..., A_g]: what the critic's output lacks since potentials left or annealed; None for nothing."""
        total: list[FloatArray] | None = None
        for compiled in self.left:
            values = of_the_living(compiled.potential(features, obs), alive)
            part = [(compiled.strength * x).astype(np.float32) for x in values]
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total
