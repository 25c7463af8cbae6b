"""Q-learning of a team: what VDN and QMIX share. They differ in how they mix the agents' values into the team's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ..experience.replay_buffer import ReplayBuffer, Sample
from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import BoolArray, FloatArray, IntArray, TaskSpec
from .config import VDNConfig
from .critic_inputs import global_state, view_size, views
from .flat_adam import FlatAdam, load_weights, weights_of
from .learner import Arrays, Learned
from .networks import MLP
from .parameter_sharing import NetworkGroup, network_groups
from .returns import td_target


class Values(nn.Module):
    """The agents' networks, one a part, and the mixer: all that is learned, and copied into the target."""

    def __init__(self, agents: list[MLP], mixer: nn.Module) -> None:
        super().__init__()
        self.agents, self.mixer = nn.ModuleList(agents), mixer


class QLearner(ABC):
    """Off-policy learning from a replay; see `Learner` for the methods that a training line calls.

    A team's reward is the sparse one plus the mean over agents of what the signal adds. It is computed when transitions
    are sampled, from the signal in force then, so that no stale reward is ever learned from.
    """

    def __init__(
        self, config: VDNConfig, spec: TaskSpec, seed: int, device: str = "cpu", replay_folder: Path | None = None
    ) -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.parts = network_groups(spec, config.share_parameters)
        agents = [
            MLP(view_size(spec, part.spec), config.hidden, part.spec.n_actions, 1.0, self.generator, torch.relu)
            for part in self.parts
        ]
        self.values = Values(agents, self.mixer()).to(self.device)
        self.target = deepcopy(self.values)
        self.optimiser = FlatAdam(self.values, config.lr, config.max_grad_norm)
        self.replay = ReplayBuffer(spec, config.buffer_size, replay_folder)
        self.steps = 0  # environment steps
        self.updates = 0  # gradient steps
        self.owed = 0.0  # gradient steps that are due
        self.least_epsilon = 0.0
        self.kicked_to, self.kicked_at = config.epsilon_start, 0
        self.moments = np.zeros(3)  # of sparse rewards: number, sum, sum of squares

    @abstractmethod
    def mixer(self) -> nn.Module:
        """A module: agents' values [N, A], global state [N, S] → the team's [N]."""

    # ------------------------------------------------------------ acting

    @property
    def epsilon(self) -> float:
        """Share of random actions: linearly from where it starts, or was kicked to, down to the end."""
        config = self.config
        gone = (self.steps - self.kicked_at) / config.epsilon_steps
        falling = self.kicked_to - (config.epsilon_start - config.epsilon_end) * gone
        return min(max(falling, config.epsilon_end, self.least_epsilon), 1.0)

    @torch.no_grad()
    def _greedy(self, obs: list[FloatArray], masks: list[BoolArray] | None) -> list[IntArray]:
        """[g] [E, A_g]."""
        found: list[IntArray] = [np.empty(x.shape[:-1], np.int64) for x in obs]
        seen = views(self.spec, obs)  # who has left may do one thing only, whatever it is worth
        for part, network in zip(self.parts, self.values.agents, strict=True):
            mine = self._tensor(seen[part.group][..., part.agents, :])
            q = allowed(network(mine), self._mask(part, masks))
            found[part.group][..., part.agents] = q.argmax(-1).cpu().numpy()
        return found

    def _mask(self, part: NetworkGroup, masks: list[BoolArray] | None) -> Tensor | None:
        return None if masks is None else self._tensor(masks[part.group][..., part.agents, :])

    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
    ) -> tuple[list[IntArray], list[FloatArray]]:
        """ε-greedily."""
        draw, epsilon = generator or self.generator, self.epsilon
        actions, logps = self._greedy(obs, masks), []
        for g, action in enumerate(actions):
            n, greedy = self.spec.groups[g].n_actions, action.copy()
            mask = np.ones((*action.shape, n), np.bool_) if masks is None else masks[g]
            random = drawn_allowed(mask, torch.rand(action.shape, generator=draw).numpy())
            explores = torch.rand(action.shape, generator=draw).numpy() < epsilon
            action[explores] = random[explores]
            share = epsilon / mask.sum(-1) + (1 - epsilon) * (action == greedy)
            logps.append(np.log(np.maximum(share, 1e-12)).astype(np.float32))
        return actions, logps

    def act_to_evaluate(
        self,
        obs: list[FloatArray],
        generator: torch.Generator,  # noqa: ARG002 greedy
        masks: list[BoolArray] | None = None,
    ) -> list[IntArray]:
        return self._greedy(obs, masks)

    def explore(self, entropy: float | None) -> None:
        """ε does not fall below it."""
        self.least_epsilon = 0.0 if entropy is None else entropy

    def kick(self, factor: float) -> None:
        """ε jumps to 1 − `factor`, if it is lower, and falls again at its own pace."""
        self.kicked_to, self.kicked_at = max(self.epsilon, 1 - factor), self.steps

    # ------------------------------------------------------------ learning

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[Learned]:  # noqa: ARG002 see the class
        self.replay.add(rollout)
        self.steps += rollout.steps
        self.moments += rollout.reward.size, float(rollout.reward.sum()), float((rollout.reward**2).sum())
        losses = np.zeros(2)
        if self.steps >= self.config.learning_starts:
            self.owed += rollout.steps * self.config.samples_per_step / self.config.batch_size
            due, self.owed = divmod(self.owed, 1.0)
            for _ in range(int(due)):
                losses += self.step(self.replay.sample(self.config.batch_size, self.generator), rewards)
            losses /= max(due, 1)
        found = {"td_loss": float(losses[0]), "q_mean": float(losses[1]), "epsilon": self.epsilon}
        return [Learned(_entropy(self.epsilon, group.n_actions), dict(found)) for group in self.spec.groups]

    def step(self, sample: Sample, rewards: Rewards) -> tuple[float, float]:
        """One gradient step; the loss and the mean value of the team."""
        target = self.targets(sample, rewards)
        self.optimiser.zero_grad()
        q_tot = self.q_tot(sample)
        loss = mse_loss(q_tot, target)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            load_weights(self.target, weights_of(self.values))
        return loss.item(), q_tot.detach().mean().item()

    def q_tot(self, sample: Sample) -> Tensor:
        """[N]: the team's value of what it did."""
        seen = views(self.spec, sample.obs, sample.alive)
        return self._mixed(self.values, self._q(self.values, seen, sample.actions), seen)

    @torch.no_grad()
    def targets(self, sample: Sample, rewards: Rewards) -> Tensor:
        """[N]: what the network's output is to be. Double Q-learning (van Hasselt et al. 2016) chooses by the network
        and values by its target.

        A potential that has left the reward lives on beside the network: the team's value is the output plus the
        offset, at s and at s', so that no TD error changes when it leaves (Wiewiora 2003).
        """
        chooser = self.values if self.config.double_q else self.target
        seen = views(self.spec, sample.last_obs, sample.last_alive)
        best = self._best(chooser, seen, sample.last_masks)
        next_values = self._mixed(self.target, self._q(self.target, seen, best), seen)
        offset = rewards.offset(sample.features, sample.alive, sample.obs)
        last_offset = rewards.offset(sample.last_features, sample.last_alive, sample.last_obs)
        scale = self.reward_scale
        here = 0.0 if offset is None else self._tensor(_team_mean(offset)) * scale
        there = 0.0 if last_offset is None else self._tensor(_team_mean(last_offset)) * scale
        shaped = self._tensor(_team_mean(rewards.shape(sample).total))
        reward = (self._tensor(sample.reward) + shaped) * scale
        return td_target(reward, next_values + there, self._tensor(sample.terminated), self.config.gamma) - here

    @property
    def reward_scale(self) -> float:
        """1 over the standard deviation of the sparse rewards so far, if they are standardised and differ. Their mean
        stays: taking it away would pay for, or punish, every further step of an episode."""
        number, total, squares = self.moments
        if not self.config.standardise_rewards or not number:
            return 1.0
        variance = squares / number - (total / number) ** 2
        return float(variance**-0.5) if variance > 1e-8 else 1.0

    def _outputs(self, values: Values, seen: list[FloatArray]) -> list[Tensor]:
        """Of every part, [N, A, U]."""
        parts = zip(self.parts, values.agents, strict=True)
        return [network(self._tensor(seen[part.group][:, part.agents])) for part, network in parts]

    def _q(self, values: Values, seen: list[FloatArray], actions: list[Tensor] | list[IntArray]) -> Tensor:
        """[N, A]: values of `actions`, which are [g] [N, A_g]."""
        columns = []
        for part, output in zip(self.parts, self._outputs(values, seen), strict=True):
            chosen = actions[part.group][:, part.agents]
            index = chosen if isinstance(chosen, Tensor) else self._tensor(chosen)
            columns.append(output.gather(-1, index[..., None]).squeeze(-1))
        return torch.cat(columns, -1)

    def _best(self, values: Values, seen: list[FloatArray], masks: list[BoolArray] | None) -> list[Tensor]:
        """[g] [N, A_g], among what is allowed."""
        found: list[list[Tensor]] = [[] for _ in self.spec.groups]
        for part, output in zip(self.parts, self._outputs(values, seen), strict=True):
            found[part.group].append(allowed(output, self._mask(part, masks)).argmax(-1))
        return [torch.cat(columns, -1) for columns in found]

    def _mixed(self, values: Values, q: Tensor, seen: list[FloatArray]) -> Tensor:
        team: Tensor = values.mixer(q, self._tensor(global_state(seen)))
        return team

    def _tensor(self, array: FloatArray | IntArray | BoolArray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def state_dict(self) -> Arrays:
        """Weights of network and target, Adam moments, random stream and counters, copied; of the replay the cursor."""
        state: Arrays = {"generator": self.generator.get_state().numpy().copy()}
        state |= {f"values.{name}": value for name, value in weights_of(self.values).items()}
        state |= {f"target.{name}": value for name, value in weights_of(self.target).items()}
        state |= {f"adam.{name}": value for name, value in self.optimiser.state_dict().items()}
        state |= {f"replay.{name}": value for name, value in self.replay.state_dict().items()}
        counters = [self.steps, self.updates, self.owed, self.kicked_to, self.kicked_at]
        return state | {"counters": np.array(counters, np.float64), "moments": self.moments.copy()}

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        """`directory`: the snapshot that the state comes from, which has the files of the replay."""

        def part(name: str) -> Arrays:
            return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}

        self.generator.set_state(torch.from_numpy(np.asarray(state["generator"]).copy()))
        load_weights(self.values, part("values"))
        load_weights(self.target, part("target"))
        self.optimiser.load_state_dict(part("adam"))
        self.replay.load_state_dict(part("replay"), directory)
        steps, updates, self.owed, self.kicked_to, kicked_at = np.asarray(state["counters"], np.float64).tolist()
        self.steps, self.updates, self.kicked_at = int(steps), int(updates), int(kicked_at)
        self.moments = np.asarray(state["moments"], np.float64).copy()

    def link_files(self, directory: Path) -> None:
        """Give a snapshot what its arrays do not hold."""
        self.replay.link_into(directory)


