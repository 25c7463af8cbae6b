"""What `cosignal doctor` finds out about the packaged example with some keys changed, without measuring any speed."""

from __future__ import annotations

from cosignal.doctor import Check, Examination, examine


def looked_at(*overrides: str, online: bool = False, rate: float = 50_000.0) -> Examination:
    return examine("two_switch", overrides, online=online, measure=lambda _: rate)


def found(examination: Examination, name: str) -> list[Check]:
    return [check for check in examination.checks if check.name == name]


def one(examination: Examination, name: str) -> Check:
    [check] = found(examination, name)
    return check


# An environment that says little about itself, prints, and does not keep to its seed.
SILENT = """
import random, numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

class SilentEnv(ParallelEnv):
    metadata = {"name": "silent"}
    possible_agents = ["a", "b"]
    def observation_space(self, agent): return Box(0, 1, (14,))
    def action_space(self, agent): return Discrete(2)
    def reset(self, seed=None, options=None):
        print("what an environment prints")
        self.agents = list(self.possible_agents)
        return self._seen(), {a: {} for a in self.agents}
    def step(self, actions):
        no = dict.fromkeys(self.agents, False)
        return self._seen(), dict.fromkeys(self.agents, 0.0), no, no, {a: {} for a in self.agents}
    def _seen(self): return {a: np.full(14, random.random(), np.float32) for a in self.agents}
"""
