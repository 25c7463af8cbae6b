"""The signal in force as an algorithm sees it: what any transitions are worth now, and what the critic is offset by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..task import BoolArray, FloatArray, TaskSpec
from .shaping import CompiledSignal, Shaping, of_the_living
from .signal import Signal


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
        self, compiled: CompiledSignal, left: Sequence[Signal], spec: TaskSpec, gamma: float, age: int
    ) -> None:
        self.compiled, self.gamma, self.age = compiled, gamma, age
        self.left = [CompiledSignal(signal, spec) for signal in left]

    def shape(self, found: Transitions) -> Shaping:
        """What the signal adds to the team reward of these transitions now, whenever they were made."""
        return self.compiled.shape(
            found.features, found.last_features, found.events, found.terminated, self.gamma, self.age,
            found.alive, found.last_alive,
        )  # fmt: skip

    def offset(self, features: list[FloatArray], alive: list[BoolArray] | None = None) -> list[FloatArray] | None:
        """[g] [..., A_g]: what the critic's output lacks since potentials left or annealed; None for nothing."""
        total: list[FloatArray] | None = None
        for compiled in self.left:
            values = of_the_living(compiled.potential(features), alive)
            part = [(compiled.strength * x).astype(np.float32) for x in values]
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total
