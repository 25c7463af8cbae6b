"""Q-learning of a team: what VDN and QMIX share. They differ in how they mix the agents' values into the team's.

learn    the rollout goes into the replay; then as many gradient steps as are due
step     sample a batch → targets by the target network → squared error of Q_tot → Adam
targets  reward and shaping of now, and the team's value of the best next actions
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ..digests import Digest
from ..experience.episode_replay import EpisodeReplay
from ..experience.replay_buffer import ReplayBuffer, Sample
from ..experience.rnn_states import RNNStates
from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import Arrays, BoolArray, FloatArray, GroupSpec, IntArray, TaskSpec, arrays_below
from .config import VDNConfig
from .critic_inputs import agent_views, global_state, view_size
from .flat_adam import FlatAdam, load_weights, module_weights
from .learner import ActingNetwork, UpdateMetrics
from .networks.factory import Network, make_network
from .networks.gru import GRU
from .parameter_sharing import NetworkGroup, network_groups
from .returns import RewardScale, td_target


class QNetworks(nn.Module):
    """The agents' networks and the mixer: all that is learned, and copied into the target."""

    def __init__(self, agents: list[Network], mixer: nn.Module) -> None:
        super().__init__()
        self.agents, self.mixer = nn.ModuleList(agents), mixer


class QLearner(ABC):
    """Off-policy learning from a replay; see `Learner` for the methods that a training line calls.

    A team's reward is the sparse one plus the mean over agents of what the signal adds. It is computed when transitions
    are sampled, from the signal in force then, so that no stale reward is ever learned from.

    Attributes:
        recurrent: whether the agents' networks carry a state; they learn from whole episodes then, else from single
            transitions.
        agent_networks: one for each entry of `network_groups`; they choose the actions.
        values: these and the mixer: all that is learned.
        target: an older copy of them, which values next states.
        steps: environment steps so far.
        updates: gradient steps so far.
        owed: gradient steps that are due, with the fraction that the next rollout completes.
        least_epsilon: the share of random actions does not fall below it.
        kicked_to, kicked_at: the share of random actions that a kick set, and the environment step of it.
        reward_scale: what rewards are multiplied by.
    """

    tensorboard_tags: ClassVar[Mapping[str, str]] = {
        "td_loss": "loss/td",
        "q_mean": "policy/q_mean",
        "epsilon": "policy/epsilon",
    }

    def __init__(
        self, config: VDNConfig, spec: TaskSpec, seed: int, device: str = "cpu", replay_folder: Path | None = None
    ) -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.network_groups = network_groups(spec, config.share_parameters)
        self.term_factors: list[float] | None = None
        self.last_advantages: list[FloatArray] | None = None  # values have none
        self.agent_networks = [self.make_agent_network(x.spec) for x in self.network_groups]
        self.values = QNetworks(self.agent_networks, self.make_mixer()).to(self.device)
        self.target = deepcopy(self.values)
        self.optimiser = FlatAdam(self.values, config.lr, config.max_grad_norm, name="the value networks of the team")
        self.recurrent = config.network == "gru"
        replay = EpisodeReplay if self.recurrent else ReplayBuffer
        self.replay = replay(spec, config.buffer_size, replay_folder)
        self.steps = 0
        self.updates = 0
        self.owed = 0.0
        self.least_epsilon = 0.0
        self.kicked_to, self.kicked_at = config.epsilon_start, 0
        self.reward_scale = RewardScale(config.standardise_rewards)

    def make_agent_network(self, group: GroupSpec) -> Network:
        """Make the network of agents of this group, with fresh weights."""
        size, hidden, outputs = view_size(self.spec, group), self.config.hidden, group.n_actions
        return make_network(self.config.network, group, size, hidden, outputs, 1.0, self.generator, torch.relu)

    @abstractmethod
    def make_mixer(self) -> nn.Module:
        """Make a module: agents' values [N, A], global state [N, S] → the team's [N]."""

    # ------------------------------------------------------------ acting

    @property
    def epsilon(self) -> float:
        """Share of random actions: linearly from where it starts, or was kicked to, down to the end."""
        config = self.config
        elapsed = (self.steps - self.kicked_at) / config.epsilon_steps
        falling = self.kicked_to - (config.epsilon_start - config.epsilon_end) * elapsed
        return min(max(falling, config.epsilon_end, self.least_epsilon), 1.0)

    def new_rnn_states(self, num_envs: int) -> RNNStates | None:
        if not self.recurrent:
            return None
        width = self.config.hidden[-1]
        return RNNStates([np.zeros((num_envs, x.n_agents, width), np.float32) for x in self.network_groups], [])

    @torch.no_grad()
    def _greedy(
        self, obs: list[FloatArray], masks: list[BoolArray] | None, rnn_states: RNNStates | None
    ) -> list[IntArray]:
        """Return the best allowed actions, [g] [E, A_g]; states are overwritten by the next ones."""
        actions: list[IntArray] = [np.empty(x.shape[:-1], np.int64) for x in obs]
        views = agent_views(self.spec, obs)  # who has left may do one thing only, whatever it is worth
        states = rnn_states or self.new_rnn_states(len(obs[0]))
        for n, (members, network) in enumerate(zip(self.network_groups, self.agent_networks, strict=True)):
            view = self.tensor(views[members.group][..., members.agents, :])
            if states is None:
                values = network(view)
            else:
                values, after = network(view, self.tensor(states.actor[n]))
                states.actor[n][:] = after.cpu().numpy()
            q = mask_values(values, self._mask(members, masks))
            actions[members.group][..., members.agents] = q.argmax(-1).cpu().numpy()
        return actions

    def _mask(self, members: NetworkGroup, masks: list[BoolArray] | None) -> Tensor | None:
        return None if masks is None else self.tensor(masks[members.group][..., members.agents, :])

    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> tuple[list[IntArray], list[FloatArray]]:
        """Choose actions ε-greedily."""
        draw, epsilon = generator or self.generator, self.epsilon
        actions, logps = self._greedy(obs, masks, rnn_states), []
        for g, action in enumerate(actions):
            n_actions, greedy = self.spec.groups[g].n_actions, action.copy()
            mask = np.ones((*action.shape, n_actions), np.bool_) if masks is None else masks[g]
            # two draws for every agent, whatever comes of them, so that streams do not depend on ε
            random = sample_allowed(mask, torch.rand(action.shape, generator=draw).numpy())
            explores = torch.rand(action.shape, generator=draw).numpy() < epsilon
            action[explores] = random[explores]
            # a random action may be the greedy one, too
            probability = epsilon / mask.sum(-1) + (1 - epsilon) * (action == greedy)
            logps.append(np.log(np.maximum(probability, 1e-12)).astype(np.float32))
        return actions, logps

    def act_to_evaluate(
        self,
        obs: list[FloatArray],
        generator: torch.Generator,  # noqa: ARG002 greedy
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> list[IntArray]:
        return self._greedy(obs, masks, rnn_states)

    def explore(self, entropy: float | None) -> None:
        """Set the share of random actions that ε does not fall below."""
        self.least_epsilon = 0.0 if entropy is None else entropy

    def kick(self, factor: float) -> None:
        """Raise ε to 1 − `factor`, if it is lower; from there it falls again at its own pace."""
        self.kicked_to, self.kicked_at = max(self.epsilon, 1 - factor), self.steps

    # ------------------------------------------------------------ learning

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[UpdateMetrics]:  # noqa: ARG002 see the class
        self.replay.add(rollout)
        self.steps += rollout.steps
        self.reward_scale.add(rollout.finished_rewards)
        losses = np.zeros(2)
        if self.steps >= self.config.learning_starts and len(self.replay):
            self.owed += rollout.steps * self.config.samples_per_step / self.config.batch_size
            # whole steps are taken now, the rest is owed
            due, self.owed = divmod(self.owed, 1.0)
            for _ in range(int(due)):
                losses += self.step(self.replay.sample(self.config.batch_size, self.generator), rewards)
            losses /= max(due, 1)
            self.optimiser.check_finite()
        metrics = {"td_loss": float(losses[0]), "q_mean": float(losses[1]), "epsilon": self.epsilon}
        return [
            UpdateMetrics(epsilon_greedy_entropy(self.epsilon, group.n_actions), dict(metrics))
            for group in self.spec.groups
        ]

    def step(self, sample: Sample, rewards: Rewards) -> tuple[float, float]:
        """Take one gradient step; the loss and the mean value of the team."""
        target = self.targets(sample, rewards)
        self.optimiser.zero_grad()
        q_tot = self.q_tot(sample)
        loss = mse_loss(q_tot, target) if sample.filled is None else self._mean_of_filled(q_tot, target, sample.filled)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            load_weights(self.target, module_weights(self.values))
        return loss.item(), q_tot.detach().mean().item()

    def _mean_of_filled(self, q_tot: Tensor, target: Tensor, filled: FloatArray) -> Tensor:
        """Return the mean squared error over steps that episodes have."""
        counted = self.tensor(filled)
        return ((q_tot - target) ** 2 * counted).sum() / counted.sum()

    def q_tot(self, sample: Sample) -> Tensor:
        """Return the team's value of what it did, [N]."""
        outputs = self.outputs(self.values, sample, after=False)
        views = agent_views(self.spec, sample.obs, sample.alive)
        return self.team_values(self.values, self.chosen_values(outputs, sample.actions), views)

    @torch.no_grad()
    def targets(self, sample: Sample, rewards: Rewards) -> Tensor:
        """Return what the network's output is to be, [N].

        Double Q-learning (van Hasselt et al. 2016) chooses by the network and values by its target.

        A potential that has left the reward lives on beside the network: the team's value is the output plus the
        offset, at s and at s', so that no TD error changes when it leaves (Wiewiora 2003).
        """
        # the team's value of the best next actions
        by_target = self.outputs(self.target, sample, after=True)
        chooser = self.outputs(self.values, sample, after=True) if self.config.double_q else by_target
        best = self.best_actions(chooser, sample.last_masks)
        views = agent_views(self.spec, sample.last_obs, sample.last_alive)
        next_values = self.team_values(self.target, self.chosen_values(by_target, best), views)
        # rewards and offsets of now, in the units of the values
        offset = rewards.offset(sample.features, sample.alive, sample.obs)
        last_offset = rewards.offset(sample.last_features, sample.last_alive, sample.last_obs)
        scale = self.reward_scale.value
        here = 0.0 if offset is None else self.tensor(_team_mean(offset)) * scale
        there = 0.0 if last_offset is None else self.tensor(_team_mean(last_offset)) * scale
        shaped = self.tensor(_team_mean(rewards.shape(sample).total))
        reward = (self.tensor(sample.reward) + shaped) * scale
        return td_target(reward, next_values + there, self.tensor(sample.terminated), self.config.gamma) - here

    # ------------------------------------------------------------ values of agents and of the team

    def outputs(self, networks: QNetworks, sample: Sample, after: bool) -> list[Tensor]:
        """Return the values of all actions at s, or `after` at s′: [N, A, U] for each network."""
        if self.recurrent:
            return self._unrolled(networks, sample, after)
        obs, alive = (sample.last_obs, sample.last_alive) if after else (sample.obs, sample.alive)
        views, pairs = agent_views(self.spec, obs, alive), zip(self.network_groups, networks.agents, strict=True)
        return [network(self.tensor(views[members.group][:, members.agents])) for members, network in pairs]

    def _unrolled(self, networks: QNetworks, sample: Sample, after: bool) -> list[Tensor]:
        """Return the same of recurrent networks, unrolled over whole episodes."""
        assert sample.shape is not None
        views = agent_views(self.spec, sample.obs, sample.alive)
        last_views = agent_views(self.spec, sample.last_obs, sample.last_alive)
        outputs = []
        for members, network in zip(self.network_groups, networks.agents, strict=True):
            assert isinstance(network, GRU)
            # s of the first step, then s′ of every one, which is s of the next: [L + 1, n, A, V]
            here, there = (
                self.tensor(x[members.group][:, members.agents]).view(*sample.shape, members.n_agents, -1)
                for x in (views, last_views)
            )
            through = torch.cat([here[:1], there]).flatten(1, 2)
            zeros = through.new_zeros(through.shape[1], network.state_size)
            values, _ = network.unroll(through, zeros, through.new_zeros(through.shape[:2]))
            values = values[1:] if after else values[:-1]
            outputs.append(values.reshape(-1, members.n_agents, values.shape[-1]))
        return outputs

    def chosen_values(self, outputs: list[Tensor], actions: list[Tensor] | list[IntArray]) -> Tensor:
        """Return the values of `actions` [g] [N, A_g] among those of all actions, as [N, A]."""
        columns = []
        for members, output in zip(self.network_groups, outputs, strict=True):
            chosen = actions[members.group][:, members.agents]
            index = chosen if isinstance(chosen, Tensor) else self.tensor(chosen)
            columns.append(output.gather(-1, index[..., None]).squeeze(-1))
        return torch.cat(columns, -1)

    def best_actions(self, outputs: list[Tensor], masks: list[BoolArray] | None) -> list[Tensor]:
        """Return the allowed actions of the highest values, [g] [N, A_g]."""
        columns: list[list[Tensor]] = [[] for _ in self.spec.groups]
        for members, output in zip(self.network_groups, outputs, strict=True):
            columns[members.group].append(mask_values(output, self._mask(members, masks)).argmax(-1))
        return [torch.cat(of_group, -1) for of_group in columns]

    def team_values(self, networks: QNetworks, q: Tensor, views: list[FloatArray]) -> Tensor:
        """Mix agents' values [N, A] into the team's, [N]."""
        team: Tensor = networks.mixer(q, self.tensor(global_state(views)))
        return team

    def tensor(self, array: FloatArray | IntArray | BoolArray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # ------------------------------------------------------------ state

    def forget_episodes(self) -> None:
        if isinstance(self.replay, EpisodeReplay):
            self.replay.forget_running()

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def state_dict(self) -> Arrays:
        """Return weights of network and target, Adam moments, random stream and counters, copied; of the replay the
        cursor."""
        state: Arrays = {"generator": self.generator.get_state().numpy().copy()}
        state |= {f"values.{name}": value for name, value in module_weights(self.values).items()}
        state |= {f"target.{name}": value for name, value in module_weights(self.target).items()}
        state |= {f"adam.{name}": value for name, value in self.optimiser.state_dict().items()}
        state |= {f"replay.{name}": value for name, value in self.replay.state_dict().items()}
        counters = [self.steps, self.updates, self.owed, self.kicked_to, self.kicked_at]
        return state | {"counters": np.array(counters, np.float64), "moments": self.reward_scale.state()}

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        """Go on from `state`; `directory`: the snapshot that it comes from, which has the files of the replay."""
        self.generator.set_state(torch.from_numpy(np.asarray(state["generator"]).copy()))
        self.load_policy(state)
        load_weights(self.target, arrays_below("target.", state))
        self.optimiser.load_state_dict(arrays_below("adam.", state))
        self.replay.load_state_dict(arrays_below("replay.", state), directory)
        self.reward_scale.load_state(state["moments"])

    def load_policy(self, state: Arrays) -> None:
        load_weights(self.values, arrays_below("values.", state))
        # ε follows from them
        steps, updates, self.owed, self.kicked_to, kicked_at = np.asarray(state["counters"], np.float64).tolist()
        self.steps, self.updates, self.kicked_at = int(steps), int(updates), int(kicked_at)

    def acting_networks(self) -> list[ActingNetwork]:
        pairs = zip(self.network_groups, self.agent_networks, strict=True)
        return [ActingNetwork(members, network, "values", epsilon=self.epsilon) for members, network in pairs]

    def link_files(self, directory: Path) -> dict[str, Digest]:
        """Link the files of the replay into a snapshot, and return their digests."""
        return self.replay.link_into(directory)


def mask_values(q: Tensor, mask: Tensor | None) -> Tensor:
    """Return the values [..., U], −∞ where the mask forbids an action."""
    return q if mask is None else q.masked_fill(~mask, -torch.inf)


def sample_allowed(mask: BoolArray, uniform: FloatArray) -> IntArray:
    """Draw one of the allowed actions, each as likely: mask [..., U], uniform numbers [...] in [0, 1) → [...]."""
    n_allowed = mask.sum(-1)
    rank = np.minimum(uniform * n_allowed, n_allowed - 1).astype(np.int64)  # rounding may reach the number
    action: IntArray = (mask.cumsum(-1) > rank[..., None]).argmax(-1)
    return action


def epsilon_greedy_entropy(epsilon: float, n_actions: int) -> float:
    """Return the entropy of an ε-greedy policy, in nats."""
    greedy, other = 1 - epsilon + epsilon / n_actions, epsilon / n_actions
    probabilities = np.array([greedy, *[other] * (n_actions - 1)])
    return float(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum())


def _team_mean(per_agent: list[FloatArray]) -> FloatArray:
    """[g] [N, A_g] → [N], over all agents of all groups."""
    mean: FloatArray = np.concatenate(per_agent, axis=-1).mean(-1, dtype=np.float32)
    return mean
