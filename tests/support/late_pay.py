"""A task whose team is paid in the last step only, for what each of many agents did on the way. `task.env` names it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from cosignal import FeatureSpec
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

WORKERS, STEPS = 8, 25
# The same objects at each call, as PettingZoo asks for.
SEEN, SAID = Box(0, 1, (3,)), Discrete(3)


class LatePay(ParallelEnv):  # type: ignore[misc]
    """Each worker sees one of three marks in each step, and ought to choose the action of its number.

    The last step pays the share of all choices that were right: a third for chance, 1 at best. A worker's feature
    `done` is how often it was right.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "late_pay"}
    has_success, has_masks, return_range, max_steps = False, False, (0.0, 1.0), STEPS

    def __init__(self) -> None:
        self.possible_agents = [f"worker_{i}" for i in range(WORKERS)]
        done = FeatureSpec(name="done", kind="quantity", low=0, high=STEPS)
        self.feature_specs = {agent: [done] for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Box:
        return SEEN

    def action_space(self, agent: str) -> Discrete:
        return SAID

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.rng, self.t = np.random.default_rng(seed), 0
        self.agents, self.done = list(self.possible_agents), dict.fromkeys(self.possible_agents, 0)
        return self._marks(), self._infos()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.t += 1
        for agent, mark in self.marks.items():
            self.done[agent] += int(actions[agent]) == mark
        ends, everybody = self.t >= STEPS, self.agents
        paid = sum(self.done.values()) / (WORKERS * STEPS) if ends else 0.0
        observed, infos = self._marks(), self._infos()
        self.agents = [] if ends else everybody
        rewards = dict.fromkeys(everybody, paid / WORKERS)
        return observed, rewards, dict.fromkeys(everybody, ends), dict.fromkeys(everybody, False), infos

    def _marks(self) -> dict[str, Any]:
        self.marks = {agent: int(self.rng.integers(3)) for agent in self.possible_agents}
        return {agent: np.eye(3, dtype=np.float32)[mark] for agent, mark in self.marks.items()}

    def _infos(self) -> dict[str, Any]:
        return {agent: {"features": {"done": done}, "events": {}} for agent, done in self.done.items()}
