"""A bounded sample of the run's transitions: what scales are frozen on and proposals are checked against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .episodes import EpisodeTracker
from .rollout import Rollout
from .signals.recorded import Recorded
from .task import TaskSpec

CAPACITY = 4096  # transitions kept
PER_UPDATE = 32  # taken from each rollout, so that the sample reaches 128 updates back

Arrays = dict[str, NDArray[np.generic]]


class TransitionRecorder:
    """Ring of transitions drawn with a random stream of its own, so that recording never changes training."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.count = 0
        self.ring: dict[str, NDArray[np.float32]] = {"terminated": np.zeros(CAPACITY, np.float32)}
        for g, group in enumerate(spec.groups):
            agents = len(group.agents)
            for name, size in (
                ("features", len(group.features)),
                ("last_features", len(group.features)),
                ("events", len(group.events)),
            ):
                self.ring[f"{name}.{g}"] = np.zeros((CAPACITY, agents, size), np.float32)

    def add(self, rollout: Rollout) -> None:
        steps, envs = rollout.reward.shape
        rng = np.random.default_rng(self.count)
        chosen = rng.choice(steps * envs, size=min(PER_UPDATE, steps * envs), replace=False)
        t, e = np.divmod(chosen, envs)
        slots = (self.count + np.arange(len(chosen))) % CAPACITY
        self.ring["terminated"][slots] = rollout.terminated[t, e]
        for g in range(len(self.spec.groups)):
            self.ring[f"features.{g}"][slots] = rollout.features[g][t, e]
            self.ring[f"last_features.{g}"][slots] = rollout.last_features[g][t, e]
            self.ring[f"events.{g}"][slots] = rollout.events[g][t, e]
        self.count += len(chosen)

    def recorded(self, episodes: EpisodeTracker) -> Recorded:
        """The sample with the last non-terminal states of recent episodes."""
        kept = slice(0, min(self.count, CAPACITY))
        groups = range(len(self.spec.groups))
        return Recorded(
            features=[self.ring[f"features.{g}"][kept] for g in groups],
            last_features=[self.ring[f"last_features.{g}"][kept] for g in groups],
            events=[self.ring[f"events.{g}"][kept] for g in groups],
            terminated=self.ring["terminated"][kept],
            end_features=[episodes.recent(f"last_state.{g}").astype(np.float32) for g in groups],
            end_success=episodes.recent("successes").astype(np.float32),
        )

    def state_dict(self) -> Arrays:
        return {**{k: v.copy() for k, v in self.ring.items()}, "count": np.array([self.count])}

    def load_state_dict(self, state: Arrays) -> None:
        for key in self.ring:
            self.ring[key] = state[key].copy()  # type: ignore[assignment]
        self.count = int(state["count"][0])
