"""Advantages and targets from rewards and values, and the normalisation of value targets."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, zeros_like

DECAY = 0.99  # of `ValueNorm`, a rollout: the last hundred or so count
MIN_VARIANCE = 1e-2  # so that the first, almost equal targets are not blown up


def gae(
    r_t: Tensor, v_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, done_t: Tensor, gamma: float, lam: float
) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, eq. 16), with time limits bootstrapped.

        δ_t = r_t + γ · v_{t+1} · (1 − terminated_t) − v_t
        A_t = δ_t + γλ · (1 − done_t) · A_{t+1}

    Args:
        r_t: [T, ...] reward for the step from s_t.
        v_t: [T, ...] value of s_t.
        v_tp1: [T, ...] value of the state that the step led to, *before* auto-reset.
        terminated_t: [T, ...] 1 where the task ended, so that nothing follows.
        done_t: [T, ...] 1 where it terminated or was cut by a time limit: another episode follows, but v_{t+1} still
            counts where it was only cut.
        gamma: the discount γ.
        lam: the decay λ of the weights of later errors.

    Returns:
        A_t [T, ...].

    Raises:
        ValueError: shapes differ.
    """
    if not (r_t.shape == v_t.shape == v_tp1.shape == terminated_t.shape == done_t.shape):
        raise ValueError(
            f"gae needs equal shapes, got {[tuple(x.shape) for x in (r_t, v_t, v_tp1, terminated_t, done_t)]}"
        )
    delta_t = r_t + gamma * v_tp1 * (1 - terminated_t) - v_t
    weight_t = gamma * lam * (1 - done_t)
    if delta_t.device.type == "cpu" and not delta_t.requires_grad:
        add_later_rows(delta_t.reshape(len(delta_t), -1).numpy(), weight_t.reshape(len(delta_t), -1).numpy())
        return delta_t
    # the same in torch
    advantage_t, running = zeros_like(delta_t), zeros_like(delta_t[0])
    for t in range(len(delta_t) - 1, -1, -1):
        running = delta_t[t] + weight_t[t] * running
        advantage_t[t] = running
    return advantage_t


@njit(nogil=True, cache=True)
def add_later_rows(x: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Add to each row of x [T, n] the one behind it times its own weights [T, n], from the last to the first."""
    for t in range(len(x) - 2, -1, -1):
        for i in range(x.shape[1]):
            x[t, i] += weights[t, i] * x[t + 1, i]


def td_target(r_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, gamma: float) -> Tensor:
    """Return one-step targets r_t + γ · v_{t+1} · (1 − terminated_t), with time limits bootstrapped.

    All of one shape.
    """
    return r_t + gamma * v_tp1 * (1 - terminated_t)


class ValueNorm:
    """Running mean and deviation of value targets, as the official MAPPO code keeps them (Yu et al. 2022).

    Attributes:
        sums: [3] decayed sums of x, x² and 1, so that the first rollout already counts in full.
    """

    def __init__(self) -> None:
        self.sums = np.zeros(3)

    def add(self, targets: Tensor) -> None:
        """Count the targets of one rollout, in any shape."""
        means = np.array([float(targets.mean()), float((targets**2).mean()), 1.0])
        self.sums = DECAY * self.sums + (1 - DECAY) * means

    @property
    def mean(self) -> float:
        return float(self.sums[0] / self.sums[2]) if self.sums[2] else 0.0

    @property
    def std(self) -> float:
        """At least 0.1; 1 before any target was seen."""
        if not self.sums[2]:
            return 1.0
        variance = float(self.sums[1] / self.sums[2]) - self.mean**2
        return float(np.sqrt(max(variance, MIN_VARIANCE)))

    def normalised(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def denormalised(self, outputs: Tensor) -> Tensor:
        return outputs * self.std + self.mean

    def state(self) -> NDArray[np.float64]:
        return self.sums.copy()

    def load_state(self, sums: NDArray[np.generic]) -> None:
        self.sums = np.asarray(sums, np.float64).copy()


class RewardScale:
    """1 over the standard deviation of the sparse rewards so far, where rewards are to be standardised; else 1.

    Their mean stays: taking it away would pay for, or punish, every further step of an episode. Shaping is scaled by
    the same number, and plays no part in it.

    Attributes:
        moments: [3] of the sparse rewards so far: number, sum, sum of squares.
    """

    def __init__(self, standardise: bool) -> None:
        self.standardise = standardise
        self.moments = np.zeros(3)

    def add(self, reward: NDArray[np.float32]) -> None:
        """Count sparse rewards, in any shape. Raises FloatingPointError where their squares are no numbers."""
        self.moments += reward.size, float(reward.sum()), float((reward**2).sum())
        if not np.isfinite(self.moments).all():
            raise FloatingPointError("the sum of the squared rewards")

    @property
    def value(self) -> float:
        """1 until rewards differ."""
        number, total, squares = self.moments
        if not self.standardise or not number:
            return 1.0
        variance = squares / number - (total / number) ** 2
        return float(variance**-0.5) if variance > 1e-8 else 1.0

    def state(self) -> NDArray[np.float64]:
        return self.moments.copy()

    def load_state(self, moments: NDArray[np.generic]) -> None:
        self.moments = np.asarray(moments, np.float64).copy()
