"""Actor-critics of a few units, and their gradient."""

from __future__ import annotations

import torch
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.algorithms.losses import Minibatch, PPOLosses
from cosignal.rl.algorithms.networks.actor_critic import ActorCritic, CategoricalActorCritic, GaussianActorCritic
from cosignal.rl.algorithms.networks.mlp import MLP
from cosignal.rl.algorithms.ppo import autograd_gradient


def categorical(
    obs: int, critic: int, choices: int, hidden: tuple[int, ...], draw: torch.Generator
) -> CategoricalActorCritic:
    return CategoricalActorCritic(MLP(obs, hidden, choices, 0.01, draw), MLP(critic, hidden, 1, 1.0, draw))


def gaussian(
    obs: int, critic: int, numbers: int, hidden: tuple[int, ...], draw: torch.Generator
) -> GaussianActorCritic:
    return GaussianActorCritic(MLP(obs, hidden, numbers, 0.01, draw), MLP(critic, hidden, 1, 1.0, draw), 0.0)


def gradient(network: ActorCritic, batch: Minibatch, config: IPPOConfig, entropy_coef: float) -> PPOLosses:
    """Add the gradient of a minibatch by autograd."""
    outputs, values = network.actor(batch.obs), network.values(batch.critic_obs)
    return autograd_gradient(network, outputs, values, batch, config, entropy_coef)
