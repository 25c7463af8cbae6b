"""A critic that is trained apart from any actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..task import GroupSpec, TaskSpec, splitmix64
from .config import IPPOConfig, LIIRConfig
from .flat_adam import FlatAdam, load_trained, state_of
from .learner import Arrays, Learned
from .losses import Minibatch, value_loss
from .mappo import MAPPO
from .networks import MLP, ActorCritic
from .ppo import Batch, kept_samples, minibatches_of, policy_loss_and_entropy
from .returns import ValueNorm, gae

# ---------------------------------------------------------------- MERGED rl.algorithms.critic


class Critic:
    """Critic inputs [..., S] → values [...]; learned, normalised and clipped as PPO's own critic."""

    def __init__(self, inputs: int, config: IPPOConfig, generator: torch.Generator, device: torch.device) -> None:
        self.config = config
        self.network = MLP(inputs, config.hidden, 1, 1.0, generator).to(device)
        self.optimiser = FlatAdam(self.network, config.lr, config.max_grad_norm)
        self.norm = ValueNorm() if config.value_norm else None

    @torch.no_grad()
    def values(self, inputs: Tensor) -> Tensor:
        values: Tensor = self.network(inputs).squeeze(-1)
        return values if self.norm is None else self.norm.denormalised(values)

    def fit(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        """`epochs` × `minibatches` gradient steps on inputs [N, S] and targets [N], N at least 1; their mean loss."""
        if self.norm is not None:
            self.norm.add(targets)
            targets = self.norm.normalised(targets)
        number, total = min(self.config.minibatches, len(targets)), 0.0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(targets), generator=generator).to(targets.device)
            for rows in order.tensor_split(number):
                self.optimiser.zero_grad()
                loss = value_loss(self.network(inputs[rows]).squeeze(-1), targets[rows])
                (self.config.value_coef * loss).backward()  # type: ignore[no-untyped-call]
                self.optimiser.step()
                total += loss.item()
        return total / (self.config.epochs * number)

    def state_dict(self, prefix: str) -> Arrays:
        state = state_of(prefix, self.network, self.optimiser)
        return state if self.norm is None else state | {f"{prefix}value_norm": self.norm.state()}

    def load_state_dict(self, prefix: str, state: Arrays) -> None:
        load_trained(prefix, self.network, self.optimiser, state)
        if self.norm is not None:
            self.norm.load_state(state[f"{prefix}value_norm"])


# ---------------------------------------------------------------- MERGED rl.algorithms.intrinsic
# DOC """Rewards of single agents that are learned, and what they are worth: the objective of the task after the step of the
# DOC policy that they cause (LIIR, Du et al. 2019, section 4)."""

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


# ---------------------------------------------------------------- MERGED rl.algorithms.liir
# DOC """LIIR (Du et al. 2019): every agent learns a reward of its own, such that learning from it serves the task."""

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
