"""A task whose agents observe the same and have to act differently: no reward teaches that to a network they share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from ..rl.task import FeatureSpec

STATIONS, STEPS = 4, 10
SOLVED = 0.9  # share of the steps in which every station is manned, for success
# The same objects at each call, as PettingZoo asks for.
SEEN, SAID = Box(0, 1, (1,)), Discrete(STATIONS)


class Stations(ParallelEnv):  # type: ignore[misc]
    """Four workers each go to one of four stations in every step, and observe nothing but a 1.

    Every step pays the share of stations that are manned, divided by the number of steps: a return of 1 at best. With
    one stochastic policy for all, the best that can be expected is 1 − (3/4)⁴ = 0.68 of the stations.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "stations", "is_parallelizable": True}
    has_success, has_masks, return_range, max_steps = True, False, (0.0, 1.0), STEPS
    description = (
        f"{STATIONS} workers each choose one of {STATIONS} stations in each of {STEPS} steps, and observe nothing. The "
        "team is paid the share of stations that are manned. Success: all are, in 0.9 of the steps."
    )
    action_names = tuple(f"station_{i}" for i in range(STATIONS))

    def __init__(self) -> None:
        self.possible_agents = [f"worker_{i}" for i in range(STATIONS)]
        self.agents: list[str] = []
        crowd = FeatureSpec(
            name="crowd", kind="quantity", low=0, high=STATIONS - 1, description="Other workers at its last station."
        )
        self.feature_specs = {agent: [crowd] for agent in self.possible_agents}

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
        self.agents, self._t, self._full = list(self.possible_agents), 0, 0
        return self._seen(), self._infos(dict.fromkeys(self.agents, 0), success=False)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Make one joint step."""
        self._t += 1
        at = [int(action) for action in actions.values()]
        manned = len(set(at))
        self._full += manned == STATIONS
        ends, everybody = self._t >= STEPS, self.agents
        infos = self._infos(
            {agent: at.count(int(station)) - 1 for agent, station in actions.items()},
            success=ends and self._full >= SOLVED * STEPS,
        )
        self.agents = [] if ends else everybody
        # the sum over workers is the team's
        rewards = dict.fromkeys(everybody, manned / STATIONS / STEPS / STATIONS)
        return self._seen(), rewards, dict.fromkeys(everybody, ends), dict.fromkeys(everybody, False), infos

    def _seen(self) -> dict[str, Any]:
        return {agent: np.ones(1, np.float32) for agent in self.possible_agents}

    def _infos(self, crowds: dict[str, int], success: bool) -> dict[str, Any]:
        return {
            agent: {"features": {"crowd": crowd}, "events": {}, "success": success} for agent, crowd in crowds.items()
        }
