"""Proximal policy optimisation (Schulman et al. 2017) of many agents: IPPO and MAPPO differ in what the critic sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import ActionArray, BoolArray, FloatArray, GroupSpec, TaskSpec
from .config import IPPOConfig
from .critic_inputs import views
from .flat_adam import FlatAdam, load_trained, state_of
from .fused_mlp import Kernel
from .learner import Arrays, Learned
from .losses import Minibatch, normalised, ppo_policy_loss, value_loss
from .networks import BLOCKED, ActorCritic, CategoricalActorCritic, GaussianActorCritic, sample
from .parameter_sharing import network_groups
from .returns import ValueNorm, gae


@dataclass
class Batch:
    """One rollout of one group. `ends_*`: the steps (t, e) whose next state is not row t + 1: an episode was cut there,
    or the rollout ends. `offset`: what is added to the critic's output for potentials that were removed."""

    obs: FloatArray  # [T, E, A_g, O_g]
    critic_obs: FloatArray  # [T, E, A_g, S_g]
    ends: tuple[NDArray[np.intp], NDArray[np.intp]]  # t [n], e [n]
    ends_critic_obs: FloatArray  # [n, A_g, S_g] of s', before auto-reset
    actions: ActionArray  # [T, E, A_g], or [T, E, A_g, k] in a Box
    logp: FloatArray  # [T, E, A_g]
    rewards: FloatArray  # [T, E, A_g]
    terminated: FloatArray  # [T, E]
    done: FloatArray  # [T, E]
    offset: FloatArray | None = None  # [T, E, A_g] at s
    last_offset: FloatArray | None = None  # [T, E, A_g] at s'
    masks: BoolArray | None = None  # [T, E, A_g, U]
    alive: BoolArray | None = None  # [T, E, A_g]
    lost: FloatArray | None = None  # [T, E] steps that an environment did not finish; nothing is learned from them


