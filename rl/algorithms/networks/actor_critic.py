"""An actor and a critic, two networks apart from each other.

The actor's outputs are the logits of a choice, or the means of numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..losses import categorical_entropy, gaussian_entropy, gaussian_log_prob
from .factory import Network
from .gru import GRU
from .sampling import FORBIDDEN_LOGIT

MAX_LOG_STD = 1.0


class ActorCritic(nn.Module, ABC):
    """Actor and critic of the agents that share them.

    Attributes:
        actor: observations → numbers of the policy.
        critic: critic inputs → values.
        recurrent: whether both carry a state from step to step.
    """

    def __init__(self, actor: Network, critic: Network) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    @property
    def recurrent(self) -> bool:
        return isinstance(self.actor, GRU)

    @abstractmethod
    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Value actions by the policy.

        Args:
            outputs: of the actor, [N, U] or [N, k].
            actions: taken there, [N] or [N, k].
            forbidden: [N, U], true where an action was forbidden; None where none was.

        Returns:
            Log-probabilities [N], and the policy's mean entropy in nats.
        """

    def values(self, critic_obs: Tensor) -> Tensor:
        """Critic inputs [..., S] → values [...], of a critic without a state."""
        values: Tensor = self.critic(critic_obs).squeeze(-1)
        return values

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Multiply the last actor layer, so that the policy becomes more uniform (the exploration kick)."""
        for parameter in self.actor.head.parameters():
            parameter.mul_(factor)


class CategoricalActorCritic(ActorCritic):
    """Chooses one of U actions; the actor's outputs are logits."""

    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:
        if forbidden is not None:
            outputs = outputs.masked_fill(forbidden, FORBIDDEN_LOGIT)
        logp_all = torch.log_softmax(outputs, -1)
        return logp_all.gather(-1, actions[:, None]).squeeze(-1), categorical_entropy(logp_all)


class GaussianActorCritic(ActorCritic):
    """Chooses k numbers at once, each from a normal distribution; the actor's outputs are the means.

    The standard deviations are learned and the same in every state, as in PPO's own code (Schulman et al. 2017), up to
    e: beyond it nearly all that is drawn would be clipped. What is drawn is not bounded: a task clips it to -1..1.
    """

    def __init__(self, actor: Network, critic: Network, log_std_init: float) -> None:
        super().__init__(actor, critic)
        self.log_std_init = log_std_init
        self.log_std = nn.Parameter(torch.full((actor.head.out_features,), log_std_init))

    def sample(self, mean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions [..., k] by their means [..., k], and return their log-densities [...] too."""
        # drawn on the CPU, so that a seed gives the same numbers on every device
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        action = mean + self.bounded_log_std().exp() * noise
        return action, gaussian_log_prob(action, mean, self.bounded_log_std())

    def bounded_log_std(self) -> Tensor:
        """Return the logarithms of the standard deviations, [k]."""
        return self.log_std.clamp(max=MAX_LOG_STD)

    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002 nothing of a Box is forbidden
        logp = gaussian_log_prob(actions, outputs, self.bounded_log_std())
        return logp, gaussian_entropy(self.bounded_log_std())

    @torch.no_grad()
    def scale_actor_head(self, factor: float) -> None:
        """Move means towards the middle, and standard deviations towards what they were at the start."""
        super().scale_actor_head(factor)
        self.log_std.copy_(self.log_std_init + factor * (self.bounded_log_std() - self.log_std_init))
