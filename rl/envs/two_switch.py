"""Two-Switch as a PettingZoo `ParallelEnv`: two agents must trigger two switches before a door opens to the goal.

The game is that of LCA (Lin et al., arXiv 2502.03723), rebuilt from its description. To train on it through the generic
wrapper instead of the native batch, set `task.env` to "cosignal.rl.envs.two_switch:TwoSwitchEnv", `team_reward` to
mean and `agent_ids` to false.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ..task import FloatArray, splitmix64
from .two_switch_game import TwoSwitchGame
from .two_switch_map import ACTION_NAMES, AGENTS, OBS_SIZE
from .two_switch_spec import EVENTS, N_MAX, description, features

Infos = dict[str, dict[str, Any]]


class TwoSwitchEnv(ParallelEnv):  # type: ignore[misc]
    """Agents `green` and `orange`; observations float32 [20], actions 0..4.

    Every agent is paid the full team reward, so the team's reward is the *mean* over agents (`task.team_reward: mean`);
    their sum counts everything twice. `infos[agent]` holds "features" and "events" (name to number) and "success".
    The episodes are those of `BatchedTwoSwitch`: same reset seed and actions, same numbers, bit for bit.

    Args:
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "two_switch", "render_modes": [], "is_parallelizable": True}
    return_range = (-1.0, 4.0)
    has_success = True
    has_masks = False
    deterministic = True
    action_names = ACTION_NAMES

    def __init__(self, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        if n_max < 1:
            raise ValueError(f"n_max must be at least 1, got {n_max!r}; give the time limit in steps")
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.render_mode = None
        self.max_steps, self.allow_agent_overlap = n_max, allow_agent_overlap
        self.description = description(n_max, allow_agent_overlap)
        self.feature_specs = dict.fromkeys(AGENTS, features(allow_agent_overlap))
        self.event_specs = dict.fromkeys(AGENTS, EVENTS)
        low = np.array([0.0] * 14 + [-1.0] * 6, dtype=np.float32)
        self.observation_spaces = {agent: Box(low, np.ones(OBS_SIZE, dtype=np.float32)) for agent in AGENTS}
        self.action_spaces = {agent: Discrete(len(ACTION_NAMES)) for agent in AGENTS}
        self._next_seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.game = self._new_game(None)

    def observation_space(self, agent: str) -> Box:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        return self.action_spaces[agent]

    def _new_game(self, seed: int | None) -> TwoSwitchGame:
        """Without a seed the next one of the sequence that the last seed began."""
        used = self._next_seed if seed is None else seed
        self._next_seed = splitmix64(used) >> 33
        return TwoSwitchGame(used, self.max_steps, self.allow_agent_overlap)

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 PettingZoo's signature; there are none
    ) -> tuple[dict[str, FloatArray], Infos]:
        """Start an episode. Only the first reset without any seed before it is not reproducible."""
        self.agents = list(AGENTS)
        self.game = self._new_game(seed)
        return self._observations(), self._infos(({}, {}), success=False)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, FloatArray], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """One joint step.

        Raises:
            ValueError: the episode is over, an agent's action is missing or out of range.
        """
        if not self.agents:
            raise ValueError(f"step needs a running episode, the last one ended at step {self.game.clock}; call reset")
        if missing := [agent for agent in AGENTS if agent not in actions]:
            raise ValueError(f"step needs an action of every agent, {missing!r} gave none; add them")
        outcome = self.game.step((int(actions[AGENTS[0]]), int(actions[AGENTS[1]])))
        observations, infos = self._observations(), self._infos(outcome.events, outcome.terminated)
        if outcome.terminated or outcome.truncated:
            self.agents = []
        return (
            observations,
            dict.fromkeys(AGENTS, outcome.reward),
            dict.fromkeys(AGENTS, outcome.terminated),
            dict.fromkeys(AGENTS, outcome.truncated),
            infos,
        )

    def state(self) -> FloatArray:
        """[40]: both agents' own views."""
        return np.concatenate([self.game.observation(i) for i in range(len(AGENTS))])

    def describe(self) -> str:
        """The state in one line of text."""
        return self.game.describe()

    def _observations(self) -> dict[str, FloatArray]:
        return {agent: self.game.observation(i) for i, agent in enumerate(AGENTS)}

    def _infos(self, events: tuple[dict[str, int], dict[str, int]], success: bool) -> Infos:
        return {
            agent: {"features": self.game.features(i), "events": dict(events[i]), "success": success}
            for i, agent in enumerate(AGENTS)
        }
