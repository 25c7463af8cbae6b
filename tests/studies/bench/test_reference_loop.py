"""The rival of `bench trainer` is honest: its advantages and its loss by hand, and it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.envs.two_switch.env import TwoSwitchEnv
from cosignal.studies.bench.reference_loop import GAE_LAMBDA, GAMMA, Agent, ReferenceLoop, Samples, advantages, loss
from cosignal.studies.bench.trainer import BareTwoSwitch
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Copy(ParallelEnv):  # type: ignore[misc]
    """Two agents are shown one of two pictures and paid for naming it; an episode has four steps."""

    possible_agents = ("a", "b")

    def observation_space(self, agent: str) -> Box:
        return Box(0.0, 1.0, (2,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.clock = 0
        return self._show(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        rewards = {agent: float(actions[agent] == self.shown[agent]) for agent in self.possible_agents}
        self.clock += 1
        over = dict.fromkeys(self.possible_agents, self.clock == 4)
        return self._show(), rewards, over, dict.fromkeys(self.possible_agents, False), {}

    def _show(self) -> dict[str, Any]:
        self.shown = {agent: int(self.rng.integers(2)) for agent in self.possible_agents}
        return {agent: np.eye(2, dtype=np.float32)[shown] for agent, shown in self.shown.items()}


def test_it_learns() -> None:
    loop = ReferenceLoop([Copy() for _ in range(4)], rollout=16, lr=5e-3)
    assert loop.update() == 64
    first = loop.mean_reward
    for _ in range(40):
        loop.update()
    assert first < 0.75
    assert loop.mean_reward > 0.9


def test_advantages_by_hand() -> None:
    """Two rows; the first goes on over both steps, the second ended after step 0."""
    rewards, values = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[0.5, 0.5], [0.25, 0.25]])
    dones = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    found = advantages(rewards, values, dones, torch.tensor([4.0, 4.0]), torch.tensor([0.0, 1.0]))
    last = 2.0 + GAMMA * 4.0 - 0.25
    assert found[:, 0].tolist() == pytest.approx([1.0 + GAMMA * 0.25 - 0.5 + GAMMA * GAE_LAMBDA * last, last])
    assert found[:, 1].tolist() == pytest.approx([1.0 - 0.5, 2.0 - 0.25])


def test_the_loss_by_hand() -> None:
    """Two actions, a uniform policy, a critic that says 0: old log-probabilities make the ratios 2 and 1/2."""
    agent = Agent(1, 2)
    for parameter in agent.parameters():
        torch.nn.init.zeros_(parameter)
    half = math.log(0.5)
    batch = Samples(
        obs=torch.ones(2, 1), actions=torch.tensor([0, 1]), logp=torch.tensor([half - math.log(2), half + math.log(2)]),
        values=torch.tensor([1.0, 1.0]), advantages=torch.tensor([1.0, -1.0]),
    )  # fmt: skip
    z = 1 / 2**0.5  # ±1 over their standard deviation √2
    policy = -(1.2 * z - 0.8 * z) / 2  # both clipped
    value = 0.5 * ((2.0**2 + 0.8**2) / 2)  # returns 2 and 0, old values 1: predicting 0, else not below 0.8
    expected = policy - 0.01 * math.log(2) + 0.5 * value
    assert float(loss(agent, batch).detach()) == pytest.approx(expected, abs=1e-6)


def test_the_bare_twin_plays_the_same_game() -> None:
    one, other = TwoSwitchEnv(n_max=9), BareTwoSwitch(n_max=9)
    np.testing.assert_equal(one.reset(seed=3)[0], other.reset(seed=3)[0])
    for step in range(9):
        action = {"green": step % 5, "orange": (step + 2) % 5}
        np.testing.assert_equal(one.step(action)[:4], other.step(action)[:4])