def allowed(q: Tensor, mask: Tensor | None) -> Tensor:
    """Values [..., U], −∞ where the mask forbids an action."""
    return q if mask is None else q.masked_fill(~mask, -torch.inf)


def drawn_allowed(mask: BoolArray, uniform: FloatArray) -> IntArray:
    """One of the allowed actions, each as likely: mask [..., U], uniform numbers [...] in [0, 1) → [...]."""
    wanted = np.minimum(uniform * mask.sum(-1), mask.sum(-1) - 1).astype(np.int64)  # rounding may reach the number
    found: IntArray = (mask.cumsum(-1) > wanted[..., None]).argmax(-1)
    return found


def _team_mean(per_agent: list[FloatArray]) -> FloatArray:
    """[g] [N, A_g] → [N], over all agents of all groups."""
    mean: FloatArray = np.concatenate(per_agent, axis=-1).mean(-1, dtype=np.float32)
    return mean


def _entropy(epsilon: float, n_actions: int) -> float:
    """Of an ε-greedy policy, in nats."""
    greedy, other = 1 - epsilon + epsilon / n_actions, epsilon / n_actions
    shares = np.array([greedy, *[other] * (n_actions - 1)])
    return float(-(shares * np.log(np.maximum(shares, 1e-12))).sum())
