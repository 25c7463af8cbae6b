"""A task whose agents observe the same and have to act differently: no reward teaches that to a network they share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from ..rl.task import FeatureSpec, FloatArray
from .small_task import SmallTask

STATIONS, STEPS = 4, 10
SOLVED = 0.9  # share of the steps in which every station is manned, for success


class Stations(SmallTask):
    """Four workers each go to one of four stations in every step, and observe nothing but a 1.

    Every step pays the share of stations that are manned, divided by the number of steps: a return of 1 at best. With
    one stochastic policy for all, the best that can be expected is 1 − (3/4)⁴ = 0.68 of the stations.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "stations", "is_parallelizable": True}
    return_range, max_steps = (0.0, 1.0), STEPS
    description = (
        f"{STATIONS} workers each choose one of {STATIONS} stations in each of {STEPS} steps, and observe nothing. The "
        "team is paid the share of stations that are manned. Success: all are, in 0.9 of the steps."
    )
    action_names = tuple(f"station_{i}" for i in range(STATIONS))
    workers = tuple(f"worker_{i}" for i in range(STATIONS))
    seen, said = Box(0, 1, (1,)), Discrete(STATIONS)
    features = (
        FeatureSpec(
            name="crowd", kind="quantity", low=0, high=STATIONS - 1, description="Other workers at its last station."
        ),
    )

    def begin(self) -> None:
        """Start an episode."""
        self._full, self._crowds = 0, dict.fromkeys(self.workers, 0)

    def play(self, actions: dict[str, int]) -> float:
        """Make one joint step, and return the share of stations that are manned, by the number of steps."""
        at = [*actions.values()]
        self._crowds = {agent: at.count(station) - 1 for agent, station in actions.items()}
        manned = len(set(at))
        self._full += manned == STATIONS
        return manned / STATIONS / STEPS

    def observed(self, agent: str) -> FloatArray:  # noqa: ARG002
        """Return a 1."""
        return np.ones(1, np.float32)

    def features_of(self, agent: str) -> dict[str, float]:
        """Return an agent's features by name."""
        return {"crowd": self._crowds[agent]}

    @property
    def ended(self) -> bool:
        """Whether the steps are over."""
        return self.t >= STEPS

    @property
    def solved(self) -> bool:
        """Whether every station was manned for long enough."""
        return self.ended and self._full >= SOLVED * STEPS
