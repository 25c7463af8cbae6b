"""A Gymnasium environment whose spaces and observations are tuples (one entry an agent) as a `ParallelEnv`.

LBF and RWARE are of that kind. They also report the end of their own time limit as *termination*, so they are built
without one, and the limit is kept here: reaching it is truncation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ..adapter import require_at_least, require_mode

RENDER_MODES = ("ansi",)
Counts = list[dict[str, int]]  # by agent number: how often each event happened


class TupleEnv(ParallelEnv, ABC):  # type: ignore[misc]
    """The ParallelEnv. Agents are `agent_0`, `agent_1`, …; `infos[agent]` holds "events" after a step.

    Args:
        inner: the Gymnasium environment; its `step` takes a list of actions and returns lists. It has no time limit.
        name: of the task.
        n_max: time limit of an episode in steps, then truncation.
        render_mode: "ansi", so that `render` draws the state as text; None: it draws nothing.
        agent_ids: observations, which are rows of numbers then, end with the agent's number, one-hot.
    """

    def __init__(
        self, inner: Any, name: str, n_max: int, render_mode: str | None = None, agent_ids: bool = False
    ) -> None:
        require_at_least(1, n_max=n_max)
        require_mode(render_mode, RENDER_MODES)
        self.metadata = {"name": name, "render_modes": [*RENDER_MODES], "is_parallelizable": True}
        self.render_mode = render_mode
        self.inner, self.n_max, self.clock = inner, n_max, 0
        self.possible_agents = [f"agent_{i}" for i in range(len(inner.action_space))]
        number = len(self.possible_agents)
        self._ids = np.eye(number, number if agent_ids else 0, dtype=np.float32)
        self._spaces = [
            _with_number(_layers_last_space(space), row)
            for space, row in zip(inner.observation_space, self._ids, strict=True)
        ]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Space[Any]:
        return self._spaces[self.number(agent)]

    def action_space(self, agent: str) -> Space[Any]:
        space: Space[Any] = self.inner.action_space[self.number(agent)]
        return space

    def number(self, agent: str) -> int:
        """Return the place of an agent in the tuples."""
        return self.possible_agents.index(agent)

    def _observed(self, observations: Sequence[Any]) -> dict[str, Any]:
        """Return what each agent observes, from upstream's tuple."""
        seen = [_layers_last(x) for x in observations]
        if self._ids.size:
            seen = [np.append(x, row) for x, row in zip(seen, self._ids, strict=True)]
        return self._by_agent(seen)

    def _by_agent(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed the random stream goes on."""
        observations, _ = self.inner.reset(seed=seed)
        self.agents, self.clock = list(self.possible_agents), 0
        return self._observed(observations), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Make one joint step.

        Raises:
            ValueError: the episode is over.
        """
        if not self.agents:
            raise ValueError(f"step needs a running episode, the last one ended at step {self.clock}; call reset")
        choices = [int(actions[agent]) for agent in self.agents]
        before = self.before_step(choices)
        # Upstream takes and returns one entry per agent.
        observations, rewards, terminated, _, _ = self.inner.step(choices)
        events = self.events_of_step(before, rewards)
        self.clock += 1
        # The limit is kept here, since upstream would report it as termination.
        truncated = not terminated and self.clock >= self.n_max
        if terminated or truncated:
            self.agents = []
        return (
            self._observed(observations),
            self._by_agent([float(reward) for reward in rewards]),
            dict.fromkeys(self.possible_agents, bool(terminated)),
            dict.fromkeys(self.possible_agents, truncated),
            self._by_agent([{"events": counts} for counts in events]),
        )

    @abstractmethod
    def before_step(self, choices: list[int]) -> Any:
        """Copy what `events_of_step` must know of the state in which the agents make these choices."""

    @abstractmethod
    def events_of_step(self, before: Any, rewards: Sequence[float]) -> Counts:
        """Return the events of the step that has just been made, from what `before_step` copied."""

    @abstractmethod
    def picture(self) -> str:
        """Return the current state as text of several lines, the last of which says what the signs are."""

    def render(self) -> str | None:
        """Return the state as a picture of text in render mode "ansi"; None else."""
        return self.picture() if self.render_mode == "ansi" else None

    def close(self) -> None:
        self.inner.close()


def _layers_last_space(space: Space[Any]) -> Space[Any]:
    """Return a space in which images are height × width × layers, as everywhere here; theirs have layers first."""
    if isinstance(space, Dict):
        return Dict({name: _layers_last_space(part) for name, part in space.items()})
    if isinstance(space, Box) and len(space.shape) == 3:
        low, high = (np.moveaxis(x, 0, -1) for x in (space.low, space.high))
        return Box(low, high, dtype=space.dtype.type)
    return space


def _with_number(space: Space[Any], number: NDArray[np.float32]) -> Space[Any]:
    """Return the space of a row of numbers with an agent's number behind it, [k] one-hot or empty."""
    if not len(number):
        return space
    assert isinstance(space, Box)
    low, high = np.append(space.low, np.zeros_like(number)), np.append(space.high, np.ones_like(number))
    return Box(low, high, dtype=np.float32)


def _layers_last(observed: Any) -> Any:
    """Return an observation of such a space."""
    if isinstance(observed, dict):
        return {name: _layers_last(part) for name, part in observed.items()}
    return np.moveaxis(observed, 0, -1) if observed.ndim == 3 else observed
