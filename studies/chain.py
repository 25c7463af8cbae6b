"""A deceptive chain: a small reward near, a large one far, and nothing on the way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ..rl.task import FeatureSpec

LENGTH, STEPS = 12, 30  # cells to the right of the start; the left end is next to it
SMALL, LARGE = 0.1, 1.0
# The same objects at each call, as PettingZoo asks for.
SEEN, SAID = Box(0, 1, (2,)), Discrete(2)


class Chain(ParallelEnv):  # type: ignore[misc]
    """Two walkers on a chain of cells go left or right in every step; they move only where both go the same way.

    The left end, one step from the start, ends the episode and pays 0.1; the right end, twelve steps away, pays 1. So
    by chance next to nobody comes to the right end, and what pays first leads away from it.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "chain", "is_parallelizable": True}
    has_success, has_masks, return_range, max_steps = True, False, (0.0, 1.0), STEPS
    description = (
        f"Two walkers go left or right on a chain, and move where both go the same way. The left end is one step from "
        f"the start and pays {SMALL}, the right end is {LENGTH} steps away and pays {LARGE}; either ends the episode. "
        "Success: the right end."
    )
    action_names = ("left", "right")

    def __init__(self, length: int = LENGTH) -> None:
        self.length = length
        self.possible_agents = ["one", "other"]
        self.agents: list[str] = []
        cell = FeatureSpec(
            name="cell", kind="count", low=0, high=length, description="Cells to the right of the start."
        )
        self.feature_specs = {agent: [cell] for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Box:  # noqa: ARG002
        return SEEN

    def action_space(self, agent: str) -> Discrete:  # noqa: ARG002
        return SAID

    def reset(
        self,
        seed: int | None = None,  # noqa: ARG002 nothing is random
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        self.agents, self._t, self._cell = list(self.possible_agents), 0, 0
        return self._seen(), self._infos()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Make one joint step."""
        self._t += 1
        moves = {2 * int(action) - 1 for action in actions.values()}
        self._cell += moves.pop() if len(moves) == 1 else 0
        at_end, everybody = self._cell in (-1, self.length), self.agents
        reward = (LARGE if self._cell == self.length else SMALL) if at_end else 0.0
        self.agents = [] if at_end or self._t >= STEPS else everybody
        # the sum over walkers is the team's
        rewards, cut = dict.fromkeys(everybody, reward / 2), not at_end and self._t >= STEPS
        terminated, truncated = dict.fromkeys(everybody, at_end), dict.fromkeys(everybody, cut)
        return self._seen(), rewards, terminated, truncated, self._infos()

    def _seen(self) -> dict[str, Any]:
        seen = np.array([self._cell / self.length, self._t / STEPS], np.float32).clip(0, 1)
        return dict.fromkeys(self.possible_agents, seen)

    def _infos(self) -> dict[str, Any]:
        features = {"cell": max(self._cell, 0)}
        return {
            agent: {"features": features, "events": {}, "success": self._cell == self.length}
            for agent in self.possible_agents
        }
