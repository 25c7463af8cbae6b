"""LIIR (Du et al. 2019): every agent learns a reward of its own, such that learning from it serves the task.

Three things are added to MAPPO: a network that gives each agent an intrinsic reward, the task's objective after the
step of the policy that this reward causes (section 4), whose gradient the network follows, and a critic of the
extrinsic return, which is trained apart from any actor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..task import Arrays, GroupSpec, TaskSpec, splitmix64
from .bilevel import ExtrinsicCritic, extrinsic_loss_after_step
from .config import LIIRConfig
from .flat_adam import FlatAdam, load_trained_state, trained_state
from .learner import UpdateMetrics
from .mappo import MAPPO
from .networks.mlp import MLP
from .ppo import Batch
from .returns import gae

BOUND = 10.0  # of an intrinsic reward, as in the official code
# eps of Adam for η, whose gradient has α and λ as factors: 1e-10 to 1e-6 where there is something to learn
TINY = 1e-12


class AddedMetrics(NamedTuple):
    """The metrics that LIIR adds to PPO's, under these names."""

    intrinsic_reward: float  # mean size
    extrinsic_loss: float
    extrinsic_value_loss: float


class LIIR(MAPPO):
    """MAPPO on the proxy reward r_ex + λ r_in(o, u; η), whose critic is the proxy critic; η follows the gradient of the
    extrinsic objective through one step of the policy, with a central critic of the extrinsic return alone.

    r_ex is what the other algorithms learn from, the signal's shaping included. Each rollout gives η one step, before
    the policy moves, and the policy learns from the rewards that were in force. In the official code the
    gradient of every sample's return has one common weight; here each has its own, by the chain rule of the paper.
    What is added draws random numbers from a stream of its own: with λ = 0 this is MAPPO, bit for bit.
    """

    config: LIIRConfig

    def __init__(self, config: LIIRConfig, spec: TaskSpec, seed: int, device: str = "cpu") -> None:
        super().__init__(config, spec, seed, device)
        self.meta_generator = torch.Generator().manual_seed(_unrelated_seed(seed))
        self.reward_networks = [
            IntrinsicReward(members.spec, config.intrinsic_hidden, self.meta_generator).to(self.device)
            for members in self.network_groups
        ]
        self.reward_optimisers = [
            FlatAdam(
                network,
                config.intrinsic_lr,
                config.max_grad_norm,
                TINY,
                f"the intrinsic_lr reward of {members.name}",
            )
            for network, members in zip(self.reward_networks, self.network_groups, strict=True)
        ]
        self.critics = [
            ExtrinsicCritic(self.critic_size(members.spec), config, self.meta_generator, self.device, members.name)
            for members in self.network_groups
        ]

    # ------------------------------------------------------------ learning

    def update(self, batches: list[Batch]) -> list[UpdateMetrics]:
        """Update rewards and extrinsic critics, then the policies on the proxy rewards that were in force before."""
        # rewards and extrinsic critics learn first
        r_in = [self.intrinsic(n, batches[x.group]) for n, x in enumerate(self.network_groups)]
        added = [self._update_reward(n, batches[x.group], r_in[n]) for n, x in enumerate(self.network_groups)]
        # the policies learn from r_ex + λ r_in, with r_in as it was before that step
        rewards = [batch.rewards.copy() for batch in batches]
        for members, intrinsic in zip(self.network_groups, r_in, strict=True):
            weighted = self.config.intrinsic_weight * intrinsic.detach().cpu().numpy()
            rewards[members.group][:, :, members.agents] += weighted
        proxy_batches = [replace(batch, rewards=x) for batch, x in zip(batches, rewards, strict=True)]
        policies = super().update(proxy_batches)
        self.last_advantages = None  # they are of the proxy reward
        return [
            replace(metrics, losses=metrics.losses | AddedMetrics(*means)._asdict())
            for metrics, means in zip(policies, self.group_means(added), strict=True)
        ]

    def intrinsic(self, n: int, batch: Batch) -> Tensor:
        """Return r_in [T, E, A] of network n's agents, zero for those that have left."""
        agents = self.network_groups[n].agents
        obs, actions = (self.tensor(x[:, :, agents]) for x in (batch.obs, batch.actions))
        r_in: Tensor = self.reward_networks[n](obs, actions)
        return r_in if batch.alive is None else r_in * self.tensor(batch.alive[:, :, agents])

    def _update_reward(self, n: int, batch: Batch, r_in: Tensor) -> AddedMetrics:
        """Take one step of η, then the steps of the extrinsic critic."""
        members, critic = self.network_groups[n], self.critics[n]
        finished = batch.finished_samples(members.n_agents).to(self.device)
        if len(finished) < 2:
            return AddedMetrics(0.0, 0.0, 0.0)
        advantage, target = self.extrinsic_advantages(n, batch)
        # η
        loss = self.extrinsic_loss(n, batch, r_in, advantage)
        if loss is not None:
            self.reward_optimisers[n].zero_grad()
            loss.backward(inputs=list(self.reward_networks[n].parameters()))  # type: ignore[no-untyped-call]
            self.reward_optimisers[n].step()
            self.reward_optimisers[n].check_finite()
        # the extrinsic critic
        inputs = self.tensor(batch.critic_obs[:, :, members.agents]).flatten(0, 2)
        value = critic.fit(inputs[finished], target.flatten()[finished], self.meta_generator)
        size = r_in.detach().flatten()[finished].abs().mean()
        return AddedMetrics(float(size), 0.0 if loss is None else loss.item(), value)

    def extrinsic_advantages(self, n: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return advantages and targets by the extrinsic critic, each [T, E, A]."""
        agents, values = self.network_groups[n].agents, self.critics[n].values
        at_cuts = values(self.tensor(batch.cuts.critic_obs[:, agents]))
        return self.advantages_by(values(self.tensor(batch.critic_obs[:, :, agents])), at_cuts, n, batch)

    def extrinsic_loss(self, n: int, batch: Batch, r_in: Tensor, advantage: Tensor) -> Tensor | None:
        """Return L_ex(θ′), see `loss_after_step`, by r_in and extrinsic advantages [T, E, A]; None where nobody acts.

        Advantages are linear in rewards, and the proxy critic does not depend on η: r_in adds λ Σ_k (γλ_gae)^k r_in.
        """
        config, zero = self.config, torch.zeros_like(r_in)
        done = self.tensor(batch.done)[..., None].expand(r_in.shape)
        added = gae(r_in, zero, zero, zero, done, config.gamma, config.gae_lambda)
        proxy = self.with_step_rewards(n, batch, self.advantages(n, batch)[0]) + config.intrinsic_weight * added
        return extrinsic_loss_after_step(self, n, batch, proxy, advantage)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        self.meta_generator.manual_seed(_unrelated_seed(seed))

    def state_dict(self) -> Arrays:
        state = super().state_dict() | {"meta_generator": self.meta_generator.get_state().numpy().copy()}
        for n, critic in enumerate(self.critics):
            state |= trained_state(f"{n}.intrinsic.", self.reward_networks[n], self.reward_optimisers[n])
            state |= critic.state_dict(f"{n}.extrinsic.")
        return state

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        super().load_state_dict(state, directory)
        self.meta_generator.set_state(torch.from_numpy(np.asarray(state["meta_generator"]).copy()))
        for n, critic in enumerate(self.critics):
            load_trained_state(f"{n}.intrinsic.", self.reward_networks[n], self.reward_optimisers[n], state)
            critic.load_state_dict(f"{n}.extrinsic.", state)


def _unrelated_seed(seed: int) -> int:
    """Return a seed that has nothing to do with this one."""
    return splitmix64(seed ^ 0x11E7) >> 1


# ---------------------------------------------------------------- intrinsic rewards


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
