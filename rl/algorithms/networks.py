"""Small feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class MLP(nn.Module):
    """[..., inputs] → [..., outputs]; tanh between layers. Orthogonal weights (gain √2, last `last_gain`), zero biases.

    The initialisation is the one of "What Matters In On-Policy RL?" (Andrychowicz et al. 2021) and of the official
    MAPPO code: a small last gain makes the first policy almost uniform.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        last_gain: float,
        generator: torch.Generator,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden, outputs]
        self.linears = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        self.layers = nn.ModuleList(self.linears)
        for layer in self.linears:
            last = layer is self.linears[-1]
            nn.init.orthogonal_(layer.weight, last_gain if last else 2**0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.linears
        for layer in hidden:
            x = self.activation(linear(x, layer.weight, layer.bias))
        return linear(x, last.weight, last.bias)


class ActorCritic(nn.Module):
    """Actor and critic of the agents that share them, apart from each other.

    obs [..., O] → logits [..., U]; critic inputs [..., S] → values [...].
    """

    def __init__(
        self, obs_size: int, critic_size: int, n_actions: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.actor = MLP(obs_size, hidden, n_actions, 0.01, generator)
        self.critic = MLP(critic_size, hidden, 1, 1.0, generator)

    def logits(self, obs: Tensor) -> Tensor:
        out: Tensor = self.actor(obs)
        return out

    def values(self, critic_obs: Tensor) -> Tensor:
        out: Tensor = self.critic(critic_obs).squeeze(-1)
        return out

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Multiply the last actor layer, so that the policy becomes more uniform (the exploration kick)."""
        for parameter in self.actor.layers[-1].parameters():
            parameter.mul_(factor)
