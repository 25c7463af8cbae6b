"""Bounds on what repeating a rewarded step adds up to (Clip and Delta: arXiv 2410.15115).

    clip    r′_k = min(r_k − η, 0)          an episode pays 0 at most, so that no step is worth repeating
    delta   r′_k = r_k − γ r_{k+1}          from any step on an episode pays r_k, discounted, however often it repeats

After the last step of an episode nothing follows, and r′ = r. The paper has delta at γ = 1; with the learner's γ its
sums telescope in the returns that are learned from. Where a rollout ends before the episode does, r_{k+1} is not played
yet: it is taken back at the first step of the next rollout, so that sums stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...task import Arrays, FloatArray
    from .base import Values

Bound = Literal["none", "clip", "delta"]


def clipped(rewards: Values, eta: float) -> Values:
    """Return min(r − η, 0)."""
    return np.minimum(rewards - eta, 0.0)


def delta(rewards: Values, done: FloatArray, running: NDArray[Any], gamma: float) -> Values:
    """Return r_k − γ r_{k+1} within episodes, [T, E, A].

    Args:
        rewards: [T, E, A] of consecutive steps.
        done: [T, E], 1 where an episode ends with the step.
        running: [E], 1 where an episode has steps before the first of these.
        gamma: the discount factor of the learner, in 0..1.
    """
    paid = rewards.copy()
    paid[:-1] -= gamma * rewards[1:] * (1.0 - done[:-1, :, None])
    paid[0] -= rewards[0] * running[:, None]
    return paid


def running_memory(envs: int) -> Arrays:
    """Return what `delta` remembers of the running episodes, at their start."""
    return {"running": np.zeros(envs, np.float32)}
