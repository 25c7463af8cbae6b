"""Small feed-forward networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, last_gain: float, generator: torch.Generator
) -> nn.Sequential:
    """tanh layers with orthogonal weights (gain √2, the last `last_gain`) and zero biases.

    The initialisation is the one of "What Matters In On-Policy RL?" (Andrychowicz et al. 2021) and of the official
    MAPPO code: a small last gain makes the first policy almost uniform.
    """
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, last_gain if last else 2**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


class ActorCritic(nn.Module):
    """Separate actor and critic of one group; all agents of the group share them.

    obs [..., O_g] → logits [..., U] and values [...].
    """

    def __init__(self, obs_size: int, n_actions: int, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.actor = mlp(obs_size, hidden, n_actions, 0.01, generator)
        self.critic = mlp(obs_size, hidden, 1, 1.0, generator)

    def logits(self, obs: Tensor) -> Tensor:
        out: Tensor = self.actor(obs)
        return out

    def values(self, obs: Tensor) -> Tensor:
        out: Tensor = self.critic(obs).squeeze(-1)
        return out

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Multiply the last actor layer, so that the policy becomes more uniform (the exploration kick)."""
        head = self.actor[-1]
        for parameter in head.parameters():
            parameter.mul_(factor)
