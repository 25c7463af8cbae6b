"""What finished episodes looked like: the raw material of stage, evidence and report.

Everything is kept in fixed-size rings of plain arrays, so that a snapshot carries it and a fork continues it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rollout import Rollout
from .task import FloatArray, TaskSpec

WINDOW = 512  # finished episodes kept
Arrays = dict[str, NDArray[np.generic]]


class EpisodeTracker:
    """Follows E running episodes and keeps the last `WINDOW` finished ones.

    Rings: `returns` undiscounted sparse return, `successes` 0/1, `lengths` steps; per group
    `low`, `high`, `start`, `end` [WINDOW, F_g] of each feature over the episode (low and high over all agents, start
    and end the mean over agents, `end` at the last non-terminal state), `counts` [WINDOW, A_g, V_g] of events,
    `first` [WINDOW, V_g] the step at which an event first happened (-1 never).
    """

    def __init__(self, spec: TaskSpec, num_envs: int) -> None:
        self.spec = spec
        self.finished = 0
        running, ring = {}, {}
        running["return"], running["length"] = np.zeros(num_envs), np.zeros(num_envs)
        for name in ("returns", "successes", "lengths"):
            ring[name] = np.zeros(WINDOW)
        for g, group in enumerate(spec.groups):
            shapes: dict[str, tuple[int, ...]] = {
                "low": (len(group.features),),
                "high": (len(group.features),),
                "start": (len(group.features),),
            }
            shapes |= {"counts": (len(group.agents), len(group.events)), "first": (len(group.events),)}
            for name, shape in shapes.items():
                running[f"{name}.{g}"] = np.full((num_envs, *shape), _EMPTY[name], np.float32)
                ring[f"{name}.{g}"] = np.zeros((WINDOW, *shape), np.float32)
            ring[f"end.{g}"] = np.zeros((WINDOW, len(group.features)), np.float32)
            ring[f"last_state.{g}"] = np.zeros((WINDOW, len(group.agents), len(group.features)), np.float32)
        self.running, self.ring = running, ring

    def __len__(self) -> int:
        return min(self.finished, WINDOW)

    def add(self, rollout: Rollout) -> tuple[FloatArray, FloatArray]:
        """Follow one rollout; gives (returns, successes) of the episodes that ended in it."""
        before = self.finished
        for t in range(len(rollout.reward)):
            self._follow(rollout, t)
            for env in np.flatnonzero(rollout.done[t]):
                self._finish(rollout, t, int(env))
        new = range(max(before, self.finished - WINDOW), self.finished)
        index = np.array([i % WINDOW for i in new], dtype=np.int64)
        return self.ring["returns"][index].astype(np.float32), self.ring["successes"][index].astype(np.float32)

    def forget_running(self) -> None:
        """Begin anew with the episodes that are running; the finished ones stay."""
        for name, values in self.running.items():
            values[:] = _EMPTY.get(name.partition(".")[0], 0.0)

    def recent(self, name: str) -> NDArray[np.generic]:
        """A ring's rows in the order in which the episodes ended, oldest first."""
        if self.finished <= WINDOW:
            return self.ring[name][: self.finished]
        start = self.finished % WINDOW
        return np.concatenate([self.ring[name][start:], self.ring[name][:start]])

    def _follow(self, rollout: Rollout, t: int) -> None:
        running = self.running
        first_step = running["length"] == 0
        running["return"] += rollout.reward[t]
        for g in range(len(self.spec.groups)):
            features, events = rollout.features[g][t], rollout.events[g][t]  # [E, A, F], [E, A, V]
            np.minimum(running[f"low.{g}"], features.min(1), out=running[f"low.{g}"])
            np.maximum(running[f"high.{g}"], features.max(1), out=running[f"high.{g}"])
            if first_step.any():
                running[f"start.{g}"][first_step] = features[first_step].mean(1)
            if events.any():
                running[f"counts.{g}"] += events
                new = (running[f"first.{g}"] < 0) & (events.sum(1) > 0)
                running[f"first.{g}"] = np.where(new, running["length"][:, None] + 1, running[f"first.{g}"]).astype(
                    np.float32
                )
        running["length"] += 1

    def _finish(self, rollout: Rollout, t: int, env: int) -> None:
        slot, ring, running = self.finished % WINDOW, self.ring, self.running
        ring["returns"][slot] = running["return"][env]
        ring["lengths"][slot] = running["length"][env]
        ring["successes"][slot] = rollout.success[t, env]
        running["return"][env] = running["length"][env] = 0
        for g in range(len(self.spec.groups)):
            ring[f"end.{g}"][slot] = rollout.features[g][t, env].mean(0)
            ring[f"last_state.{g}"][slot] = rollout.features[g][t, env]
            for name in ("low", "high", "start", "counts", "first"):
                ring[f"{name}.{g}"][slot] = running[f"{name}.{g}"][env]
                running[f"{name}.{g}"][env] = _EMPTY[name]
        self.finished += 1

    def state_dict(self) -> Arrays:
        state: Arrays = {f"running.{k}": v.copy() for k, v in self.running.items()}
        state |= {f"ring.{k}": v.copy() for k, v in self.ring.items()}
        state["finished"] = np.array([self.finished])
        return state

    def load_state_dict(self, state: Arrays) -> None:
        for part, name in ((self.running, "running"), (self.ring, "ring")):
            for key in part:
                part[key] = state[f"{name}.{key}"].copy()  # type: ignore[assignment]
        self.finished = int(state["finished"][0])


_EMPTY = {"low": np.inf, "high": -np.inf, "start": 0.0, "counts": 0.0, "first": -1.0}
