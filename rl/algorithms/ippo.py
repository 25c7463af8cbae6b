"""Independent PPO with parameters shared inside a group (de Witt et al. 2020; PPO: Schulman et al. 2017).

Every agent learns from its own reward with its own observation; agents of a group are samples of one policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import IPPOConfig
from ..task import FloatArray, IntArray, TaskSpec
from .losses import categorical_entropy, normalised, ppo_policy_loss, value_loss
from .networks import ActorCritic
from .returns import gae

Arrays = dict[str, NDArray[np.generic]]


@dataclass
class Batch:
    """One rollout of one group. `offset`: what is added to the critic's output for potentials that were removed."""

    obs: FloatArray  # [T, E, A_g, O_g]
    last_obs: FloatArray  # [T, E, A_g, O_g], before auto-reset
    actions: IntArray  # [T, E, A_g]
    logp: FloatArray  # [T, E, A_g]
    rewards: FloatArray  # [T, E, A_g]
    terminated: FloatArray  # [T, E]
    done: FloatArray  # [T, E]
    offset: FloatArray | None  # [T, E, A_g] at s
    last_offset: FloatArray | None  # [T, E, A_g] at s'


@dataclass
class Losses:
    policy: float
    value: float
    entropy: float


class IPPO:
    """Networks, optimisers and random stream of one training line. One CPU thread: set by the process."""

    def __init__(self, config: IPPOConfig, spec: TaskSpec, seed: int) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.networks = [
            ActorCritic(group.obs_size, group.n_actions, config.hidden, self.generator) for group in spec.groups
        ]
        self.optimisers = [torch.optim.Adam(n.parameters(), lr=config.lr, eps=1e-5, fused=True) for n in self.networks]

    @torch.inference_mode()
    def act(
        self, obs: list[FloatArray], generator: torch.Generator | None = None
    ) -> tuple[list[IntArray], list[FloatArray]]:
        """Sample an action for every agent: obs [g] [E, A_g, O_g] → actions, log-probabilities [g] [E, A_g]."""
        actions, logps = [], []
        for network, group_obs in zip(self.networks, obs, strict=True):
            logp = torch.log_softmax(network.logits(torch.from_numpy(group_obs)), -1)
            noise = torch.empty_like(logp).exponential_(generator=generator or self.generator)
            action = (logp - noise.log_()).argmax(-1)  # Gumbel-max: the same as sampling the categorical
            actions.append(action.numpy())
            logps.append(logp.gather(-1, action[..., None]).squeeze(-1).numpy())
        return actions, logps

    def update(self, batches: list[Batch], entropy_coef: float) -> list[Losses]:
        """`epochs` × `minibatches` gradient steps per group on one rollout; mean losses [g]."""
        return [self._update_group(g, batch, entropy_coef) for g, batch in enumerate(batches)]

    @torch.no_grad()
    def advantages(self, g: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """(advantages, value targets for the network), each [T, E, A_g]."""
        network, config = self.networks[g], self.config
        obs = torch.from_numpy(batch.obs)
        values = network.values(obs)
        # s' of step t is s of step t+1 except where an episode ended, and at the end of the rollout
        next_values = torch.empty_like(values)
        next_values[:-1] = values[1:]
        next_values[-1] = network.values(torch.from_numpy(batch.last_obs[-1]))
        cut_t, cut_e = np.nonzero(batch.done[:-1])
        if len(cut_t):
            next_values[cut_t, cut_e] = network.values(torch.from_numpy(batch.last_obs[cut_t, cut_e]))
        offset: Tensor | float = 0.0
        if batch.offset is not None and batch.last_offset is not None:
            offset = torch.from_numpy(batch.offset)
            values = values + offset
            next_values = next_values + torch.from_numpy(batch.last_offset)
        shape = values.shape
        terminated = torch.from_numpy(batch.terminated)[..., None].expand(shape)
        done = torch.from_numpy(batch.done)[..., None].expand(shape)
        rewards = torch.from_numpy(batch.rewards)
        advantage = gae(rewards, values, next_values, terminated, done, config.gamma, config.gae_lambda)
        return advantage, advantage + values - offset

    def _update_group(self, g: int, batch: Batch, entropy_coef: float) -> Losses:
        config = self.config
        advantage, target = (x.flatten() for x in self.advantages(g, batch))
        obs = torch.from_numpy(batch.obs).flatten(0, 2)
        actions = torch.from_numpy(batch.actions).flatten()
        logp_old = torch.from_numpy(batch.logp).flatten()
        sums = torch.zeros(3)
        for _ in range(config.epochs):
            order = torch.randperm(len(obs), generator=self.generator)
            for index in order.tensor_split(config.minibatches):
                sums += self._step(
                    g, obs[index], actions[index], logp_old[index], advantage[index], target[index], entropy_coef
                )
        return Losses(*(sums / (config.epochs * config.minibatches)).tolist())

    def _step(
        self,
        g: int,
        obs: Tensor,
        actions: Tensor,
        logp_old: Tensor,
        advantage: Tensor,
        target: Tensor,
        entropy_coef: float,
    ) -> Tensor:
        network, optimiser, config = self.networks[g], self.optimisers[g], self.config
        logp_all = torch.log_softmax(network.logits(obs), -1)
        logp = logp_all.gather(-1, actions[:, None]).squeeze(-1)
        policy = ppo_policy_loss(logp, logp_old, normalised(advantage), config.clip)
        value = value_loss(network.values(obs), target)
        entropy = categorical_entropy(logp_all)
        optimiser.zero_grad(set_to_none=True)
        loss = policy + config.value_coef * value - entropy_coef * entropy
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm, foreach=True)
        optimiser.step()
        return torch.stack([policy.detach(), value.detach(), entropy.detach()])

    def kick(self, factor: float) -> None:
        """Scale every actor head by `factor` (0..1]."""
        for network in self.networks:
            network.scale_actor_head(factor)

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def state_dict(self) -> Arrays:
        """Weights, Adam moments and random stream as numpy arrays, copied."""
        state: Arrays = {"generator": self.generator.get_state().numpy().copy()}
        for g, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            for name, parameter in network.named_parameters():
                state[f"{g}.{name}"] = parameter.detach().numpy().copy()
                for key, moment in optimiser.state[parameter].items():  # empty before the first update
                    state[f"{g}.{name}.{key}"] = moment.numpy().copy()
        return state

    def load_state_dict(self, state: Arrays) -> None:
        self.generator.set_state(torch.from_numpy(np.asarray(state["generator"]).copy()))
        for g, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            optimiser.state.clear()
            for name, parameter in network.named_parameters():
                parameter.data.copy_(torch.from_numpy(state[f"{g}.{name}"]))
                if f"{g}.{name}.step" in state:
                    keys = ("step", "exp_avg", "exp_avg_sq")
                    optimiser.state[parameter] = {
                        k: torch.from_numpy(np.asarray(state[f"{g}.{name}.{k}"]).copy()) for k in keys
                    }
