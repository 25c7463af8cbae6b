"""LIIR (Du et al. 2019): every agent learns a reward of its own, such that learning from it serves the task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..task import TaskSpec, splitmix64
from .config import LIIRConfig
from .critic import Critic
from .flat import FlatAdam, load_trained, state_of
from .intrinsic import IntrinsicReward, loss_after_step
from .learner import Arrays, Learned
from .losses import Minibatch
from .mappo import MAPPO
from .ppo import Batch, kept_samples, minibatches_of
from .returns import gae

TINY = (
    1e-12  # eps of Adam for η, whose gradient has α and λ as factors: 1e-10 to 1e-6 where there is something to learn
)


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
        self.meta_generator = torch.Generator().manual_seed(_other(seed))
        groups = [part.spec for part in self.parts]
        self.reward_networks = [
            IntrinsicReward(group, config.intrinsic_hidden, self.meta_generator).to(self.device) for group in groups
        ]
        self.reward_optimisers = [
            FlatAdam(x, config.intrinsic_lr, config.max_grad_norm, TINY) for x in self.reward_networks
        ]
        self.critics = [
            Critic(self.critic_size(group), config, self.meta_generator, self.device) for group in groups
        ]  # of the extrinsic return

    # ------------------------------------------------------------ learning

    def update(self, batches: list[Batch]) -> list[Learned]:
        """As PPO's, with the losses of what is added."""
        r_in = [self.intrinsic(p, batches[part.group]) for p, part in enumerate(self.parts)]
        found = [self._update_reward(p, batches[part.group], r_in[p]) for p, part in enumerate(self.parts)]
        learned = []
        for g, of_policy in enumerate(super().update(self._with_intrinsic(batches, r_in))):
            mine = [losses for part, losses in zip(self.parts, found, strict=True) if part.group == g]
            reward, loss, value = np.mean(mine, axis=0).tolist()
            added = {"intrinsic_reward": reward, "extrinsic_loss": loss, "extrinsic_value_loss": value}
            learned.append(replace(of_policy, losses=of_policy.losses | added))
        return learned

    def intrinsic(self, p: int, batch: Batch) -> Tensor:
        """r_in [T, E, A] of the part's agents, zero for those that have left."""
        agents = self.parts[p].agents
        obs, actions = (self._tensor(x[:, :, agents]) for x in (batch.obs, batch.actions))
        found: Tensor = self.reward_networks[p](obs, actions)
        return found if batch.alive is None else found * self._tensor(batch.alive[:, :, agents])

    def _with_intrinsic(self, batches: list[Batch], r_in: list[Tensor]) -> list[Batch]:
        """The same with proxy rewards."""
        rewards = [batch.rewards.copy() for batch in batches]
        for part, added in zip(self.parts, r_in, strict=True):
            rewards[part.group][:, :, part.agents] += self.config.intrinsic_weight * added.detach().cpu().numpy()
        return [replace(batch, rewards=x) for batch, x in zip(batches, rewards, strict=True)]

    def _update_reward(self, p: int, batch: Batch, r_in: Tensor) -> list[float]:
        """One step of η, then those of the extrinsic critic; mean |r_in|, the loss of the one and of the other."""
        kept = kept_samples(batch, self.parts[p].n_agents).to(self.device)
        if len(kept) < 2:
            return [0.0, 0.0, 0.0]
        critic = self.critics[p]
        advantage, target = self._advantages(p, batch, lambda inputs: critic.values(self._tensor(inputs)))
        loss = self.extrinsic_loss(p, batch, r_in, advantage)
        if loss is not None:
            self.reward_optimisers[p].zero_grad()
            loss.backward(inputs=list(self.reward_networks[p].parameters()))  # type: ignore[no-untyped-call]
            self.reward_optimisers[p].step()
        inputs = self._tensor(batch.critic_obs[:, :, self.parts[p].agents]).flatten(0, 2)
        value = critic.fit(inputs[kept], target.flatten()[kept], self.meta_generator)
        reward = r_in.detach().flatten()[kept].abs().mean()
        return [float(reward), 0.0 if loss is None else loss.item(), value]

    def extrinsic_loss(self, p: int, batch: Batch, r_in: Tensor, advantage: Tensor) -> Tensor | None:
        """L_ex(θ′), see `loss_after_step`, of r_in and extrinsic advantages [T, E, A]; None where nobody acts.

        Advantages are linear in rewards, and the proxy critic does not depend on η: r_in adds λ Σ_k (γλ_gae)^k r_in.
        """
        config, zero = self.config, torch.zeros_like(r_in)
        done = self._tensor(batch.done)[..., None].expand(r_in.shape)
        added = gae(r_in, zero, zero, zero, done, config.gamma, config.gae_lambda)
        proxy = self.advantages(p, batch)[0] + config.intrinsic_weight * added
        kept = kept_samples(batch, self.parts[p].n_agents).to(self.device)
        for_proxy, for_task = (self._whole(p, batch, x, kept) for x in (proxy, advantage))
        if for_task.acting is not None and not for_task.acting.any():
            return None
        return loss_after_step(self.networks[p], for_proxy, for_task, config.clip, self.entropy_coef, config.lr)

    def _whole(self, p: int, batch: Batch, advantage: Tensor, kept: Tensor) -> Minibatch:
        """All samples that count as one minibatch, with these advantages [T, E, A] normalised as PPO does."""
        flat = self._flat(p, batch, self._normalised_by_agent(batch, advantage), torch.zeros_like(advantage))
        return self._normalised(next(minibatches_of(flat, kept, 1)))

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        self.meta_generator.manual_seed(_other(seed))

    def state_dict(self) -> Arrays:
        state = super().state_dict() | {"meta_generator": self.meta_generator.get_state().numpy().copy()}
        for p, critic in enumerate(self.critics):
            state |= state_of(f"{p}.intrinsic.", self.reward_networks[p], self.reward_optimisers[p])
            state |= critic.state_dict(f"{p}.extrinsic.")
        return state

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        super().load_state_dict(state, directory)
        self.meta_generator.set_state(torch.from_numpy(np.asarray(state["meta_generator"]).copy()))
        for p, critic in enumerate(self.critics):
            load_trained(f"{p}.intrinsic.", self.reward_networks[p], self.reward_optimisers[p], state)
            critic.load_state_dict(f"{p}.extrinsic.", state)


def _other(seed: int) -> int:
    """A seed that has nothing to do with this one."""
    return splitmix64(seed ^ 0x11E7) >> 1
