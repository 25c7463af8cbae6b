"""A task whose team is paid in the last step only, for what each of many agents did on the way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ..rl.task import FeatureSpec

WORKERS, STEPS = 20, 40
SOLVED = 0.9  # of the choices that are right, for success
# The same objects at each call, as PettingZoo asks for.
SEEN, SAID = Box(0, 1, (3,)), Discrete(3)


class LatePay(ParallelEnv):  # type: ignore[misc]
    """Each of twenty workers sees one of three marks in each of 40 steps, and ought to choose the action of its number.

    The last step pays the share of all choices that were right: a third for chance, 1 at best. A worker's feature
    `done` is how often it was right. Observations are float32 [3], one-hot.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "late_pay", "is_parallelizable": True}
    has_success, has_masks, return_range, max_steps = True, False, (0.0, 1.0), STEPS
    description = (
        f"{WORKERS} workers each see one of three marks in each of {STEPS} steps, and choose one of three actions. In "
        "the last step the team is paid the share of all choices that were those of the marks. Success: 0.9 of them."
    )
    action_names = ("first", "second", "third")

    def __init__(self) -> None:
        self.possible_agents = [f"worker_{i}" for i in range(WORKERS)]
        self.agents: list[str] = []
        done = FeatureSpec(
            name="done", kind="quantity", low=0, high=STEPS, description="Choices of the worker that were right so far."
        )
        self.feature_specs = {agent: [done] for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Box:  # noqa: ARG002
        return SEEN

    def action_space(self, agent: str) -> Discrete:  # noqa: ARG002
        return SAID

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        self._rng, self._t = np.random.default_rng(seed), 0
        self.agents, self.done = list(self.possible_agents), dict.fromkeys(self.possible_agents, 0)
        return self._marks(), self._infos(success=False)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Make one joint step."""
        self._t += 1
        for agent, mark in self.marks.items():
            self.done[agent] += int(actions[agent]) == mark
        ends, everybody = self._t >= STEPS, self.agents
        right = sum(self.done.values()) / (WORKERS * STEPS)
        observed, infos = self._marks(), self._infos(success=ends and right >= SOLVED)
        self.agents = [] if ends else everybody
        # the sum over workers is the team's
        rewards = dict.fromkeys(everybody, right / WORKERS if ends else 0.0)
        return observed, rewards, dict.fromkeys(everybody, ends), dict.fromkeys(everybody, False), infos

    def _marks(self) -> dict[str, Any]:
        self.marks = {agent: int(self._rng.integers(3)) for agent in self.possible_agents}
        return {agent: np.eye(3, dtype=np.float32)[mark] for agent, mark in self.marks.items()}

    def _infos(self, success: bool) -> dict[str, Any]:
        return {
            agent: {"features": {"done": done}, "events": {}, "success": success} for agent, done in self.done.items()
        }
