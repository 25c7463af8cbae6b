"""Small feed-forward actors and critics, and drawing actions from them.

An actor-critic has two networks apart from each other. The actor's outputs are the logits of a choice, or the means of
numbers. For choices, drawing is one compiled pass over the logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from .losses import categorical_entropy, gaussian_entropy, gaussian_log_prob

MAX_LOG_STD = 1.0
FORBIDDEN_LOGIT = -1e9  # the probability is 0 exactly, and nothing becomes infinite


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
        # one list for Python, the other so that torch names the weights
        self.linears = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        self.layers = nn.ModuleList(self.linears)
        for layer in self.linears:
            is_last = layer is self.linears[-1]
            nn.init.orthogonal_(layer.weight, last_gain if is_last else 2**0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.linears
        for layer in hidden:
            x = self.activation(linear(x, layer.weight, layer.bias))
        return linear(x, last.weight, last.bias)


class ActorCritic(nn.Module, ABC):
    """Actor and critic of the agents that share them.

    Observations [..., O] → `outputs` numbers of the policy; critic inputs [..., S] → values [...].
    """

    def __init__(
        self, obs_size: int, critic_size: int, outputs: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.actor = MLP(obs_size, hidden, outputs, 0.01, generator)
        self.critic = MLP(critic_size, hidden, 1, 1.0, generator)

    @abstractmethod
    def log_prob_and_entropy(self, obs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Value actions by the policy.

        Args:
            obs: [N, O].
            actions: taken there, [N] or [N, k].
            forbidden: [N, U], true where an action was forbidden; None where none was.

        Returns:
            Log-probabilities [N], and the policy's mean entropy in nats.
        """

    def values(self, critic_obs: Tensor) -> Tensor:
        values: Tensor = self.critic(critic_obs).squeeze(-1)
        return values

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Multiply the last actor layer, so that the policy becomes more uniform (the exploration kick)."""
        for parameter in self.actor.layers[-1].parameters():
            parameter.mul_(factor)


class CategoricalActorCritic(ActorCritic):
    """Chooses one of U actions; the actor's outputs are logits."""

    def logits(self, obs: Tensor) -> Tensor:
        logits: Tensor = self.actor(obs)
        return logits

    def log_prob_and_entropy(self, obs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = self.logits(obs)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, FORBIDDEN_LOGIT)
        logp_all = torch.log_softmax(logits, -1)
        return logp_all.gather(-1, actions[:, None]).squeeze(-1), categorical_entropy(logp_all)


class GaussianActorCritic(ActorCritic):
    """Chooses k numbers at once, each from a normal distribution; the actor's outputs are the means.

    The standard deviations are learned and the same in every state, as in PPO's own code (Schulman et al. 2017), up to
    e: beyond it nearly all that is drawn would be clipped. What is drawn is not bounded: a task clips it to -1..1.
    """

    def __init__(
        self,
        obs_size: int,
        critic_size: int,
        outputs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        log_std_init: float,
    ) -> None:
        super().__init__(obs_size, critic_size, outputs, hidden, generator)
        self.log_std_init = log_std_init
        self.log_std = nn.Parameter(torch.full((outputs,), log_std_init))

    def sample(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions [..., k] at obs [..., O], and return their log-densities [...] too."""
        mean = self.actor(obs)
        # drawn on the CPU, so that a seed gives the same numbers on every device
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        action = mean + self.bounded_log_std().exp() * noise
        return action, gaussian_log_prob(action, mean, self.bounded_log_std())

    def bounded_log_std(self) -> Tensor:
        """Return the logarithms of the standard deviations, [k]."""
        return self.log_std.clamp(max=MAX_LOG_STD)

    def log_prob_and_entropy(self, obs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002 nothing of a Box is forbidden
        logp = gaussian_log_prob(actions, self.actor(obs), self.bounded_log_std())
        return logp, gaussian_entropy(self.bounded_log_std())

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Move means towards the middle, and standard deviations towards what they were at the start."""
        super().scale_actor_head(factor)
        self.log_std.copy_(self.log_std_init + factor * (self.bounded_log_std() - self.log_std_init))


@njit(nogil=True, cache=True, error_model="numpy")
def sample_categorical(
    logits: NDArray[np.float32], uniform: NDArray[np.float32], actions: NDArray[np.int64], logp: NDArray[np.float32]
) -> None:
    """Draw from categorical distributions by inversion.

    What has no weight is never drawn, whatever rounding leaves over.

    Args:
        logits: [N, U].
        uniform: [N] random numbers in [0, 1).
        actions: [N], overwritten by the choices.
        logp: [N], overwritten by their log-probabilities.
    """
    rows, n_actions = logits.shape
    weights = np.empty(n_actions, np.float32)
    for i in range(rows):
        # unnormalised probabilities; `last` is the last action that has one at all
        top = logits[i].max()
        total, last = np.float32(0.0), 0
        for u in range(n_actions):
            weights[u] = np.exp(logits[i, u] - top)
            total += weights[u]
            if weights[u] > 0:
                last = u
        # walk along the weights until the drawn share of their sum is used up
        left = uniform[i] * total
        chosen = 0
        while chosen < last and left >= weights[chosen]:
            left -= weights[chosen]
            chosen += 1
        actions[i] = chosen
        logp[i] = logits[i, chosen] - top - np.log(total)
