"""Loss functions of the policy-gradient algorithms, and the minibatches that they are computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

HUBER = 10.0  # from this error on the value loss is linear


class Minibatch(NamedTuple):
    """N samples of one network, in random order."""

    obs: Tensor  # [N, O]
    critic_obs: Tensor  # [N, S]
    actions: Tensor  # [N] int64, or [N, k]
    logp_old: Tensor  # [N]
    advantage: Tensor  # [N]
    target: Tensor  # [N] of the critic's output
    forbidden: Tensor | None = None  # [N, U] true where an action was forbidden
    acting: Tensor | None = None  # [N] false for an agent that had left: the critic learns from it, the policy does not

    def each(self, change: Callable[[Tensor], Tensor]) -> Minibatch:
        """Return a minibatch of `change(x)` for each tensor x; a critic that sees what its actor sees still does."""
        changed = self._replace(**{name: change(x) for name, x in self._asdict().items() if x is not None})
        return changed._replace(critic_obs=changed.obs) if self.critic_obs is self.obs else changed


class PPOLosses(NamedTuple):
    """The parts of PPO's loss, each a mean over a minibatch or over an update."""

    policy: float
    value: float
    entropy: float  # of the policy, in nats


def normalised(advantage: Tensor, acting: Tensor | None = None) -> Tensor:
    """Give advantages [N] zero mean and unit standard deviation, both taken over those who act."""
    counted = advantage if acting is None else advantage[acting]
    # of a single sample there is no deviation, and of none no mean
    if len(counted) < 2:
        return advantage - counted.mean() if len(counted) else advantage
    return (advantage - counted.mean()) / (counted.std() + 1e-8)


def ppo_policy_loss(logp: Tensor, logp_old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return the clipped surrogate (Schulman et al. 2017, eq. 7), negated so that it is minimised. All [N] → scalar.

    L = −E[min(ρ A, clip(ρ, 1−ε, 1+ε) A)],  ρ = exp(logp − logp_old)
    """
    ratio = torch.exp(logp - logp_old)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def value_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Return the Huber loss with threshold 10 (Yu et al. 2022): a squared error with a bounded gradient.

    All [N] → scalar.
    """
    return huber_loss(values, targets, delta=HUBER)


def gaussian_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of independent normal distributions. action, mean [..., k], log_std [k] → [...].

    Σ_j −½ ((a_j − μ_j) / σ_j)² − log σ_j − ½ log 2π
    """
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Return the differential entropy in nats, Σ_j log σ_j + ½ log 2πe. log_std [k] → scalar; it may be negative."""
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()


def categorical_entropy(logp_all: Tensor) -> Tensor:
    """Return the mean entropy in nats of categorical distributions given as log-probabilities [N, U] → scalar."""
    return -(logp_all.exp() * logp_all).sum(-1).mean()
