"""Small PettingZoo environments that leave early, forbid actions, or are moved by numbers. `task.env` names them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from cosignal import EventSpec, FeatureSpec
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

LENGTH = 5  # cells from the start to the end
LIMIT = 25  # steps
# The same objects at each call, as PettingZoo asks for.
OBSERVATIONS, STEPS, SPEEDS = Box(0, LENGTH, (2,)), Discrete(3), Box(-1, 2, (1,))


class Line(ParallelEnv):  # type: ignore[misc]
    """Two walkers on a line; who arrives at its end is paid 1 and leaves. Success: both arrived in time.

    Each sees where it is and how many are there. Without the number, being last looks like being first, whose value is
    twice as high, and an independent learner then learns to wait for ever.
    """

    has_success = True
    return_range = (0.0, 2.0)
    max_steps = LIMIT

    def __init__(self) -> None:
        self.possible_agents = ["walker_0", "walker_1"]
        distance = FeatureSpec(name="dist_end", kind="distance", low=0, high=LENGTH, unit="cells")
        self.feature_specs = {key: [distance] for key in self.possible_agents}
        self.event_specs = {key: [EventSpec(name="arrived")] for key in self.possible_agents}

    def observation_space(self, agent: str) -> Box:
        return OBSERVATIONS

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        self.agents, self.t = list(self.possible_agents), 0
        self.at = {agent: float(rng.integers(0, 3)) for agent in self.agents}
        return self._observed(), self._infos(set())

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.t += 1
        for agent in self.agents:
            self.at[agent] = float(np.clip(self.at[agent] + self.move(actions[agent]), 0, LENGTH))
        arrived = {agent for agent in self.agents if self.at[agent] >= LENGTH}
        observed, infos = self._observed(), self._infos(arrived)
        terminated = {agent: agent in arrived for agent in self.agents}
        truncated = {agent: self.t >= LIMIT and agent not in arrived for agent in self.agents}
        self.agents = [agent for agent in self.agents if not terminated[agent] and not truncated[agent]]
        return observed, {agent: float(end) for agent, end in terminated.items()}, terminated, truncated, infos

    def move(self, action: Any) -> float:
        raise NotImplementedError

    def _observed(self) -> dict[str, Any]:
        left = sum(x < LENGTH for x in self.at.values())
        return {agent: np.array([self.at[agent], left], np.float32) for agent in self.agents}

    def _infos(self, arrived: set[str]) -> dict[str, Any]:
        done = all(x >= LENGTH for x in self.at.values())
        return {
            agent: {
                "features": {"dist_end": LENGTH - self.at[agent]},
                "events": {"arrived": agent in arrived},
                "success": done,
            }
            for agent in self.agents
        }


class Walk(Line):
    """By steps; there is no step off the line's start."""

    metadata: ClassVar[dict[str, Any]] = {"name": "walk"}
    action_names = ("stay", "back", "forward")

    def action_space(self, agent: str) -> Discrete:
        return STEPS

    def move(self, action: Any) -> float:
        return (0.0, -1.0, 1.0)[int(action)]

    def _infos(self, arrived: set[str]) -> dict[str, Any]:
        infos = super()._infos(arrived)
        for agent, info in infos.items():
            info["action_mask"] = [True, self.at[agent] > 0, True]
        return infos


class Glide(Line):
    """By a speed in cells a step."""

    metadata: ClassVar[dict[str, Any]] = {"name": "glide"}

    def action_space(self, agent: str) -> Box:
        return SPEEDS

    def move(self, action: Any) -> float:
        return float(action[0])


class NewSpaces(Glide):
    """Makes its spaces anew at each call, which PettingZoo asks not to do."""

    def action_space(self, agent: str) -> Box:
        return Box(-1, 2, (1,))


class Guess(ParallelEnv):  # type: ignore[misc]
    """Two agents say a number in each step; the team is paid the share of those who say what they ought to."""

    STEPS: ClassVar[int]
    SEEN: ClassVar[Box]
    SAID: ClassVar[Discrete]
    has_masks = False

    def __init__(self) -> None:
        self.possible_agents = ["one", "other"]
        self.max_steps = self.STEPS

    def observation_space(self, agent: str) -> Box:
        return self.SEEN

    def action_space(self, agent: str) -> Discrete:
        return self.SAID

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.t, self.rng = list(self.possible_agents), 0, np.random.default_rng(seed)
        self.begin()
        return self.look(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.t += 1
        ends, everybody = self.t >= self.STEPS, self.agents
        right = sum(int(actions[agent]) == number for agent, number in self.wanted().items())
        observed, self.agents = self.look(), [] if ends else everybody
        infos = {agent: {"success": right == len(everybody)} if self.has_success else {} for agent in everybody}
        rewards, over = dict.fromkeys(everybody, right / 4), dict.fromkeys(everybody, ends)
        return observed, rewards, over, dict.fromkeys(everybody, False), infos

    def begin(self) -> None:
        """Begin an episode."""

    def wanted(self) -> dict[str, int]:
        raise NotImplementedError

    def look(self) -> dict[str, Any]:
        raise NotImplementedError


class Recall(Guess):
    """Each agent sees a bit in the first step only, and ought to say it in the last one; nothing else is paid.

    It sees what the bit is (-1 or 1), and whether this is the last step. Who acts by what it sees now is right half
    the time, who remembers always: 0.5 and 1 for the team.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "recall"}
    STEPS, SEEN, SAID = 11, Box(-1, 1, (2,)), Discrete(2)
    has_success, return_range = True, (0.0, 1.0)

    def begin(self) -> None:
        self.bits = dict(zip(self.agents, self.rng.integers(0, 2, 2).tolist(), strict=True))

    def wanted(self) -> dict[str, int]:
        return self.bits if self.t >= self.STEPS else {}

    def look(self) -> dict[str, Any]:
        last = float(self.t == self.STEPS - 1)
        seen = {agent: 2.0 * bit - 1 if self.t == 0 else 0.0 for agent, bit in self.bits.items()}
        return {agent: np.array([bit, last], np.float32) for agent, bit in seen.items()}


class Spot(Guess):
    """Each agent sees a 6 × 6 image of bytes with one bright 2 × 2 spot, which moves in every step, and ought to say in
    which quarter it is."""

    metadata: ClassVar[dict[str, Any]] = {"name": "spot"}
    STEPS, SEEN, SAID = 8, Box(0, 255, (6, 6, 1), np.uint8), Discrete(4)
    has_success, return_range = False, (0.0, 8.0)

    def wanted(self) -> dict[str, int]:
        return self.quarters

    def look(self) -> dict[str, Any]:
        """Draw a spot for each agent: two cells high and wide, inside a quarter of three by three."""
        images, self.quarters = {}, {}
        for agent in self.possible_agents:
            image, quarter = np.zeros((6, 6, 1), np.uint8), int(self.rng.integers(4))
            row, column = (3 * np.array(divmod(quarter, 2)) + self.rng.integers(0, 2, 2)).tolist()
            image[row : row + 2, column : column + 2] = 255
            images[agent], self.quarters[agent] = image, quarter
        return images
