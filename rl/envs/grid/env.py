"""A grid game of two agents as a PettingZoo `ParallelEnv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ...task import FloatArray, splitmix64
from ..adapter import require_mode
from .game import GridGame
from .map import ACTION_NAMES, AGENTS, HEADINGS, STAY, Cell

Infos = dict[str, dict[str, Any]]
RENDER_MODES = ("ansi",)


class GridEnv(ParallelEnv):  # type: ignore[misc]
    """A grid game with the agents `green` and `orange` and actions 0..4.

    Every agent is paid the full team reward, so the team's reward is the *mean* over agents (`task.team_reward: mean`);
    their sum counts everything twice. `infos[agent]` holds "features" and "events" (name to number) and "success".
    The episodes are those of the native batch: same reset seed and actions, same numbers, bit for bit.

    Args:
        name: of the task.
        lowest: [O], lowest values of the observation; the highest are 1.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
        render_mode: "ansi", so that `render` draws the map as text; None: it draws nothing.

    Raises:
        ValueError: `n_max` is below 1, or there is no such mode.
    """

    has_success: ClassVar[bool] = True
    has_masks: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True
    action_names: ClassVar[tuple[str, ...]] = ACTION_NAMES
    stay: ClassVar[int] = STAY
    game_type: type[GridGame]

    def __init__(
        self, name: str, lowest: FloatArray, n_max: int, allow_agent_overlap: bool, render_mode: str | None = None
    ) -> None:
        if n_max < 1:
            raise ValueError(f"n_max must be at least 1, got {n_max!r}; give the time limit in steps")
        require_mode(render_mode, RENDER_MODES)
        self.metadata = {"name": name, "render_modes": [*RENDER_MODES], "is_parallelizable": True}
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.render_mode = render_mode
        self.max_steps, self.allow_agent_overlap = n_max, allow_agent_overlap
        self.observation_spaces = {agent: Box(lowest, np.ones_like(lowest)) for agent in AGENTS}
        self.action_spaces = {agent: Discrete(len(ACTION_NAMES)) for agent in AGENTS}
        # Random, until the first reset with a seed.
        self._next_seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.game = self._new_game(None)

    def observation_space(self, agent: str) -> Box:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        return self.action_spaces[agent]

    def _new_game(self, seed: int | None) -> GridGame:
        """Start a game; without a seed it has the next one of the sequence that the last seed began."""
        used = self._next_seed if seed is None else seed
        self._next_seed = splitmix64(used) >> 33
        return self.game_type(used, self.max_steps, self.allow_agent_overlap)

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
        """Make one joint step.

        Raises:
            ValueError: the episode is over, an agent's action is missing or out of range.
        """
        if not self.agents:
            raise ValueError(f"step needs a running episode, the last one ended at step {self.game.clock}; call reset")
        if missing := [agent for agent in AGENTS if agent not in actions]:
            raise ValueError(f"step needs an action of every agent, {missing!r} gave none; add them")
        # Checked by the game, too: an action out of range is its error.
        outcome = self.game.step([int(actions[agent]) for agent in AGENTS])
        observations, infos = self._observations(), self._infos(outcome.events, outcome.terminated)
        # PettingZoo's convention: nobody is left when the episode is over.
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
        """Return [2 O]: both agents' own views."""
        return np.concatenate([self.game.observation(i) for i in range(len(AGENTS))])

    def describe(self) -> str:
        """Return the state in one line of text."""
        return self.game.describe()

    def render(self) -> str | None:
        """Return the state as a picture of text in render mode "ansi"; None else."""
        return self.game.picture() if self.render_mode == "ansi" else None

    def _observations(self) -> dict[str, FloatArray]:
        return {agent: self.game.observation(i) for i, agent in enumerate(AGENTS)}

    def _infos(self, events: tuple[dict[str, int], dict[str, int]], success: bool) -> Infos:
        return {
            agent: {"features": self.game.features(i), "events": dict(events[i]), "success": success}
            for i, agent in enumerate(AGENTS)
        }


def viewpoint(
    game: GridGame, agent: str, place: Callable[[Cell], str] = "({0[0]},{0[1]})".format, role: str = ""
) -> str:
    """Return where an agent is, as "you", and then where its teammate is.

    Args:
        game: the running episode.
        agent: whose view it is.
        place: names a cell.
        role: what the agent is, put behind its name.
    """
    sentences = []
    for name, pose in zip(AGENTS, game.poses, strict=True):
        who = f"You are the {name} agent{role}" if name == agent else f"Your teammate {name} is"
        sentences.append((name != agent, f"{who} at {place(pose[:2])} facing {HEADINGS[pose[2]]}."))
    return " ".join(sentence for _, sentence in sorted(sentences))
