"""The rival of `cosignal bench trainer`: independent PPO as one writes it by hand, in the manner of CleanRL's `ppo.py`
(Huang et al. 2022).

Any PettingZoo `ParallelEnv` in plain Python, a list of them stepped one after another, torch with autograd and Adam.
All agents share one actor and one critic; an agent of an environment is one row of a batch. CleanRL's hyper-parameters
and losses (clipped value loss, gradient norm 0.5, no bootstrapping at time limits); its logging is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions.categorical import Categorical

GAMMA, GAE_LAMBDA = 0.99, 0.95
EPOCHS, MINIBATCHES = 4, 4
CLIP, ENTROPY, VALUE, MAX_NORM = 0.2, 0.01, 0.5, 0.5


def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """Return an orthogonally initialised layer with zero bias."""
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.constant_(linear.bias, 0.0)
    return linear


class Agent(nn.Module):
    """Actor and critic, two layers of 64 each."""

    def __init__(self, obs_size: int, n_actions: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(layer(obs_size, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0))
        self.actor = nn.Sequential(layer(obs_size, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, n_actions, 0.01))

    def value(self, obs: Tensor) -> Tensor:
        """Return the value of each row [N] of `obs` [N, O]."""
        value: Tensor = self.critic(obs).flatten()
        return value

    def act(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (action, its log-probability, entropy, value), [N] each; the action is sampled where none is given."""
        policy = Categorical(logits=self.actor(obs))
        taken = policy.sample() if action is None else action  # type: ignore[no-untyped-call]
        logp, entropy = policy.log_prob(taken), policy.entropy()  # type: ignore[no-untyped-call]
        return taken, logp, entropy, self.value(obs)


def advantages(rewards: Tensor, values: Tensor, dones: Tensor, next_value: Tensor, next_done: Tensor) -> Tensor:
    """Return generalised advantage estimates [T, N] (Schulman et al. 2016); `dones[t]`: an episode began at step t."""
    estimates, last = torch.zeros_like(rewards), torch.zeros_like(next_value)
    # backwards in time; nothing is bootstrapped across the end of an episode
    for t in reversed(range(len(rewards))):
        is_last = t == len(rewards) - 1
        going_on = 1.0 - (next_done if is_last else dones[t + 1])
        after = next_value if is_last else values[t + 1]
        delta = rewards[t] + GAMMA * after * going_on - values[t]
        last = delta + GAMMA * GAE_LAMBDA * going_on * last
        estimates[t] = last
    return estimates


@dataclass
class Samples:
    """Everything that a minibatch needs: `obs` is [N, O], the others [N]."""

    obs: Tensor
    actions: Tensor
    logp: Tensor
    values: Tensor
    advantages: Tensor

    def rows(self, index: Any) -> Samples:
        """Return the rows at `index`."""
        return Samples(*(x[index] for x in vars(self).values()))


def loss(agent: Agent, batch: Samples) -> Tensor:
    """Return PPO's loss: clipped surrogate, clipped value loss and entropy bonus."""
    _, logp, entropy, value = agent.act(batch.obs, batch.actions)
    # new over old probability of each action
    ratio = (logp - batch.logp).exp()
    advantage = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    policy_loss = torch.max(-advantage * ratio, -advantage * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)).mean()
    # the value may leave its old estimate by no more than CLIP
    returns = batch.advantages + batch.values
    clipped = batch.values + torch.clamp(value - batch.values, -CLIP, CLIP)
    value_loss = 0.5 * torch.max((value - returns) ** 2, (clipped - returns) ** 2).mean()
    return policy_loss - ENTROPY * entropy.mean() + VALUE * value_loss


class ReferenceLoop:
    """Independent PPO on environments that are stepped one after another."""

    def __init__(self, envs: Sequence[Any], rollout: int, seed: int = 1, lr: float = 2.5e-4) -> None:
        """Make a loop.

        Args:
            envs: parallel environments of the same agents, whose spaces are alike.
            rollout: steps of each environment per update.
            seed: of weights, environments and minibatches.
            lr: learning rate of Adam.
        """
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.envs, self.rollout = list(envs), rollout
        self.names: list[str] = list(envs[0].possible_agents)
        self.obs_size = int(envs[0].observation_space(self.names[0]).shape[0])
        self.agent = Agent(self.obs_size, int(envs[0].action_space(self.names[0]).n))
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=lr, eps=1e-5)
        self.next_obs = torch.tensor(np.stack([row for e, env in enumerate(self.envs) for row in self._reset(env, e)]))
        self.next_done = torch.zeros(len(self.next_obs))
        self.mean_reward = 0.0

    def update(self) -> int:
        """Make one rollout and the gradient steps on it; return the environment steps that it took."""
        samples = self._collect()
        size = len(samples.obs)
        for _ in range(EPOCHS):
            order = self.rng.permutation(size)
            for start in range(0, size, size // MINIBATCHES):
                batch = samples.rows(order[start : start + size // MINIBATCHES])
                self.optimizer.zero_grad()
                loss(self.agent, batch).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.agent.parameters(), MAX_NORM)
                self.optimizer.step()
        return self.rollout * len(self.envs)

    def _collect(self) -> Samples:
        shape = self.rollout, len(self.next_obs)
        obs, actions = torch.zeros((*shape, self.obs_size)), torch.zeros(shape, dtype=torch.int64)
        logp, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
        for t in range(self.rollout):
            obs[t], dones[t] = self.next_obs, self.next_done
            with torch.no_grad():
                actions[t], logp[t], _, values[t] = self.agent.act(self.next_obs)
            rewards[t] = torch.tensor(self._step(actions[t].numpy()))
        with torch.no_grad():
            estimates = advantages(rewards, values, dones, self.agent.value(self.next_obs), self.next_done)
        self.mean_reward = float(rewards.mean())
        return Samples(obs.flatten(0, 1), *(x.flatten() for x in (actions, logp, values, estimates)))

    def _step(self, actions: Any) -> list[float]:
        """Step every environment, reset those that ended, and return the rewards."""
        rows: list[Any] = []
        rewards: list[float] = []
        ended: list[float] = []
        for env, taken in zip(self.envs, actions.reshape(len(self.envs), -1), strict=True):
            observed, reward, terminated, truncated, _ = env.step(dict(zip(self.names, taken, strict=True)))
            over = any(terminated.values()) or any(truncated.values())
            rows += self._reset(env) if over else [observed[name] for name in self.names]
            rewards += [reward[name] for name in self.names]
            ended += [float(over)] * len(self.names)
        self.next_obs, self.next_done = torch.tensor(np.stack(rows)), torch.tensor(ended)
        return rewards

    def _reset(self, env: Any, seed: int | None = None) -> list[Any]:
        observed, _ = env.reset(seed=seed)
        return [observed[name] for name in self.names]
