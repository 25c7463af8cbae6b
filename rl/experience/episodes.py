"""A rollout cut where its episodes end, so that what happened in each can be computed without a loop over steps."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..task import ActionArray, BoolArray, FloatArray, GroupSpec, TaskSpec
from .rollout import Rollout

# ---------------------------------------------------------------- MERGED rl.stretches


class EpisodeSegments:
    """The steps of a rollout that belong to one episode of one environment, [S], by environment and then by time.

    `env`, `first`, `last`: environment, first and last step. `over`: whether the episode ended with it. `carried` [E]:
    the stretches that go on with what ran before the rollout, `newest` [E] the last ones, both by environment. `ended`:
    those that are over, in the order in which they ended, of equals the lower environment first.
    """

    def __init__(self, done: NDArray[Any]) -> None:
        """done: [T, E]."""
        self.length, envs = done.shape
        begins = np.ones((envs, self.length), np.bool_)
        begins[:, 1:] = done.T[:, :-1] > 0
        self._rows = np.flatnonzero(begins)
        self.env, self.first = np.divmod(self._rows, self.length)
        self.last = np.append(self._rows[1:], envs * self.length) - 1 - self.env * self.length
        self.over = done[self.last, self.env] > 0
        self.carried = np.flatnonzero(self.first == 0)
        self.newest = np.append(self.carried[1:], len(self.env)) - 1
        over = np.flatnonzero(self.over)
        self.ended = over[np.lexsort((self.env[over], self.last[over]))]

    def reduced(self, operation: np.ufunc, steps: NDArray[Any]) -> NDArray[Any]:
        """[T, E, …] → [S, …]: `operation` over the steps of each stretch."""
        by_env = np.swapaxes(steps, 0, 1).reshape(steps.shape[0] * steps.shape[1], *steps.shape[2:])
        return np.asarray(operation.reduceat(by_env, self._rows, axis=0))

    def steps_since(self, before: NDArray[Any]) -> NDArray[Any]:
        """[T, E]: how many steps the running episode has taken with this one; `before` [S] it had when it came in."""
        shift = np.repeat(before - self.first, self.last - self.first + 1).reshape(-1, self.length)
        return np.asarray((np.arange(1, self.length + 1) + shift).T)


# ---------------------------------------------------------------- MERGED rl.episodes
# DOC """What finished episodes looked like: the raw material of stage, evidence and report.
# DOC
# DOC Everything is kept in fixed-size rings of plain arrays, so that a snapshot carries it and a fork continues it.
# DOC """

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
        parts = EpisodeSegments(rollout.done)
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

    def _totals(self, rollout: Rollout, parts: EpisodeSegments) -> dict[str, NDArray[Any]]:
        """Return, length and success of each stretch's episode so far, [S]."""
        total, running = np.empty(rollout.reward.shape), self.running["return"]
        for t, reward in enumerate(rollout.reward):
            total[t] = running + reward
            running = np.where(rollout.done[t] > 0, 0.0, total[t])
        lengths = (parts.last - parts.first + 1).astype(np.float64)
        lengths[parts.carried] += self.running["length"]
        at_end = parts.last, parts.env
        return {"returns": total[at_end], "lengths": lengths, "successes": rollout.success[at_end]}

    def _of_group(
        self, g: int, rollout: Rollout, parts: EpisodeSegments, lengths: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
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

    def _carried_on(self, name: str, operation: np.ufunc, parts: EpisodeSegments, steps: NDArray[Any]) -> NDArray[Any]:
        """`operation` over each stretch's steps, and over what ran before."""
        found = parts.reduced(operation, steps)
        found[parts.carried] = operation(self.running[name], found[parts.carried])
        return found

    def _first_steps(self, g: int, events: FloatArray, parts: EpisodeSegments, lengths: NDArray[Any]) -> FloatArray:
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


# ---------------------------------------------------------------- MERGED rl.actions
# DOC """What agents did, counted, for histories and for a model's eyes."""

THIRDS = ("low", "middle", "high")  # of the range of a number


def action_labels(group: GroupSpec) -> tuple[str, ...]:
    """Names of what `action_shares` counts: choices, or the thirds of each number."""
    if group.continuous:
        return tuple(f"number {k} {third}" for k in range(len(group.action_bounds)) for third in THIRDS)
    return group.action_names or tuple(str(choice) for choice in range(group.n_actions))


def action_shares(group: GroupSpec, actions: ActionArray, alive: BoolArray | None) -> list[float]:
    """Share of each choice, or for each number the shares of the thirds of its range, which sum to one. `actions`
    [..., A_g] or [..., A_g, k] in -1..1, of those `alive` [..., A_g]."""
    chosen = actions.reshape(-1, *group.action_shape) if alive is None else actions[alive]
    if not group.continuous:
        return _shares(chosen, group.n_actions)
    thirds = np.digitize(chosen, (-1 / 3, 1 / 3))
    return [share for k in range(len(group.action_bounds)) for share in _shares(thirds[:, k], len(THIRDS))]


def _shares(choices: ActionArray, number: int) -> list[float]:
    found: list[float] = (np.bincount(choices, minlength=number) / max(len(choices), 1)).tolist()
    return found


def entropy_at_start(group: GroupSpec, log_std_init: float = 0.0) -> float:
    """Of a policy that knows nothing, in nats: uniform over the choices, or normal with the first standard deviation
    (an entropy of numbers may grow above that, and fall below zero)."""
    if group.continuous:
        return len(group.action_bounds) * (log_std_init + 0.5 * math.log(2 * math.pi * math.e))
    return math.log(group.n_actions)


# ---------------------------------------------------------------- MERGED rl.tale
# DOC """Steps of a rollout as text, for a model's eyes: who did what, what happened, what it paid."""

MOMENTS = 6
LONGEST = 30  # lines of an episode


class RolloutText(TypedDict):
    key_moments: list[str]
    episode: list[str]


def rollout_text(rollout: Rollout, spec: TaskSpec) -> RolloutText:
    """The last steps that paid, and the newest episode that ended in the rollout (its last lines)."""
    paid = np.argwhere(rollout.reward > 0)[-MOMENTS:]
    moments = [_line(rollout, spec, int(t), int(env)) for t, env in paid]
    return {
        "key_moments": moments or [f"no step of the last {rollout.steps} was rewarded"],
        "episode": _last_episode(rollout, spec),
    }


def _last_episode(rollout: Rollout, spec: TaskSpec) -> list[str]:
    ends = np.argwhere(rollout.done > 0)
    if not len(ends):
        return []
    end, env = (int(x) for x in ends[-1])
    earlier = np.flatnonzero(rollout.done[:end, env])
    start = int(earlier[-1]) + 1 if len(earlier) else 0
    return [_line(rollout, spec, t, env) for t in range(max(start, end - LONGEST + 1), end + 1)]


def _line(rollout: Rollout, spec: TaskSpec, t: int, env: int) -> str:
    said = []
    for g, group in enumerate(spec.groups):
        for i, agent in enumerate(group.agents):
            name = group.action_text(rollout.actions[g][t, env, i])
            events = [event.name for v, event in enumerate(group.events) if rollout.events[g][t, env, i, v] > 0]
            said.append(f"{agent}: {name}" + (f" [{', '.join(events)}]" if events else ""))
    ending = " terminated" if rollout.terminated[t, env] else " cut by the time limit" if rollout.done[t, env] else ""
    if rollout.lost is not None and rollout.lost[t, env]:
        ending = " cut since the environment crashed"
    return f"{'; '.join(said)}; reward {rollout.reward[t, env]:+.3f}{ending}"
