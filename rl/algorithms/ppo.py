"""Proximal policy optimisation (Schulman et al. 2017) of many agents: IPPO and MAPPO differ in what the critic sees.

learn     rollout, shaping → batches [g] → update
update    for each network: advantages and targets by its critic, then `epochs` × `minibatches` gradient steps
gradient  by hand on a CPU (`fused_mlp`), else by autograd
recurrent networks learn from `sequences` of a rollout, all others from single samples in random order
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..digests import Digest
from ..experience.rnn_states import RNNStates
from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import ActionArray, Arrays, BoolArray, FloatArray, GroupSpec, TaskSpec, arrays_below
from .blend import Blend, weighted
from .config import IPPOConfig
from .critic_inputs import agent_views, view_size
from .flat_adam import FlatAdam, load_trained_state, load_weights, trained_state
from .fused_mlp import FusedActorCritic, kernel_samples
from .gradient import autograd_gradient, split_into_minibatches
from .learner import ActingNetwork, UpdateMetrics
from .losses import Minibatch, PPOLosses, normalised
from .networks.actor_critic import ActorCritic, CategoricalActorCritic, GaussianActorCritic
from .networks.factory import make_network
from .networks.gru import GRU
from .networks.mlp import MLP
from .networks.sampling import FORBIDDEN_LOGIT, sample_categorical
from .parameter_sharing import network_groups
from .returns import RewardScale, ValueNorm, gae
from .sequences import Sequences, cut_into_chunks, states_at_chunks


@dataclass(frozen=True)
class Cuts:
    """The n steps whose next state is not row t + 1: an episode ended or was cut there, or the rollout ends."""

    t: NDArray[np.intp]  # [n]
    env: NDArray[np.intp]  # [n]
    critic_obs: FloatArray  # [n, A_g, S_g] of s', before auto-reset


@dataclass(kw_only=True)
class Batch:
    """One rollout of one group, as it is learned from."""

    obs: FloatArray  # [T, E, A_g, O_g]
    critic_obs: FloatArray  # [T, E, A_g, S_g]
    cuts: Cuts
    actions: ActionArray  # [T, E, A_g], or [T, E, A_g, k] in a Box
    logp: FloatArray  # [T, E, A_g]
    rewards: FloatArray  # [T, E, A_g] shaping included
    terminated: FloatArray  # [T, E]
    done: FloatArray  # [T, E]
    # [T, E, A_g] added to the critic's output at s, and at s', for potentials that were removed
    offset: FloatArray | None = None
    last_offset: FloatArray | None = None
    step_rewards: FloatArray | None = None  # [T, E, A_g] added to advantages, in their standard deviations
    masks: BoolArray | None = None  # [T, E, A_g, U]
    alive: BoolArray | None = None  # [T, E, A_g]
    lost: FloatArray | None = None  # [T, E] steps that an environment did not finish; nothing is learned from them
    # of recurrent networks: [T, E] 1 where an episode begins after the first step; their states before that step, and
    # after the last one
    first: FloatArray | None = None
    rnn_states: RNNStates | None = None
    last_rnn_states: RNNStates | None = None

    def of_finished_steps(self, values: Tensor) -> Tensor:
        """Return `values` [T, E, A] as they are, or [1, n, A] of the steps that were finished where some were not."""
        if self.lost is None or not self.lost.any():
            return values
        return values[torch.from_numpy(self.lost == 0).to(values.device)][None]

    def finished_samples(self, n_agents: int) -> Tensor:
        """Return the indices of the flat samples (time, environment, agent) to learn from, of so many agents."""
        if self.lost is None:
            return torch.arange(self.done.size * n_agents)
        return torch.from_numpy(np.flatnonzero(np.repeat(self.lost.ravel() == 0, n_agents)))


class PPO(ABC):
    """The learner that IPPO and MAPPO are kinds of: see `Learner` for the methods that a training line calls.

    Attributes:
        networks: an actor-critic for each entry of `network_groups`; the other lists go with it.
        fused: the same networks written out by hand, None where autograd has to do it.
        reward_scale: what rewards are multiplied by.
        blend: how much the terms of the signal weigh, None where that is what the signal says.
    """

    tensorboard_tags: ClassVar[Mapping[str, str]] = {"policy_loss": "loss/policy", "value_loss": "loss/value"}

    def __init__(self, config: IPPOConfig, spec: TaskSpec, seed: int, device: str = "cpu") -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.entropy_coef = config.entropy
        self.generator = torch.Generator().manual_seed(seed)
        self.network_groups = network_groups(spec, config.share_parameters)
        self.networks: list[ActorCritic] = []
        self.fused: list[FusedActorCritic | None] = []
        self.optimisers: list[FlatAdam] = []
        for members in self.network_groups:
            network = self.make_network(members.spec).to(self.device)
            self.networks.append(network)
            name = f"the networks of {members.name}"
            self.optimisers.append(FlatAdam(network, config.lr, config.max_grad_norm, name=name))
            layers_only = isinstance(network.actor, MLP) and isinstance(network.critic, MLP)
            if self.device.type == "cpu" and isinstance(network, CategoricalActorCritic) and layers_only:
                self.fused.append(FusedActorCritic(network, config.clip, config.value_coef))
            else:
                self.fused.append(None)
        self.value_norms = [ValueNorm() if config.value_norm else None for _ in self.networks]
        self.reward_scale = RewardScale(config.standardise_rewards)
        self.last_advantages: list[FloatArray] | None = None
        self.blend = Blend(self, seed) if config.blend_lr else None
        self.term_factors: list[float] | None = None

    @abstractmethod
    def critic_size(self, group: GroupSpec) -> int:
        """Return S_g, the width of the critic's input."""

    @abstractmethod
    def critic_inputs(self, views: list[FloatArray]) -> list[FloatArray]:
        """Turn views [g] [..., A_g, V_g] into what the critic sees, [g] [..., A_g, S_g]."""

    def make_network(self, group: GroupSpec) -> ActorCritic:
        """Make an actor-critic for agents of this group, with fresh weights."""
        config, size, outputs = self.config, self.critic_size(group), len(group.action_bounds) or group.n_actions
        name, hidden, draw = config.network, config.hidden, self.generator
        actor = make_network(name, group, group.obs_size, hidden, outputs, 0.01, draw)
        critic = make_network(name, group, size, hidden, 1, 1.0, draw, views=size // view_size(self.spec, group))
        if group.continuous:
            return GaussianActorCritic(actor, critic, config.log_std_init)
        return CategoricalActorCritic(actor, critic)

    def new_rnn_states(self, num_envs: int) -> RNNStates | None:
        if self.config.network != "gru":
            return None
        shapes = [(num_envs, x.n_agents, self.config.hidden[-1]) for x in self.network_groups]
        return RNNStates(*([np.zeros(shape, np.float32) for shape in shapes] for _ in range(2)))

    # ------------------------------------------------------------ acting

    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """Sample actions from the policy."""
        return self._act(obs, generator or self.generator, masks, rnn_states)

    @torch.no_grad()
    def _act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None,
        masks: list[BoolArray] | None,
        rnn_states: RNNStates | None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """Choose actions, the likeliest ones where there is no generator."""
        groups = self.spec.groups
        actions: list[ActionArray] = [
            np.empty((*x.shape[:-1], *group.action_shape), group.action_dtype)
            for x, group in zip(obs, groups, strict=True)
        ]
        logps: list[FloatArray] = [np.empty(x.shape[:-1], np.float32) for x in obs]
        # every network chooses for its own agents
        for n, members in enumerate(self.network_groups):
            g, mine = members.group, (..., members.agents)
            forbidden = None if masks is None else ~masks[g][..., members.agents, :]
            rows = (*mine, slice(None)) if groups[g].continuous else mine
            actions[g][rows], logps[g][mine] = self._sample(
                n,
                obs[g][..., members.agents, :],
                forbidden,
                generator,
                None if rnn_states is None else rnn_states.actor[n],
            )
        return actions, logps

    def _sample(
        self,
        n: int,
        obs: FloatArray,
        forbidden: BoolArray | None,
        generator: torch.Generator | None,
        state: FloatArray | None,
    ) -> tuple[ActionArray, FloatArray]:
        """Sample from network n at obs [..., O]: actions [...] or [..., k], log-probabilities [...].

        Without a generator the likeliest choice, or the mean of numbers, is taken, as if that were certain.
        """
        network, fused = self.networks[n], self.fused[n]
        # numbers of a Box
        if isinstance(network, GaussianActorCritic):
            if generator is None:
                means = self._actor_outputs(n, obs, state).cpu().numpy()
                if not np.isfinite(means).all():
                    raise FloatingPointError(f"the actions of {self.network_groups[n].name}")
                return means, np.zeros(means.shape[:-1], np.float32)
            numbers, density = network.sample(self._actor_outputs(n, obs, state), generator)
            if not bool(density.isfinite().all()):
                raise FloatingPointError(f"the actions of {self.network_groups[n].name}")
            return numbers.cpu().numpy(), density.cpu().numpy()
        # choices
        if fused is not None:
            logits = fused.actor.forward(obs.reshape(-1, obs.shape[-1]))
        else:
            logits = self._actor_outputs(n, obs, state).cpu().numpy().reshape(-1, network.actor.head.out_features)
        if forbidden is not None:
            np.copyto(logits, FORBIDDEN_LOGIT, where=forbidden.reshape(logits.shape))
        if generator is None:
            return logits.argmax(-1).reshape(obs.shape[:-1]), np.zeros(obs.shape[:-1], np.float32)
        uniform = torch.rand(len(logits), generator=generator)
        action, logp = np.empty(len(logits), np.int64), np.empty(len(logits), np.float32)
        sample_categorical(logits, uniform.numpy(), action, logp)
        return action.reshape(obs.shape[:-1]), logp.reshape(obs.shape[:-1])

    def _actor_outputs(self, n: int, obs: FloatArray, state: FloatArray | None) -> Tensor:
        """Return what network n's actor gives at obs [..., O]; its state [..., H] is overwritten by the next one."""
        actor = self.networks[n].actor
        if not isinstance(actor, GRU):
            outputs: Tensor = actor(self.tensor(obs))
            return outputs
        before = np.zeros((*obs.shape[:-1], actor.state_size), np.float32) if state is None else state
        outputs, after = actor(self.tensor(obs), self.tensor(before))
        before[:] = after.cpu().numpy()
        return outputs

    def act_to_evaluate(
        self,
        obs: list[FloatArray],
        generator: torch.Generator,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> list[ActionArray]:
        chosen = self._act(obs, None if self.config.greedy_evaluation else generator, masks, rnn_states)
        return chosen[0]

    def explore(self, entropy: float | None) -> None:
        self.entropy_coef = self.config.entropy if entropy is None else entropy

    def kick(self, factor: float) -> None:
        """Scale every actor head by `factor` (0..1]."""
        for network in self.networks:
            network.scale_actor_head(factor)

    # ------------------------------------------------------------ learning

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[UpdateMetrics]:
        self.reward_scale.add(rollout.finished_rewards)
        self.term_factors = None
        if self.blend is None:
            return self.update(self.batches(rollout, shaping, rewards))
        # the policies learn by the factors that were in force, as the rewards were when it was played
        self.term_factors = self.blend.factors_of(rewards.compiled.term_keys)
        batches = self.batches(rollout, weighted(shaping, self.term_factors), rewards)
        self.blend.learn(self, rollout, shaping, batches)
        return self.update(batches)

    def batches(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[Batch]:
        """Arrange a rollout by groups, [g], with the rewards and the inputs of the critic."""
        # where the next state is not the next row
        done = rollout.done
        if rollout.lost is not None and rollout.lost.any():
            # the episode of a step before a lost one goes on, but nothing is known of it
            done = rollout.done.copy()
            done[:-1] = np.maximum(done[:-1], rollout.lost[1:])
        is_cut = done > 0
        is_cut[-1] = True
        cut = np.nonzero(is_cut)

        # the critic sees s in every row, and s' at the cuts
        critic_obs = self.critic_inputs(agent_views(self.spec, rollout.obs, rollout.alive))
        alive_at_cut = None if rollout.last_alive is None else [x[cut] for x in rollout.last_alive]
        views_at_cut = agent_views(self.spec, [x[cut] for x in rollout.last_obs], alive_at_cut)
        critic_obs_at_cut = self.critic_inputs(views_at_cut)

        # potentials that have left the reward are added to the critic's output, in the units of the rewards
        scale = np.float32(self.reward_scale.value)
        offset = rewards.offset(rollout.features, rollout.alive, rollout.obs)
        last_offset = rewards.offset(rollout.last_features, rollout.last_alive, rollout.last_obs)
        step_rewards = rewards.step_rewards(rollout)
        return [
            Batch(
                obs=rollout.obs[g],
                critic_obs=critic_obs[g],
                cuts=Cuts(t=cut[0], env=cut[1], critic_obs=critic_obs_at_cut[g]),
                actions=rollout.actions[g],
                logp=rollout.logp[g],
                rewards=((rollout.reward[..., None] + shaping.total[g]) * scale).astype(np.float32),
                terminated=rollout.terminated,
                done=done,
                offset=None if offset is None else offset[g] * scale,
                last_offset=None if last_offset is None else last_offset[g] * scale,
                step_rewards=None if step_rewards is None else step_rewards[g],
                masks=None if rollout.masks is None or group.continuous else rollout.masks[g],
                alive=None if rollout.alive is None else rollout.alive[g],
                lost=rollout.lost,
                first=None if rollout.rnn_states is None else _first_steps(rollout),
                rnn_states=rollout.rnn_states,
                last_rnn_states=rollout.last_rnn_states,
            )
            for g, group in enumerate(self.spec.groups)
        ]

    def update(self, batches: list[Batch]) -> list[UpdateMetrics]:
        """Take `epochs` × `minibatches` gradient steps with each network; mean losses [g]."""
        self.last_advantages = [np.full(batch.rewards.shape, np.nan, np.float32) for batch in batches]
        losses = [self._update_network(n, batches[x.group]) for n, x in enumerate(self.network_groups)]
        return [
            UpdateMetrics(entropy, {"policy_loss": policy, "value_loss": value})
            for policy, value, entropy in self.group_means(losses)
        ]

    def group_means(self, per_network: Sequence[Sequence[float]]) -> list[list[float]]:
        """Average numbers of networks over those of each group, [g]."""
        return [
            np.mean(
                [row for x, row in zip(self.network_groups, per_network, strict=True) if x.group == g], axis=0
            ).tolist()
            for g in range(len(self.spec.groups))
        ]

    def _update_network(self, n: int, batch: Batch) -> PPOLosses:
        recurrent = self.networks[n].recurrent
        losses = self._update_by_sequences(n, batch) if recurrent else self._update_by_samples(n, batch)
        self.optimisers[n].check_finite()
        return PPOLosses(*np.mean(losses, axis=0).tolist()) if losses else PPOLosses(0.0, 0.0, 0.0)

    def _update_by_samples(self, n: int, batch: Batch) -> list[PPOLosses]:
        """Take the gradient steps of a feed-forward network, each on a part of all samples in random order."""
        config, network, fused = self.config, self.networks[n], self.fused[n]
        finished = batch.finished_samples(self.network_groups[n].n_agents)
        # of at least two samples each, which have a deviation
        n_minibatches = min(config.minibatches, len(finished) // 2)
        if not n_minibatches:
            return []
        samples, losses = self.samples(n, batch), list[PPOLosses]()
        arrays = None if fused is None else kernel_samples(samples)
        for _ in range(config.epochs):
            # another order in every epoch
            order = finished[torch.randperm(len(finished), generator=self.generator)].to(self.device)
            if fused is not None and arrays is not None:
                normalise = config.advantage_norm == "minibatch"
                for chosen in order.tensor_split(n_minibatches):
                    losses.append(fused.gradient_of(arrays, chosen.numpy(), self.entropy_coef, normalise))
                    self.optimisers[n].step()
                continue
            for minibatch in split_into_minibatches(samples, order, n_minibatches):
                self.optimisers[n].zero_grad()
                normal = self.normalise_minibatch(minibatch)
                outputs, values = network.actor(normal.obs), network.values(normal.critic_obs)
                losses.append(autograd_gradient(network, outputs, values, normal, config, self.entropy_coef))
                self.optimisers[n].step()
        return losses

    def _update_by_sequences(self, n: int, batch: Batch) -> list[PPOLosses]:
        """Take the gradient steps of a recurrent network, each on a part of all sequences in random order."""
        config, network, losses = self.config, self.networks[n], list[PPOLosses]()
        if len(batch.finished_samples(self.network_groups[n].n_agents)) < 2:
            return []
        sequences = self.sequences(n, batch)
        for _ in range(config.epochs):
            order = torch.randperm(len(sequences), generator=self.generator).to(self.device)
            for part in order.tensor_split(min(config.minibatches, len(sequences))):
                self.optimisers[n].zero_grad()
                outputs, values, minibatch = sequences.chosen(part).unroll(network)
                # where environments crashed all the time nothing is left
                if len(values) < 2:
                    continue
                normal = self.normalise_minibatch(minibatch)
                losses.append(autograd_gradient(network, outputs, values, normal, config, self.entropy_coef))
                self.optimisers[n].step()
        return losses

    # ------------------------------------------------------------ advantages, targets and samples

    def samples(self, n: int, batch: Batch) -> Minibatch:
        """Return all samples of the rollout for network n, flat; the value norm counts their targets."""
        return self._samples(n, batch).each(lambda x: x.flatten(0, 2))

    def sequences(self, n: int, batch: Batch) -> Sequences:
        """Return all sequences of the rollout for recurrent network n; the value norm counts their targets."""
        network, samples = self.networks[n], self._samples(n, batch)
        states, length = batch.rnn_states, self.config.chunk_length or len(batch.done)
        assert states is not None
        assert batch.first is not None
        assert isinstance(network.actor, GRU)
        assert isinstance(network.critic, GRU)
        first = self.tensor(batch.first)[..., None].expand(samples.advantage.shape)
        lost = None if batch.lost is None or not batch.lost.any() else self.tensor(batch.lost)[..., None]
        actor_state, critic_state = (
            states_at_chunks(part, inputs, self.tensor(state[n]), first, length)
            for part, inputs, state in (
                (network.actor, samples.obs, states.actor),
                (network.critic, samples.critic_obs, states.critic),
            )
        )
        return Sequences(
            samples=samples.each(lambda x: cut_into_chunks(x, length)),
            first=cut_into_chunks(first, length),
            finished=None if lost is None else cut_into_chunks(lost.expand(first.shape) == 0, length),
            actor_state=actor_state,
            critic_state=critic_state,
        )

    def _samples(self, n: int, batch: Batch) -> Minibatch:
        """Return all samples of the rollout for network n, [T, E, A, …]; the value norm counts their targets."""
        norm = self.value_norms[n]
        advantage, target = self.advantages(n, batch)
        if self.last_advantages is not None:
            members = self.network_groups[n]
            self.last_advantages[members.group][:, :, members.agents] = advantage.cpu().numpy()
        # their squares must be numbers too: both are divided by deviations
        for what, values in (("the advantages", advantage), ("the value targets", target)):
            if not math.isfinite(float(torch.linalg.vector_norm(values))):
                raise FloatingPointError(f"{what} of {self.network_groups[n].name}")
        advantage = self.with_step_rewards(n, batch, advantage)
        if norm is not None:
            norm.add(batch.of_finished_steps(target))
            target = norm.normalised(target)
        return self.arranged(n, batch, self.normalise_agents(batch, advantage), target)

    def with_step_rewards(self, n: int, batch: Batch, advantage: Tensor) -> Tensor:
        """Return advantages [T, E, A] of network n's agents with what a signal adds to them."""
        if batch.step_rewards is None:
            return advantage
        added = self.tensor(batch.step_rewards[:, :, self.network_groups[n].agents])
        return advantage + batch.of_finished_steps(advantage).std() * added

    def advantages(self, n: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return advantages, and the targets of network n's own critic, by the values of that critic.

        See `advantages_by`.
        """
        values, at_cuts = self._critic_values(n, batch)
        norm = self.value_norms[n]
        if norm is not None:
            values, at_cuts = norm.denormalised(values), norm.denormalised(at_cuts)
        return self.advantages_by(values, at_cuts, n, batch)

    @torch.no_grad()
    def _critic_values(self, n: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the outputs of network n's critic at s [T, E, A], and at s' of the cuts [n, A].

        The states of a recurrent critic after the rollout are kept for the next one.
        """
        agents, network = self.network_groups[n].agents, self.networks[n]
        inputs, at_cuts = self.tensor(batch.critic_obs[:, :, agents]), self.tensor(batch.cuts.critic_obs[:, agents])
        if not isinstance(network.critic, GRU):
            outputs = self.fused[n] or network
            return outputs.values(inputs), outputs.values(at_cuts)
        states, last = batch.rnn_states, batch.last_rnn_states
        assert states is not None
        assert last is not None
        assert batch.first is not None
        # all agents of all environments go through time side by side
        shape, first = inputs.shape[:3], self.tensor(batch.first)[..., None].expand(inputs.shape[:3])
        start = self.tensor(states.critic[n])
        values, every = network.critic.unroll(inputs.flatten(1, 2), start.flatten(0, 1), first.flatten(1, 2))
        after = every.view(*shape, -1)
        values_at_cuts, _ = network.critic(at_cuts, after[batch.cuts.t, batch.cuts.env])
        last.critic[n][:] = after[-1].cpu().numpy()
        last.critic[n][batch.done[-1] > 0] = 0
        return values.view(shape), values_at_cuts.squeeze(-1)

    def advantages_by(self, values: Tensor, at_cuts: Tensor, n: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return advantages, and the targets of a critic, of the agents of network n.

        Args:
            values: of the critic at s, [T, E, A].
            at_cuts: at s' of the cuts, [n, A].
            n: index of the network.
            batch: the rollout of the network's group.

        Returns:
            Advantages, and returns less the offset, which the critic is to learn; each [T, E, A].
        """
        agents = self.network_groups[n].agents
        # v(s'): of the next row, but at the cuts of the state before auto-reset
        next_values = torch.empty_like(values)
        next_values[:-1] = values[1:]
        next_values[batch.cuts.t, batch.cuts.env] = at_cuts
        offset: Tensor | float = 0.0
        if batch.offset is not None and batch.last_offset is not None:
            offset = self.tensor(batch.offset[:, :, agents])
            values = values + offset
            next_values = next_values + self.tensor(batch.last_offset[:, :, agents])
        # flags of environments hold for all their agents
        terminated = self.tensor(batch.terminated)[..., None].expand(values.shape)
        done = self.tensor(batch.done)[..., None].expand(values.shape)
        rewards = self.tensor(batch.rewards[:, :, agents])
        advantage = gae(rewards, values, next_values, terminated, done, self.config.gamma, self.config.gae_lambda)
        return advantage, advantage + values - offset

    def arranged(self, n: int, batch: Batch, advantage: Tensor, target: Tensor) -> Minibatch:
        """Return the rollout of network n's agents, with these advantages and targets; all [T, E, A, …]."""
        agents = self.network_groups[n].agents
        obs, critic_obs, actions, logp = (
            self.tensor(x[:, :, agents]) for x in (batch.obs, batch.critic_obs, batch.actions, batch.logp)
        )
        return Minibatch(
            obs=obs,
            critic_obs=obs if batch.critic_obs is batch.obs else critic_obs,
            actions=actions,
            logp_old=logp,
            advantage=advantage,
            target=target,
            forbidden=None if batch.masks is None else ~self.tensor(batch.masks[:, :, agents]),
            acting=None if batch.alive is None else self.tensor(batch.alive[:, :, agents]),
        )

    def normalise_agents(self, batch: Batch, advantage: Tensor) -> Tensor:
        """Normalise advantages [T, E, A] for every agent apart, where the config says so."""
        if self.config.advantage_norm != "agent":
            return advantage
        counted = batch.of_finished_steps(advantage)
        return (advantage - counted.mean((0, 1))) / (counted.std((0, 1)) + 1e-8)

    def normalise_minibatch(self, minibatch: Minibatch) -> Minibatch:
        """Normalise advantages over the minibatch, where the config says so."""
        if self.config.advantage_norm != "minibatch":
            return minibatch
        return minibatch._replace(advantage=normalised(minibatch.advantage, minibatch.acting))

    def tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # ------------------------------------------------------------ state

    def forget_episodes(self) -> None:  # noqa: B027 nothing is kept
        """Do nothing: what recurrent networks remember is with the training line."""

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)
        if self.blend is not None:
            self.blend.reseed(seed)

    def state_dict(self) -> Arrays:
        """Return weights, Adam moments and random stream as numpy arrays, copied."""
        state: Arrays = {"generator": self.generator.get_state().numpy().copy()}
        state["moments"] = self.reward_scale.state()
        for n, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            norm = self.value_norms[n]
            state |= trained_state(f"{n}.", network, optimiser)
            state |= {f"{n}.value_norm": norm.state()} if norm is not None else {}
        return state if self.blend is None else state | self.blend.state_dict()

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:  # noqa: ARG002 all is in the arrays
        self.generator.set_state(torch.from_numpy(np.asarray(state["generator"]).copy()))
        self.reward_scale.load_state(state.get("moments", np.zeros(3)))  # snapshots of older versions have none
        for n, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            norm = self.value_norms[n]
            load_trained_state(f"{n}.", network, optimiser, state)
            if norm is not None:
                norm.load_state(state[f"{n}.value_norm"])
        if self.blend is not None:
            self.blend.load_state_dict(state)

    def load_policy(self, state: Arrays) -> None:
        for n, network in enumerate(self.networks):
            load_weights(network, arrays_below(f"{n}.", state))

    def acting_networks(self) -> list[ActingNetwork]:
        acting = []
        for members, network in zip(self.network_groups, self.networks, strict=True):
            if isinstance(network, GaussianActorCritic):
                std = network.bounded_log_std().detach().exp()
                acting.append(ActingNetwork(members, network.actor, "means", std))
            else:
                acting.append(ActingNetwork(members, network.actor, "logits"))
        return acting

    def link_files(self, directory: Path) -> dict[str, Digest]:  # noqa: ARG002 nothing to link: all is in the arrays
        return {}


def _first_steps(rollout: Rollout) -> FloatArray:
    """Return [T, E], 1 where an episode begins; the states before the rollout are those of its first step already."""
    return np.concatenate([np.zeros_like(rollout.done[:1]), rollout.done[:-1]])