class PPO(ABC):
    """What IPPO and MAPPO share: see `Learner` for the methods that a training line calls."""

    def __init__(self, config: IPPOConfig, spec: TaskSpec, seed: int, device: str = "cpu") -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.entropy_coef = config.entropy
        self.generator = torch.Generator().manual_seed(seed)
        self.parts = network_groups(spec, config.share_parameters)
        self.networks = [self._network(part.spec).to(self.device) for part in self.parts]
        self.optimisers = [FlatAdam(network, config.lr, config.max_grad_norm) for network in self.networks]
        self.kernels = [self._kernel(network) for network in self.networks]
        self.value_norms = [ValueNorm() if config.value_norm else None for _ in self.parts]

    @abstractmethod
    def critic_size(self, group: GroupSpec) -> int:
        """S_g: width of the critic's input."""

    @abstractmethod
    def critic_inputs(self, seen: list[FloatArray]) -> list[FloatArray]:
        """Views [g] [..., A_g, V_g] → [g] [..., A_g, S_g]."""

    def _network(self, group: GroupSpec) -> ActorCritic:
        obs_size, critic_size, config = group.obs_size, self.critic_size(group), self.config
        if group.continuous:
            outputs = len(group.action_bounds)
            return GaussianActorCritic(
                obs_size, critic_size, outputs, config.hidden, self.generator, config.log_std_init
            )
        return CategoricalActorCritic(obs_size, critic_size, group.n_actions, config.hidden, self.generator)

    def _kernel(self, network: ActorCritic) -> Kernel | None:
        """None where autograd has to do it."""
        if self.device.type == "cpu" and isinstance(network, CategoricalActorCritic):
            return Kernel(network, self.config.clip, self.config.value_coef)
        return None

    # ------------------------------------------------------------ acting

    @torch.no_grad()
    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """Sampled from the policy."""
        groups = self.spec.groups
        actions: list[ActionArray] = [
            np.empty((*x.shape[:-1], *group.action_shape), group.action_dtype)
            for x, group in zip(obs, groups, strict=True)
        ]
        logps: list[FloatArray] = [np.empty(x.shape[:-1], np.float32) for x in obs]
        for p, part in enumerate(self.parts):
            g, mine = part.group, (..., part.agents)
            blocked = None if masks is None else ~masks[g][..., part.agents, :]
            rows = (*mine, slice(None)) if groups[g].continuous else mine
            actions[g][rows], logps[g][mine] = self._sampled(
                p, obs[g][..., part.agents, :], blocked, generator or self.generator
            )
        return actions, logps

    def _sampled(
        self, p: int, obs: FloatArray, blocked: BoolArray | None, generator: torch.Generator
    ) -> tuple[ActionArray, FloatArray]:
        """obs [..., O], blocked [..., U] → actions [...] or [..., k], log-probabilities [...]."""
        network = self.networks[p]
        if isinstance(network, GaussianActorCritic):
            numbers, density = network.sample(self._tensor(obs), generator)
            return numbers.cpu().numpy(), density.cpu().numpy()
        logits = self._logits(p, obs).reshape(-1, self.parts[p].spec.n_actions)
        if blocked is not None:
            np.copyto(logits, BLOCKED, where=blocked.reshape(logits.shape))
        uniform = torch.rand(len(logits), generator=generator)
        action, logp = np.empty(len(logits), np.int64), np.empty(len(logits), np.float32)
        sample(logits, uniform.numpy(), action, logp)
        return action.reshape(obs.shape[:-1]), logp.reshape(obs.shape[:-1])

    def _logits(self, p: int, obs: FloatArray) -> FloatArray:
        kernel, network = self.kernels[p], self.networks[p]
        assert isinstance(network, CategoricalActorCritic)
        found: FloatArray = (kernel or network).logits(self._tensor(obs)).cpu().numpy()
        return found

    def act_to_evaluate(
        self, obs: list[FloatArray], generator: torch.Generator, masks: list[BoolArray] | None = None
    ) -> list[ActionArray]:
        return self.act(obs, generator, masks)[0]

    def explore(self, entropy: float | None) -> None:
        self.entropy_coef = self.config.entropy if entropy is None else entropy

    def kick(self, factor: float) -> None:
        """Scale every actor head by `factor` (0..1]."""
        for network in self.networks:
            network.scale_actor_head(factor)

    # ------------------------------------------------------------ learning

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[Learned]:
        return self.update(self.batches(rollout, shaping, rewards))

    def batches(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[Batch]:
        """What is learned from a rollout, [g]."""
        done = _cut_before_lost(rollout)
        cut = done > 0
        cut[-1] = True
        ends = np.nonzero(cut)
        last_alive = None if rollout.last_alive is None else [x[ends] for x in rollout.last_alive]
        critic_obs = self.critic_inputs(views(self.spec, rollout.obs, rollout.alive))
        ends_critic_obs = self.critic_inputs(views(self.spec, [x[ends] for x in rollout.last_obs], last_alive))
        offset = rewards.offset(rollout.features, rollout.alive, rollout.obs)
        last_offset = rewards.offset(rollout.last_features, rollout.last_alive, rollout.last_obs)
        return [
            Batch(
                rollout.obs[g], critic_obs[g], (ends[0], ends[1]), ends_critic_obs[g], rollout.actions[g],
                rollout.logp[g], (rollout.reward[..., None] + shaping.total[g]).astype(np.float32),
                rollout.terminated, done,
                None if offset is None else offset[g], None if last_offset is None else last_offset[g],
                None if rollout.masks is None or self.spec.groups[g].continuous else rollout.masks[g],
                None if rollout.alive is None else rollout.alive[g], rollout.lost,
            )
            for g in range(len(self.spec.groups))
        ]  # fmt: skip

    def update(self, batches: list[Batch]) -> list[Learned]:
        """`epochs` × `minibatches` gradient steps a network; mean losses [g]."""
        found = [self._update_part(p, batches[part.group]) for p, part in enumerate(self.parts)]
        learned = []
        for g in range(len(self.spec.groups)):
            mine = [losses for part, losses in zip(self.parts, found, strict=True) if part.group == g]
            policy, value, entropy = np.mean(mine, axis=0).tolist()
            learned.append(Learned(entropy, {"policy_loss": policy, "value_loss": value}))
        return learned

    def advantages(self, p: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """(advantages, returns less the offset, which the network is to learn), each [T, E, A] of the part's agents."""
        return self._advantages(p, batch, partial(self._values, p))

    @torch.no_grad()
    def _advantages(self, p: int, batch: Batch, critic: Callable[[FloatArray], Tensor]) -> tuple[Tensor, Tensor]:
        """As `advantages`, by a critic's values [...] of its inputs [..., S]."""
        agents = self.parts[p].agents
        values = critic(batch.critic_obs[:, :, agents])
        next_values = torch.empty_like(values)
        next_values[:-1] = values[1:]
        next_values[batch.ends] = critic(batch.ends_critic_obs[:, agents])
        offset: Tensor | float = 0.0
        if batch.offset is not None and batch.last_offset is not None:
            offset = self._tensor(batch.offset[:, :, agents])
            values = values + offset
            next_values = next_values + self._tensor(batch.last_offset[:, :, agents])
        terminated = self._tensor(batch.terminated)[..., None].expand(values.shape)
        done = self._tensor(batch.done)[..., None].expand(values.shape)
        rewards = self._tensor(batch.rewards[:, :, agents])
        advantage = gae(rewards, values, next_values, terminated, done, self.config.gamma, self.config.gae_lambda)
        return advantage, advantage + values - offset

    def _values(self, p: int, critic_obs: FloatArray) -> Tensor:
        outputs, norm = self.kernels[p] or self.networks[p], self.value_norms[p]
        values = outputs.values(self._tensor(critic_obs)).clone()
        return values if norm is None else norm.denormalised(values)

    def _update_part(self, p: int, batch: Batch) -> list[float]:
        config, kept = self.config, kept_samples(batch, self.parts[p].n_agents)
        number = min(config.minibatches, len(kept) // 2)  # of at least two samples, which have a deviation
        if not number:
            return [0.0, 0.0, 0.0]
        whole, sums = self._samples(p, batch), np.zeros(3)
        for _ in range(config.epochs):
            order = kept[torch.randperm(len(kept), generator=self.generator)].to(self.device)
            for minibatch in minibatches_of(whole, order, number):
                sums += self._gradient(p, self._normalised(minibatch))
                self.optimisers[p].step()
        found: list[float] = (sums / (config.epochs * number)).tolist()
        return found

    def _samples(self, p: int, batch: Batch) -> Minibatch:
        """All samples of the rollout, flat."""
        norm = self.value_norms[p]
        advantage, target = self.advantages(p, batch)
        if norm is not None:
            norm.add(counted(batch, target))
            target = norm.normalised(target)
        return self._flat(p, batch, self._normalised_by_agent(batch, advantage), target)

    def _flat(self, p: int, batch: Batch, advantage: Tensor, target: Tensor) -> Minibatch:
        """The rollout with these advantages and targets [T, E, A] of the part's agents."""
        agents = self.parts[p].agents
        obs, critic_obs, actions, logp = (
            self._tensor(x[:, :, agents]).flatten(0, 2)
            for x in (batch.obs, batch.critic_obs, batch.actions, batch.logp)
        )
        critic_obs = obs if batch.critic_obs is batch.obs else critic_obs
        blocked = None if batch.masks is None else ~self._tensor(batch.masks[:, :, agents]).flatten(0, 2)
        acting = None if batch.alive is None else self._tensor(batch.alive[:, :, agents]).flatten(0, 2)
        return Minibatch(obs, critic_obs, actions, logp, advantage.flatten(), target.flatten(), blocked, acting)

    def _normalised_by_agent(self, batch: Batch, advantage: Tensor) -> Tensor:
        """[T, E, A] → [T, E, A], unchanged where minibatches are normalised."""
        if self.config.advantage_norm != "agent":
            return advantage
        of_agents = counted(batch, advantage)
        return (advantage - of_agents.mean((0, 1))) / (of_agents.std((0, 1)) + 1e-8)

    def _normalised(self, minibatch: Minibatch) -> Minibatch:
        """Unchanged where the advantages of agents are normalised apart."""
        if self.config.advantage_norm != "minibatch":
            return minibatch
        return minibatch._replace(advantage=normalised(minibatch.advantage, minibatch.acting))

    def _gradient(self, p: int, minibatch: Minibatch) -> tuple[float, float, float]:
        kernel = self.kernels[p]
        if kernel is not None:
            return kernel.gradient(minibatch, self.entropy_coef)
        self.optimisers[p].zero_grad()
        return autograd_gradient(self.networks[p], minibatch, self.config, self.entropy_coef)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def state_dict(self) -> Arrays:
        """Weights, Adam moments and random stream as numpy arrays, copied."""
        state: Arrays = {"generator": self.generator.get_state().numpy().copy()}
        for p, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            norm = self.value_norms[p]
            state |= state_of(f"{p}.", network, optimiser)
            state |= {f"{p}.value_norm": norm.state()} if norm is not None else {}
        return state

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:  # noqa: ARG002 all is in the arrays
        self.generator.set_state(torch.from_numpy(np.asarray(state["generator"]).copy()))
        for p, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            norm = self.value_norms[p]
            load_trained(f"{p}.", network, optimiser, state)
            if norm is not None:
                norm.load_state(state[f"{p}.value_norm"])

    def link_files(self, directory: Path) -> None:  # noqa: B027 nothing to link: all is in the arrays
        pass


def autograd_gradient(
    network: ActorCritic, batch: Minibatch, config: IPPOConfig, entropy_coef: float
) -> tuple[float, float, float]:
    """Adds ∂L/∂θ of one minibatch to the gradients; losses of policy and value, and the entropy in nats."""
    policy, entropy = policy_loss_and_entropy(network, batch, config.clip)
    value = value_loss(network.values(batch.critic_obs), batch.target)
    loss = policy + config.value_coef * value - entropy_coef * entropy
    loss.backward()  # type: ignore[no-untyped-call]
    return policy.item(), value.item(), entropy.item()


def policy_loss_and_entropy(network: ActorCritic, batch: Minibatch, clip: float) -> tuple[Tensor, Tensor]:
    """Means over those who act; zero where nobody does."""
    acting = slice(None) if batch.acting is None else batch.acting
    obs, actions, blocked = batch.obs[acting], batch.actions[acting], batch.blocked
    if not len(obs):
        return batch.obs.new_zeros(()), batch.obs.new_zeros(())
    logp, entropy = network.log_prob_and_entropy(obs, actions, None if blocked is None else blocked[acting])
    return ppo_policy_loss(logp, batch.logp_old[acting], batch.advantage[acting], clip), entropy


def _cut_before_lost(rollout: Rollout) -> FloatArray:
    """[T, E] `done`, and 1 at the steps before a lost one: their episode goes on, but nothing is known of it."""
    if rollout.lost is None or not rollout.lost.any():
        return rollout.done
    done = rollout.done.copy()
    done[:-1] = np.maximum(done[:-1], rollout.lost[1:])
    return done


def counted(batch: Batch, values: Tensor) -> Tensor:
    """[T, E, A] → the same, or [1, n, A] of the steps that were finished."""
    if batch.lost is None or not batch.lost.any():
        return values
    return values[torch.from_numpy(batch.lost == 0).to(values.device)][None]


def kept_samples(batch: Batch, agents: int) -> Tensor:
    """Indices of the flat samples to learn from, of so many agents."""
    if batch.lost is None:
        return torch.arange(batch.done.size * agents)
    return torch.from_numpy(np.flatnonzero(np.repeat(batch.lost.ravel() == 0, agents)))


def minibatches_of(whole: Minibatch, order: Tensor, number: int) -> Iterator[Minibatch]:
    """All samples in this order, cut into `number` parts; they are copied once, and the parts are views."""
    given = {name: x for name, x in whole._asdict().items() if x is not None}
    parts = {name: x.index_select(0, order).tensor_split(number) for name, x in given.items() if name != "critic_obs"}
    same = whole.critic_obs is whole.obs
    parts["critic_obs"] = parts["obs"] if same else whole.critic_obs.index_select(0, order).tensor_split(number)
    for i in range(number):
        yield Minibatch(**{name: x[i] for name, x in parts.items()})
