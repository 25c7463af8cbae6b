"""What finished episodes looked like: the raw material of stage, evidence and report.

Everything is kept in fixed-size rings of plain arrays, so that a snapshot carries it and a fork continues it.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rollout import Rollout
from .stretches import Stretches
from .task import FloatArray, TaskSpec

WINDOW = 512  # finished episodes kept
Arrays = dict[str, NDArray[np.generic]]


class EpisodeTracker:
    """Follows E running episodes and keeps the last `WINDOW` finished ones.

    Rings: `returns` undiscounted sparse return, `successes` 0/1, `lengths` steps; per group
    `low`, `high`, `start`, `end` [WINDOW, F_g] of each feature over the episode (low and high over all agents, start
    and end the mean over agents, `end` at the last non-terminal state), `counts` [WINDOW, A_g, V_g] of events,
    `first` [WINDOW, V_g] the step at which an event first happened (-1 never). `with_obs`: `last_obs` too, what was
    observed in the last non-terminal state.
    """

    def __init__(self, spec: TaskSpec, num_envs: int, with_obs: bool = False) -> None:
        self.spec, self.with_obs = spec, with_obs
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
            if with_obs:
                ring[f"last_obs.{g}"] = np.zeros((WINDOW, len(group.agents), group.obs_size), np.float32)
        self.running, self.ring = running, ring

    def __len__(self) -> int:
        return min(self.finished, WINDOW)

    def add(self, rollout: Rollout) -> tuple[FloatArray, FloatArray]:
        """Follow one rollout; gives (returns, successes) of the last `WINDOW` episodes that ended in it, without those
        that were lost."""
        parts = Stretches(rollout.done)
        ended = parts.ended
        if rollout.lost is not None:
            ended = ended[rollout.lost[parts.last[ended], parts.env[ended]] == 0]
        values = self._totals(rollout, parts)
        for g in range(len(self.spec.groups)):
            values |= self._of_group(g, rollout, parts, values["lengths"])
        slots = np.arange(self.finished, self.finished + len(ended))[-WINDOW:] % WINDOW
        for name, ring in self.ring.items():
            ring[slots] = values[name][ended[-WINDOW:]]
        for name, running in self.running.items():
            running[:] = values[_RING_OF.get(name, name)][parts.newest]
            running[parts.over[parts.newest]] = _empty(name)
        self.finished += len(ended)
        return self.ring["returns"][slots].astype(np.float32), self.ring["successes"][slots].astype(np.float32)

    def forget_running(self) -> None:
        """Begin anew with the episodes that are running; the finished ones stay."""
        for name, values in self.running.items():
            values[:] = _empty(name)

    def recent(self, name: str) -> NDArray[np.generic]:
        """A ring's rows in the order in which the episodes ended, oldest first."""
        if self.finished <= WINDOW:
            return self.ring[name][: self.finished]
        start = self.finished % WINDOW
        return np.concatenate([self.ring[name][start:], self.ring[name][:start]])

    def _totals(self, rollout: Rollout, parts: Stretches) -> dict[str, NDArray[Any]]:
        """Return, length and success of each stretch's episode so far, [S]."""
        total, running = np.empty(rollout.reward.shape), self.running["return"]
        for t, reward in enumerate(rollout.reward):
            total[t] = running + reward
            running = np.where(rollout.done[t] > 0, 0.0, total[t])
        lengths = (parts.last - parts.first + 1).astype(np.float64)
        lengths[parts.carried] += self.running["length"]
        at_end = parts.last, parts.env
        return {"returns": total[at_end], "lengths": lengths, "successes": rollout.success[at_end]}

    def _of_group(self, g: int, rollout: Rollout, parts: Stretches, lengths: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Everything about the features and events of group g, [S, …]; `lengths` of the episodes so far."""
        features = rollout.features[g]
        last_state = features[parts.last, parts.env]
        start = features[parts.first, parts.env].mean(1)
        begun = self.running["length"] > 0
        start[parts.carried[begun]] = self.running[f"start.{g}"][begun]
        found = {
            "start": start, "end": last_state.mean(1), "last_state": last_state,
            "low": self._carried_on(f"low.{g}", np.minimum, parts, _over_agents(np.minimum, features)),
            "high": self._carried_on(f"high.{g}", np.maximum, parts, _over_agents(np.maximum, features)),
            "counts": self._carried_on(f"counts.{g}", np.add, parts, rollout.events[g]),
            "first": self._first_steps(g, rollout.events[g], parts, lengths),
        }  # fmt: skip
        if self.with_obs:
            found["last_obs"] = rollout.obs[g][parts.last, parts.env]
        return {f"{name}.{g}": value for name, value in found.items()}

    def _carried_on(self, name: str, operation: np.ufunc, parts: Stretches, steps: NDArray[Any]) -> NDArray[Any]:
        """`operation` over each stretch's steps, and over what ran before."""
        found = parts.reduced(operation, steps)
        found[parts.carried] = operation(self.running[name], found[parts.carried])
        return found

    def _first_steps(self, g: int, events: FloatArray, parts: Stretches, lengths: NDArray[Any]) -> FloatArray:
        """[S, V_g]: the step of the episode at which an event first happened, −1 where it has not."""
        step = parts.steps_since(lengths - (parts.last - parts.first + 1))
        found = parts.reduced(np.minimum, np.where(_over_agents(np.add, events) > 0, step[..., None], np.inf))
        found[np.isinf(found)] = _EMPTY["first"]
        before = self.running[f"first.{g}"]
        found[parts.carried] = np.where(before < 0, found[parts.carried], before)
        return found.astype(np.float32)

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
_RING_OF = {"return": "returns", "length": "lengths"}  # the others have one name in both


def _over_agents(operation: np.ufunc, values: FloatArray) -> FloatArray:
    """[T, E, A_g, …] → [T, E, …]; faster than numpy's own reduction over an axis of few."""
    return reduce(operation, np.moveaxis(values, 2, 0))


def _empty(name: str) -> float:
    """Of a running value before its episode's first step."""
    return _EMPTY.get(name.partition(".")[0], 0.0)
