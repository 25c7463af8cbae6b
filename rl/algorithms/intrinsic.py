"""Rewards of single agents that are learned, and what they are worth: the objective of the task after the step of the
policy that they cause (LIIR, Du et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..task import GroupSpec
from .losses import Minibatch
from .networks import MLP, ActorCritic
from .ppo import policy_loss_and_entropy

BOUND = 10.0  # of an intrinsic reward, as in the official code


class IntrinsicReward(nn.Module):
    """r_in(o, u; η) = 10 tanh(x / 10), x of a network that sees observation and action: -10..10, at first almost 0."""

    def __init__(self, group: GroupSpec, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.n_choices = None if group.continuous else group.n_actions
        width = len(group.action_bounds) if self.n_choices is None else self.n_choices
        self.network = MLP(group.obs_size + width, hidden, 1, 0.01, generator)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """obs [..., O], actions [...] int64, or [..., k] numbers, clipped to -1..1 as tasks do → [...]."""
        if self.n_choices is None:
            coded = actions.clamp(-1, 1)
        else:
            coded = nn.functional.one_hot(actions, self.n_choices)
        x: Tensor = self.network(torch.cat([obs, coded.to(obs.dtype)], -1)).squeeze(-1)
        return BOUND * torch.tanh(x / BOUND)


class _PolicyLoss(nn.Module):
    """A module, so that torch can call it with other weights."""

    def __init__(self, network: ActorCritic, clip: float) -> None:
        super().__init__()
        self.network, self.clip = network, clip

    def forward(self, batch: Minibatch) -> tuple[Tensor, Tensor]:
        return policy_loss_and_entropy(self.network, batch, self.clip)


def loss_after_step(
    network: ActorCritic, proxy: Minibatch, extrinsic: Minibatch, clip: float, entropy_coef: float, lr: float
) -> Tensor:
    """L_ex(θ′) with θ′ = θ − α ∇_θ (L_proxy(θ; η) − c_e H(θ)), a scalar; θ stays as it is.

    Both losses are PPO's clipped surrogate, on the same samples with different advantages. Differentiable in all that
    `proxy.advantage` was computed from. Somebody must act in the samples.
    """
    loss = _PolicyLoss(network, clip)
    weights = {name: w for name, w in loss.named_parameters() if not name.startswith("network.critic.")}
    policy, entropy = loss(proxy)
    slopes = torch.autograd.grad(policy - entropy_coef * entropy, list(weights.values()), create_graph=True)
    moved = {name: w - lr * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    found: Tensor = torch.func.functional_call(loss, moved, (extrinsic,))[0]
    return found
