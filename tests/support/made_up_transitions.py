"""Transitions as tests make them up: only what a test is about."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from cosignal.rl.task import ActionArray, BoolArray, FloatArray


@dataclass
class MadeUpTransitions:
    """Arrays of any leading shape, as `Transitions` has them."""

    features: list[FloatArray]
    last_features: list[FloatArray]
    events: list[FloatArray]
    terminated: np.ndarray
    obs: list[FloatArray] = field(default_factory=list)
    last_obs: list[FloatArray] = field(default_factory=list)
    actions: list[ActionArray] = field(default_factory=list)
    done: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # [T, E] where steps are in order
    alive: list[BoolArray] | None = None
    last_alive: list[BoolArray] | None = None
