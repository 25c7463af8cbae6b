"""Value normalisation: the critic learns targets of zero mean and unit deviation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

DECAY = 0.99  # a rollout; the last hundred or so count


class ValueNorm:
    """Running mean and deviation of value targets, as the official MAPPO code keeps them (Yu et al. 2022): decayed sums
    of x, x² and 1, so that the first rollout already counts in full."""

    def __init__(self) -> None:
        self.sums = np.zeros(3)

    def add(self, targets: Tensor) -> None:
        """Targets of one rollout, any shape."""
        now = np.array([float(targets.mean()), float((targets**2).mean()), 1.0])
        self.sums = DECAY * self.sums + (1 - DECAY) * now

    @property
    def mean(self) -> float:
        return float(self.sums[0] / self.sums[2]) if self.sums[2] else 0.0

    @property
    def std(self) -> float:
        """At least 0.1, so that the first, almost equal targets are not blown up; 1 before any was seen."""
        if not self.sums[2]:
            return 1.0
        variance = float(self.sums[1] / self.sums[2]) - self.mean**2
        return float(np.sqrt(max(variance, 1e-2)))

    def normalised(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def denormalised(self, outputs: Tensor) -> Tensor:
        return outputs * self.std + self.mean

    def state(self) -> NDArray[np.float64]:
        return self.sums.copy()

    def load_state(self, sums: NDArray[np.generic]) -> None:
        self.sums = np.asarray(sums, np.float64).copy()
