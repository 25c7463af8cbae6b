"""What recurrent actors and critics learn from: sequences of a rollout instead of single samples.

A rollout of T steps is cut into chunks of L. Each chunk of each agent is a sequence, which is unrolled from the state
that the networks were in at its start, and backpropagated through to there (Yu et al. 2022, "chunked").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .losses import Minibatch
from .networks.actor_critic import ActorCritic
from .networks.gru import GRU


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """N sequences of L steps, time first.

    Attributes:
        samples: [L, N, …] in each of its fields.
        first: [L, N], 1 where an episode begins at the step.
        finished: [L, N], false for steps that an environment did not finish; None where all were.
        actor_state, critic_state: [N, H] at the start.
    """

    samples: Minibatch
    first: Tensor
    finished: Tensor | None
    actor_state: Tensor
    critic_state: Tensor

    def __len__(self) -> int:
        return self.first.shape[1]

    def chosen(self, index: Tensor) -> Sequences:
        """Return the sequences of these numbers."""
        return Sequences(
            samples=self.samples.each(lambda x: x[:, index]),
            first=self.first[:, index],
            finished=None if self.finished is None else self.finished[:, index],
            actor_state=self.actor_state[index],
            critic_state=self.critic_state[index],
        )

    def unroll(self, network: ActorCritic) -> tuple[Tensor, Tensor, Minibatch]:
        """Return the actor's outputs [n, U] or [n, k], values [n], and the samples, of all steps that were finished."""
        actor, critic = network.actor, network.critic
        assert isinstance(actor, GRU)
        assert isinstance(critic, GRU)
        outputs, _ = actor.unroll(self.samples.obs, self.actor_state, self.first)
        values, _ = critic.unroll(self.samples.critic_obs, self.critic_state, self.first)
        return self._flat(outputs), self._flat(values).squeeze(-1), self.samples.each(self._flat)

    def _flat(self, x: Tensor) -> Tensor:
        """[L, N, …] → [n, …] of the steps that were finished."""
        return x.flatten(0, 1) if self.finished is None else x[self.finished]


def cut_into_chunks(x: Tensor, length: int) -> Tensor:
    """[T, E, A, …] → [L, N, …] with N = T / L · E · A, chunks of the same steps side by side."""
    return x.reshape(-1, length, *x.shape[1:]).movedim(1, 0).flatten(1, 3)


@torch.no_grad()
def states_at_chunks(network: GRU, x: Tensor, state: Tensor, first: Tensor, length: int) -> Tensor:
    """Return the states that chunks of `length` steps start from, [T / L · E · A, H].

    Args:
        network: as it is now.
        x: [T, E, A, inputs].
        state: [E, A, H] before the first step.
        first: [T, E, A], 1 where an episode begins.
        length: L.
    """
    if length == len(x):
        return state.flatten(0, 1)
    _, every = network.unroll(x.flatten(1, 2), state.flatten(0, 1), first.flatten(1, 2))
    return torch.cat([state.flatten(0, 1)[None], every[length - 1 : -1 : length]]).flatten(0, 1)
