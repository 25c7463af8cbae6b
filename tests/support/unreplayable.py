"""An environment whose state is not its seed and its actions."""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

LENGTH = 9


class Shifted(ParallelEnv):  # type: ignore[misc]
    """Two agents go left or right and are paid where they are `apart`. What they observe is shifted by `shift`, which
    no reset brings back."""

    metadata: ClassVar[dict[str, Any]] = {"name": "shifted"}
    possible_agents: ClassVar[list[str]] = ["a", "b"]
    shift: ClassVar[float] = 0.0
    apart: ClassVar[int] = 0

    def observation_space(self, agent: str) -> Box:
        return Box(-10, 10, (2,))

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def _views(self) -> tuple[dict[str, Any], dict[str, Any]]:
        views = {a: np.array([x + self.shift, self.t / LENGTH], np.float32) for a, x in self.x.items()}
        return views, {a: {} for a in self.x}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        self.agents, self.t = list(self.possible_agents), 0
        self.x = {a: int(rng.integers(-3, 4)) for a in self.agents}
        return self._views()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.t += 1
        for agent, action in actions.items():
            self.x[agent] = int(np.clip(self.x[agent] + 2 * action - 1, -5, 5))
        observations, _ = self._views()
        met = self.x["a"] == self.x["b"] - self.apart
        rewards, infos = dict.fromkeys(self.agents, float(met)), {a: {"success": met} for a in self.agents}
        over = dict.fromkeys(self.agents, self.t == LENGTH)
        if self.t == LENGTH:
            self.agents = []
        return observations, rewards, dict.fromkeys(over, False), over, infos


class CountsItsEpisodes(Shifted):
    """Is shifted by the episodes that it has begun, but for the first few; and its process ends where it is stepped in
    a branch for the twentieth time. It never pays."""

    apart = 11

    def __init__(self) -> None:
        self.begun, self.steps = 0, 0
        self.in_branch = any("branches.worker" in argument for argument in sys.orig_argv)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.begun += 1
        self.shift = max(self.begun - 5, 0) / 1000  # type: ignore[misc]
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.steps += 1
        if self.in_branch and self.steps == 20:
            sys.stderr.write("no licence left\n")
            sys.stderr.flush()
            os._exit(3)
        return super().step(actions)
