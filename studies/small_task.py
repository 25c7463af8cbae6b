"""What the small PettingZoo tasks of the studies have in common: equal spaces, a team reward, features and events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ..rl.task import EventSpec, FeatureSpec, FloatArray


class SmallTask(ParallelEnv, ABC):  # type: ignore[misc]
    """A task whose agents all live to the end of an episode, with the team's reward in equal parts.

    A subclass names `workers`, `seen`, `said`, `features` and `events`, and says what a step does.
    """

    metadata: ClassVar[dict[str, Any]]
    has_success, has_masks = True, False
    max_steps: int
    workers: tuple[str, ...]
    # The same objects at each call, as PettingZoo asks for.
    seen: Box
    said: Discrete
    features: tuple[FeatureSpec, ...]
    events: tuple[EventSpec, ...] = ()

    def __init__(self) -> None:
        self.possible_agents = list(self.workers)
        self.agents: list[str] = []
        self.feature_specs = {agent: [*self.features] for agent in self.workers}
        self.event_specs = {agent: [*self.events] for agent in self.workers}

    @abstractmethod
    def begin(self) -> None:
        """Start an episode; `rng` is seeded."""

    @abstractmethod
    def play(self, actions: dict[str, int]) -> float:
        """Make one joint step, and return the team's reward."""

    @abstractmethod
    def observed(self, agent: str) -> FloatArray:
        """Return what an agent observes."""

    @abstractmethod
    def features_of(self, agent: str) -> dict[str, float]:
        """Return an agent's features by name."""

    def events_of(self, agent: str) -> dict[str, int]:  # noqa: ARG002
        """Return how often an agent caused each event in the last step."""
        return {}

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the episode is over; where it is not by `max_steps`, it is cut off there."""

    @property
    @abstractmethod
    def solved(self) -> bool:
        """Whether the episode is a success so far."""

    def observation_space(self, agent: str) -> Box:  # noqa: ARG002
        return self.seen

    def action_space(self, agent: str) -> Discrete:  # noqa: ARG002
        return self.said

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Start an episode."""
        self.agents, self.t, self.rng = list(self.workers), 0, np.random.default_rng(seed)
        self.begin()
        return self._observations(), self._infos()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Make one joint step."""
        self.t += 1
        # the sum over agents is the team's
        share = self.play({agent: int(action) for agent, action in actions.items()}) / len(self.workers)
        ended = self.ended
        cut = not ended and self.t >= self.max_steps
        everybody, self.agents = self.agents, [] if ended or cut else self.agents
        rewards, terminated, truncated = (dict.fromkeys(everybody, value) for value in (share, ended, cut))
        return self._observations(), rewards, terminated, truncated, self._infos()

    def _observations(self) -> dict[str, FloatArray]:
        return {agent: self.observed(agent) for agent in self.workers}

    def _infos(self) -> dict[str, Any]:
        return {
            agent: {"features": self.features_of(agent), "events": self.events_of(agent), "success": self.solved}
            for agent in self.workers
        }
