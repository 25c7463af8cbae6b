"""One environment of a compiled batch as a PettingZoo `ParallelEnv`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ...task import FloatArray, splitmix64
from ..adapter import require_mode
from .batch import DescribedBatch

Infos = dict[str, dict[str, Any]]
RENDER_MODES = ("ansi",)


class CompiledEnv(ParallelEnv):  # type: ignore[misc]
    """The ParallelEnv, with the batch's episodes: same reset seed and actions, same numbers, bit for bit.

    Each agent is paid its share, whose sum is the team's reward. `infos[agent]` holds "features" and "events" (name to
    number) and "success".

    Args:
        batch: of any number of environments, with the settings that count.
        render_mode: "ansi", so that `render` draws the state as text; None: it draws nothing.

    Raises:
        ValueError: there is no such mode.
    """

    def __init__(self, batch: DescribedBatch, render_mode: str | None = None) -> None:
        require_mode(render_mode, RENDER_MODES)
        self.batch = batch.alone()
        spec = self.batch.spec
        self.metadata = {"name": spec.name, "render_modes": [*RENDER_MODES], "is_parallelizable": True}
        self.render_mode = render_mode
        # what a `Task` declares
        self.has_success, self.has_masks, self.deterministic = spec.has_success, spec.has_masks, spec.deterministic
        self.description, self.return_range, self.max_steps = spec.description, spec.return_range, spec.max_steps
        self.action_names, self.stay = spec.groups[0].action_names, spec.groups[0].stay
        self.group_of = {agent: group for group in spec.groups for agent in group.agents}
        self.feature_specs = {agent: group.features for agent, group in self.group_of.items()}
        self.event_specs = {agent: group.events for agent, group in self.group_of.items()}
        # PettingZoo's
        self.possible_agents = list(spec.agents)
        self.agents: list[str] = []
        low, high = self.batch.obs_bounds
        self.observation_spaces = {
            agent: Box(low.reshape(self._shape(agent)), high.reshape(self._shape(agent)))
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: Discrete(group.n_actions) for agent, group in self.group_of.items()}
        # random, until the first reset with a seed
        self._next_seed = int(np.random.SeedSequence().generate_state(1)[0])

    def observation_space(self, agent: str) -> Box:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        return self.action_spaces[agent]

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, FloatArray], Infos]:
        """Start an episode; without a seed it has the next one of the sequence that the last seed began."""
        used = self._next_seed if seed is None else seed
        self._next_seed = splitmix64(used) >> 33
        self.batch.start(used)
        self.agents = list(self.possible_agents)
        return self._observations(), self._infos(success=False)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, FloatArray], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Make one joint step.

        Raises:
            ValueError: the episode is over, an agent's action is missing or out of range.
        """
        if not self.agents:
            raise ValueError("step needs a running episode, the last one has ended; call reset")
        if missing := [agent for agent in self.possible_agents if agent not in actions]:
            raise ValueError(f"step needs an action of every agent, {missing!r} gave none; add them")
        groups = self.batch.spec.groups
        step = self.batch.step([np.array([[int(actions[agent]) for agent in group.agents]]) for group in groups])
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        # PettingZoo's convention: nobody is left when the episode is over
        if terminated or truncated:
            self.agents = []
        return (
            self._observations(),
            dict(zip(self.possible_agents, self.batch.shares[0].tolist(), strict=True)),
            dict.fromkeys(self.possible_agents, terminated),
            dict.fromkeys(self.possible_agents, truncated),
            self._infos(bool(step.success[0])),
        )

    def describe(self) -> str:
        """Return the state in one line of text."""
        return self.batch.describe()

    def render(self) -> str | None:
        """Return the state as a picture of text in render mode "ansi"; None else."""
        return self.batch.picture() if self.render_mode == "ansi" else None

    def _observations(self) -> dict[str, FloatArray]:
        return {
            agent: self.batch.obs[0, i].reshape(self._shape(agent)).copy()
            for i, agent in enumerate(self.possible_agents)
        }

    def _shape(self, agent: str) -> tuple[int, ...]:
        """Return the shape of an agent's observation: of an image, or a row of numbers."""
        return self.group_of[agent].image or (-1,)

    def _infos(self, success: bool) -> Infos:
        return {
            agent: {
                "features": dict(zip(group.feature_names(), self.batch.features[0, i].tolist(), strict=True)),
                "events": {
                    name: int(count) for name, count in zip(group.event_names(), self.batch.events[0, i], strict=True)
                },
                "success": success,
            }
            for i, (agent, group) in enumerate(self.group_of.items())
        }
