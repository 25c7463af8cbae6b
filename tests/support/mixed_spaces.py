"""A small environment whose agents observe and act in every kind of space; `task.env` names it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from pettingzoo import ParallelEnv

LIMIT = 12  # steps

PLAIN: dict[Any, Space[Any]] = {
    "box": Box(-1, 1, (2, 3), np.float64),
    "choice": Discrete(4, start=-1),
    "choices": MultiDiscrete(np.array([[2, 3], [4, 2]]), start=np.array([[0, 1], [5, 0]])),
    7: MultiBinary(3),  # ids need not be text
    "parts": Dict({"b": Tuple((Discrete(3), Box(0, 1, (2,)))), "a": MultiBinary(2)}),
}
ACTIONS: dict[Any, Space[Any]] = {
    "box": Discrete(3, start=2),
    "choice": Discrete(2),
    "choices": Discrete(4),
    7: Discrete(3),
    "parts": Discrete(2),
    "masked_0": Discrete(5),
    "masked_1": Discrete(5),
}
BOXES: dict[Any, Space[Any]] = {
    "box": Box(np.array([[-2.0, 0.0]]), np.array([[1.0, 0.5]]), dtype=np.float64),
    "choice": Box(-3, 4, (2,), np.int8),
    "choices": Box(0, 1, (1,), np.float32),
    7: Box(0, 2**62, (1,), np.int64),
    "parts": Box(0, 1, (1,), np.float32),
    "masked_0": Box(-1, 1, (1,), np.float32),
    "masked_1": Box(-1, 1, (1,), np.float32),
}


class Mixed(ParallelEnv):  # type: ignore[misc]
    """Random observations; an action of its own space is the only thing that an agent owes. With `boxes` all are moved
    by numbers, else two of the agents observe their masks. Success is never told."""

    metadata: ClassVar[dict[str, Any]] = {"name": "mixed"}
    has_success = False

    def __init__(self, boxes: bool = False) -> None:
        self.boxes = boxes
        self.possible_agents = list(ACTIONS)
        masked = Box(0, 1, (2,)) if boxes else Dict({"observation": Box(0, 1, (2,)), "action_mask": MultiBinary(5)})
        self.observation_spaces = {**PLAIN, "masked_0": masked, "masked_1": masked}
        self.action_spaces = BOXES if boxes else ACTIONS

    def observation_space(self, agent: Any) -> Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: Any) -> Space[Any]:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[Any, Any], dict[Any, Any]]:
        self.rng = np.random.default_rng(seed)
        self.agents, self.t = list(self.possible_agents), 0
        return self._observed(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        assert actions.keys() == set(self.agents)
        assert all(self.action_spaces[agent].contains(action) for agent, action in actions.items()), actions
        self.t += 1
        observed, rewards = self._observed(), dict.fromkeys(self.agents, 0.5)
        ends = dict.fromkeys(self.agents, self.t >= LIMIT)
        infos: dict[Any, Any] = {agent: {} for agent in self.agents}
        self.agents = [] if self.t >= LIMIT else self.agents
        return observed, rewards, ends, dict.fromkeys(ends, False), infos

    def _observed(self) -> dict[Any, Any]:
        seen: dict[Any, Any] = {}
        for agent, space in self.observation_spaces.items():
            space.seed(int(self.rng.integers(2**31)))
            seen[agent] = space.sample()
            if isinstance(space, Dict) and "action_mask" in space.spaces:
                seen[agent]["action_mask"][int(self.rng.integers(5))] = 1
        return seen
