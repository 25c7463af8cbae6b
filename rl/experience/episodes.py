"""Finished episodes: figures of each for stage, evidence and report, and the newest steps as text.

    rollout → EpisodeSegments (cut where episodes end) → EpisodeTracker (rings of finished episodes)
            → action_shares, rollout_text

Nothing here loops over single steps of the environments but the texts and the sum of rewards, which is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypedDict

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..task import ActionArray, BoolArray, FloatArray, GroupSpec, TaskSpec
from .rollout import Rollout

WINDOW = 512  # finished episodes that are remembered
AFTER_EVENT = 32  # states after first events that are remembered, of each event
THIRDS = ("low", "middle", "high")  # of the range of a number
MOMENTS = 6  # rewarded steps that are quoted
LONGEST = 30  # lines of an episode
NEAR = 0.05  # share of a distance's range within which an agent is there

Arrays = dict[str, NDArray[np.generic]]

# What a running value is before its episode's first step; the others are 0.
_EMPTY = {"low": np.inf, "high": -np.inf, "first": -1.0, "last": -1.0}
_RING_OF = {"return": "returns", "length": "lengths"}  # running value → its ring; the others have one name in both
# What snapshots of older versions do not have, with what it is there.
_LATER = {"first_state": np.nan, "first_obs": np.nan, "last": -1.0, "at_once": 0.0}


class EpisodeSegments:
    """The steps of a rollout [T, E], cut where episodes end: S segments, by environment and then by time.

    Attributes:
        env: [S], the environment.
        first: [S], the first step.
        last: [S], the last step.
        over: [S], whether the episode ended with it.
        carried: [E], by environment the segment that goes on with what ran before the rollout.
        newest: [E], by environment the last segment.
        ended: those that are over, in the order in which they ended, of equals the lower environment first.
    """

    def __init__(self, done: NDArray[Any]) -> None:
        """Cut at `done` [T, E], which is above 0 at the last step of an episode."""
        # Steps are numbered environment by environment, so that a segment is a run of numbers.
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
        """Reduce [T, E, …] to [S, …] with `operation` over the steps of each segment."""
        by_env = np.swapaxes(steps, 0, 1).reshape(steps.shape[0] * steps.shape[1], *steps.shape[2:])
        return np.asarray(operation.reduceat(by_env, self._rows, axis=0))

    def steps_since(self, before: NDArray[Any]) -> NDArray[Any]:
        """Return [T, E]: how many steps the running episode has taken with this one.

        Args:
            before: [S], how many it had taken when the segment began.
        """
        shift = np.repeat(before - self.first, self.last - self.first + 1).reshape(-1, self.length)
        return np.asarray((np.arange(1, self.length + 1) + shift).T)


@dataclass(frozen=True)
class TeamDistance:
    """A distance that several agents have.

    Attributes:
        name: of the feature, in whatever groups.
        agents: how many have it.
        limit: value up to which an agent is there, but where it is done: nobody is at what is gone.
        columns: (group, column) of the feature in each group that has it.
    """

    name: str
    agents: int
    limit: float
    columns: tuple[tuple[int, int], ...]


def team_distances(spec: TaskSpec) -> tuple[TeamDistance, ...]:
    """Return the features of kind distance that two agents or more have, by name, in the order of the groups."""
    columns: dict[str, list[tuple[int, int]]] = {}
    for g, group in enumerate(spec.groups):
        for column, feature in enumerate(group.features):
            if feature.kind == "distance":
                columns.setdefault(feature.name, []).append((g, column))
    found = []
    for name, places in columns.items():
        # Groups may declare other ranges for one name: each is there by the widest.
        specs = [spec.groups[g].features[column] for g, column in places]
        limit = max(feature.low + NEAR * (feature.high - feature.low) for feature in specs)
        agents = sum(len(spec.groups[g].agents) for g, _ in places)
        if agents > 1:
            found.append(TeamDistance(name, agents, limit, tuple(places)))
    return tuple(found)


@dataclass(frozen=True)
class _NearColumns:
    """The distances of the team that one group has, side by side: [D_g] each."""

    distances: list[int]  # indices into `team_distances`
    columns: list[int]  # of the group's features
    limits: FloatArray
    done: FloatArray  # NaN, which nothing equals, where none is declared

    @classmethod
    def of(cls, g: int, distances: Sequence[TeamDistance], group: GroupSpec) -> _NearColumns:
        mine = [(d, column) for d, x in enumerate(distances) for h, column in x.columns if h == g]
        done = [group.features[column].done for _, column in mine]
        return cls(
            distances=[d for d, _ in mine],
            columns=[column for _, column in mine],
            limits=np.array([distances[d].limit for d, _ in mine], np.float32),
            done=np.array([np.nan if value is None else value for value in done], np.float32),
        )


class EpisodeTracker:
    """Follows E running episodes and keeps the last `WINDOW` finished ones in rings of plain arrays.

    Rings have a fixed size, so that a snapshot carries them and a fork continues them. Of an episode there are

    * `returns`, undiscounted sparse return, `successes`, 0 or 1, and `lengths`, steps: [WINDOW];
    * `low.g`, `high.g`, `start.g`, `end.g`, of each feature of group g: [WINDOW, F_g]. Low and high are over all agents
      and steps, start and end are means over agents, the end at the last non-terminal state;
    * `first_state.g` and `last_state.g`, the features in the first and in that last state: [WINDOW, A_g, F_g], and with
      `with_obs` `first_obs.g` and `last_obs.g`, what was observed in them: [WINDOW, A_g, O_g]. First states are NaN of
      episodes that began in a snapshot of a version that did not keep them;
    * `counts.g` of events: [WINDOW, A_g, V_g];
    * `first.g` and `last.g`, the steps at which an event first and last happened, -1 never: [WINDOW, V_g];
    * `at_once`, of each distance that several agents have (`team_distances`), how many of them were within NEAR of its
      low end at the same time, at most: [WINDOW, D].

    Besides, the newest states right after an event first happened in its episode are kept, `AFTER_EVENT` of each of the
    V events of all groups, whether the episode has ended or not.

    Attributes:
        finished: how many episodes have ended since the run began.
        running: values of the running episodes so far, [E, …] by name.
        ring: values of the finished ones, [WINDOW, …] by name; `recent` has them in order.
        after_event: `features.g` and, with `with_obs`, `obs.g` of those states, [V, AFTER_EVENT, A_g, …], the events in
            the order of the groups; and `count`, how often each has been first, [V].
    """

    def __init__(self, spec: TaskSpec, num_envs: int, with_obs: bool = False) -> None:
        self.spec, self.with_obs = spec, with_obs
        self.finished = 0
        self.running: dict[str, NDArray[Any]] = {"return": np.zeros(num_envs), "length": np.zeros(num_envs)}
        self.ring: dict[str, NDArray[Any]] = {name: np.zeros(WINDOW) for name in ("returns", "successes", "lengths")}
        distances = team_distances(spec)
        self.running["at_once"] = np.zeros((num_envs, len(distances)), np.float32)
        self.ring["at_once"] = np.zeros((WINDOW, len(distances)), np.float32)
        self._near = [_NearColumns.of(g, distances, group) for g, group in enumerate(spec.groups)]
        for g, group in enumerate(spec.groups):
            agents, features, events = len(group.agents), len(group.features), len(group.events)
            shapes = {
                "low": (features,), "high": (features,), "start": (features,), "first_state": (agents, features),
                "counts": (agents, events), "first": (events,), "last": (events,),
            }  # fmt: skip
            if with_obs:
                shapes["first_obs"] = (agents, group.obs_size)
            for name, shape in shapes.items():
                self.running[f"{name}.{g}"] = np.full((num_envs, *shape), _EMPTY.get(name, 0.0), np.float32)
                self.ring[f"{name}.{g}"] = np.zeros((WINDOW, *shape), np.float32)
            self.ring[f"end.{g}"] = np.zeros((WINDOW, features), np.float32)
            self.ring[f"last_state.{g}"] = np.zeros((WINDOW, agents, features), np.float32)
            if with_obs:
                self.ring[f"last_obs.{g}"] = np.zeros((WINDOW, agents, group.obs_size), np.float32)
        kinds = sum(len(group.events) for group in spec.groups)
        self.after_event: dict[str, NDArray[Any]] = {"count": np.zeros(kinds, np.int64)}
        for g, group in enumerate(spec.groups):
            widths = {"features": len(group.features)} | ({"obs": group.obs_size} if with_obs else {})
            for view, width in widths.items():
                shape = (kinds, AFTER_EVENT, len(group.agents), width)
                self.after_event[f"{view}.{g}"] = np.zeros(shape, np.float32)

    def __len__(self) -> int:
        return min(self.finished, WINDOW)

    def add(self, rollout: Rollout) -> tuple[FloatArray, FloatArray]:
        """Follow one rollout; episodes that were lost in it count for nothing.

        Returns:
            (returns, successes) of the last `WINDOW` episodes that ended in it.
        """
        segments = EpisodeSegments(rollout.done)
        ended = segments.ended
        if rollout.lost is not None:
            ended = ended[rollout.lost[segments.last[ended], segments.env[ended]] == 0]
        # Figures of every segment's episode so far, [S, …] by the names of the rings.
        values = self._totals(rollout, segments)
        values["at_once"] = self._carried_on("at_once", np.maximum, segments, self._at_once(rollout))
        for g in range(len(self.spec.groups)):
            values |= self._of_group(g, rollout, segments, values["lengths"])
        self._keep_after_events(rollout, segments, values)
        # Episodes that ended go into the rings, and those that run on are remembered.
        slots = np.arange(self.finished, self.finished + len(ended))[-WINDOW:] % WINDOW
        for name, ring in self.ring.items():
            ring[slots] = values[name][ended[-WINDOW:]]
        for name, running in self.running.items():
            running[:] = values[_RING_OF.get(name, name)][segments.newest]
            running[segments.over[segments.newest]] = _empty(name)
        self.finished += len(ended)
        return self.ring["returns"][slots].astype(np.float32), self.ring["successes"][slots].astype(np.float32)

    def forget_running(self) -> None:
        """Begin anew with the episodes that are running; the finished ones stay."""
        for name, values in self.running.items():
            values[:] = _empty(name)

    def recent(self, name: str) -> NDArray[np.generic]:
        """Return a ring's rows in the order in which the episodes ended, oldest first."""
        if self.finished <= WINDOW:
            return self.ring[name][: self.finished]
        start = self.finished % WINDOW
        return np.concatenate([self.ring[name][start:], self.ring[name][:start]])

    # ------------------------------------------------------------ what one rollout adds

    def _totals(self, rollout: Rollout, segments: EpisodeSegments) -> dict[str, NDArray[Any]]:
        """Return the return, length and success of each segment's episode so far, [S] by name."""
        total = _running_sums(rollout.reward, rollout.done, self.running["return"])
        lengths = (segments.last - segments.first + 1).astype(np.float64)
        lengths[segments.carried] += self.running["length"]
        at_end = segments.last, segments.env
        return {"returns": total[at_end], "lengths": lengths, "successes": rollout.success[at_end]}

    def _of_group(
        self, g: int, rollout: Rollout, segments: EpisodeSegments, lengths: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return everything about the features and events of group g, [S, …] by name; `lengths` [S] so far."""
        features, events = rollout.features[g], rollout.events[g]
        last_state = features[segments.last, segments.env]
        first_state = features[segments.first, segments.env]
        values = {
            f"start.{g}": self._as_begun(f"start.{g}", segments, first_state.mean(1)),
            f"first_state.{g}": self._as_begun(f"first_state.{g}", segments, first_state),
            f"end.{g}": last_state.mean(1),
            f"last_state.{g}": last_state,
            f"low.{g}": self._carried_on(f"low.{g}", np.minimum, segments, _over_agents(np.minimum, features)),
            f"high.{g}": self._carried_on(f"high.{g}", np.maximum, segments, _over_agents(np.maximum, features)),
            f"counts.{g}": self._carried_on(f"counts.{g}", np.add, segments, events),
        }
        # The step of the episode at which each event happened, infinite (or -1) where it did not.
        step = segments.steps_since(lengths - (segments.last - segments.first + 1))[..., None]
        happened = _over_agents(np.add, events) > 0
        first = segments.reduced(np.minimum, np.where(happened, step, np.inf))
        first[np.isinf(first)] = _EMPTY["first"]
        before = self.running[f"first.{g}"]
        first[segments.carried] = np.where(before < 0, first[segments.carried], before)
        values[f"first.{g}"] = first.astype(np.float32)
        last = np.where(happened, step, _EMPTY["last"]).astype(np.float32)
        values[f"last.{g}"] = self._carried_on(f"last.{g}", np.maximum, segments, last)
        if self.with_obs:
            first_obs = rollout.obs[g][segments.first, segments.env]
            values[f"first_obs.{g}"] = self._as_begun(f"first_obs.{g}", segments, first_obs)
            values[f"last_obs.{g}"] = rollout.obs[g][segments.last, segments.env]
        return values

    def _at_once(self, rollout: Rollout) -> FloatArray:
        """Return how many agents are at the low end of each of the team's distances, [T, E, D]."""
        counts = np.zeros((*rollout.reward.shape, self.ring["at_once"].shape[1]), np.float32)
        for g, near in enumerate(self._near):
            values = rollout.features[g][..., near.columns]
            there = (values <= near.limits) & (values != near.done)
            if rollout.alive is not None:
                there &= rollout.alive[g][..., None]
            counts[..., near.distances] += _over_agents(np.add, there.astype(np.float32))
        return counts

    def _as_begun(self, name: str, segments: EpisodeSegments, at_first: NDArray[Any]) -> NDArray[Any]:
        """Return values of the first steps of segments, [S, …], for those that go on with what ran before its value."""
        begun = self.running["length"] > 0
        at_first[segments.carried[begun]] = self.running[name][begun]
        return at_first

    def _keep_after_events(self, rollout: Rollout, segments: EpisodeSegments, values: dict[str, NDArray[Any]]) -> None:
        """Keep the states s′ of the steps of this rollout at which events first happened in their episodes."""
        first = np.concatenate([values[f"first.{g}"] for g in range(len(self.spec.groups))], axis=1)
        before = values["lengths"] - (segments.last - segments.first + 1)  # steps of the episode before the segment
        segment, kinds = np.nonzero(first > before[:, None])
        t = segments.first[segment] + (first[segment, kinds] - before[segment]).astype(np.int64) - 1
        for kind in np.unique(kinds):
            found = np.flatnonzero(kinds == kind)
            self.after_event["count"][kind] += len(found)
            # The newest come last, in the slots that end with the count.
            found = found[np.argsort(t[found], kind="stable")][-AFTER_EVENT:]
            slots = (self.after_event["count"][kind] - np.arange(len(found), 0, -1)) % AFTER_EVENT
            at = t[found], segments.env[segment[found]]
            for g in range(len(self.spec.groups)):
                self.after_event[f"features.{g}"][kind, slots] = rollout.last_features[g][at]
                if self.with_obs:
                    self.after_event[f"obs.{g}"][kind, slots] = rollout.last_obs[g][at]

    def _carried_on(
        self, name: str, operation: np.ufunc, segments: EpisodeSegments, steps: NDArray[Any]
    ) -> NDArray[Any]:
        """Reduce [T, E, …] to [S, …] with `operation` over each segment's steps, and over what ran before."""
        values = segments.reduced(operation, steps)
        values[segments.carried] = operation(self.running[name], values[segments.carried])
        return values

    # ------------------------------------------------------------ state

    def state_dict(self) -> Arrays:
        """Return running values, rings, states after events and count as arrays, copied."""
        state: Arrays = {f"running.{k}": v.copy() for k, v in self.running.items()}
        state |= {f"ring.{k}": v.copy() for k, v in self.ring.items()}
        state |= {f"after_event.{k}": v.copy() for k, v in self.after_event.items()}
        state["finished"] = np.array([self.finished])
        return state

    def load_state_dict(self, state: Arrays) -> None:
        """Take over what `state_dict` gave, also in an older version: what that did not keep is not known."""
        for part, name in ((self.running, "running"), (self.ring, "ring")):
            for key, values in part.items():
                later = _LATER.get(key.partition(".")[0]) if f"{name}.{key}" not in state else None
                part[key] = state[f"{name}.{key}"].copy() if later is None else np.full_like(values, later)
        for key, kept in self.after_event.items():
            self.after_event[key] = state[f"after_event.{key}"].copy() if "after_event.count" in state else 0 * kept
        self.finished = int(state["finished"][0])


@njit(nogil=True, cache=True)
def _running_sums(rewards: FloatArray, done: FloatArray, before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [T, E]: the reward of each running episode with this step, added step by step, for another order rounds.

    Args:
        rewards: [T, E].
        done: [T, E], above 0 at the last step of an episode.
        before: [E], of the episodes that run when the rollout begins.
    """
    total = np.empty(rewards.shape)
    for env in range(rewards.shape[1]):
        running = before[env]
        for t in range(len(rewards)):
            running += rewards[t, env]
            total[t, env] = running
            if done[t, env] > 0:
                running = 0.0
    return total


def _over_agents(operation: np.ufunc, values: FloatArray) -> FloatArray:
    """Reduce [T, E, A_g, …] to [T, E, …]; faster than numpy's own reduction over an axis of few."""
    return reduce(operation, np.moveaxis(values, 2, 0))


def _empty(name: str) -> float:
    """Return what the running value `name` is before its episode's first step."""
    return _EMPTY.get(name.partition(".")[0], 0.0)


# ------------------------------------------------------------ what agents did


def action_labels(group: GroupSpec) -> tuple[str, ...]:
    """Return the names of what `action_shares` counts: choices, or the thirds of each number."""
    if group.continuous:
        return tuple(f"number {k} {third}" for k in range(len(group.action_bounds)) for third in THIRDS)
    return group.action_names or tuple(str(choice) for choice in range(group.n_actions))


def action_shares(group: GroupSpec, actions: ActionArray, alive: BoolArray | None) -> list[float]:
    """Return the share of each choice, or for each number the shares of the thirds of its range, which sum to one.

    Args:
        group: the agents' group.
        actions: [..., A_g], or [..., A_g, k] in -1..1.
        alive: [..., A_g], true for the agents that count; None for all.
    """
    chosen = actions.reshape(-1, *group.action_shape) if alive is None else actions[alive]

    def shares(choices: ActionArray, number: int) -> list[float]:
        of_all: list[float] = (np.bincount(choices, minlength=number) / max(len(choices), 1)).tolist()
        return of_all

    if not group.continuous:
        return shares(chosen, group.n_actions)
    thirds = np.digitize(chosen, (-1 / 3, 1 / 3))
    return [share for k in range(len(group.action_bounds)) for share in shares(thirds[:, k], len(THIRDS))]


def entropy_at_start(group: GroupSpec, log_std_init: float = 0.0) -> float:
    """Return the entropy of a policy that has learnt nothing, in nats.

    It is uniform over the choices, or normal with the standard deviation exp(`log_std_init`). An entropy of numbers may
    grow above that, and fall below zero.
    """
    if group.continuous:
        return len(group.action_bounds) * (log_std_init + 0.5 * math.log(2 * math.pi * math.e))
    return math.log(group.n_actions)


# ------------------------------------------------------------ steps as text


class RolloutText(TypedDict):
    """Steps of a rollout, a line each, as prompts quote them."""

    key_moments: list[str]  # the last steps that were rewarded
    episode: list[str]  # the end of the newest episode that ended


def rollout_text(rollout: Rollout, spec: TaskSpec) -> RolloutText:
    """Return as text the last `MOMENTS` steps that paid, and the last `LONGEST` of the newest episode that ended."""
    moments = [_line(rollout, spec, t, env) for t, env in np.argwhere(rollout.reward > 0)[-MOMENTS:].tolist()]
    episode: list[str] = []
    ends = np.argwhere(rollout.done > 0)
    if len(ends):
        # From the step after the episode before it in the same environment.
        end, env = ends[-1].tolist()
        earlier = np.flatnonzero(rollout.done[:end, env])
        start = int(earlier[-1]) + 1 if len(earlier) else 0
        episode = [_line(rollout, spec, t, env) for t in range(max(start, end - LONGEST + 1), end + 1)]
    return {"key_moments": moments or [f"no step of the last {rollout.steps} was rewarded"], "episode": episode}


def _line(rollout: Rollout, spec: TaskSpec, t: int, env: int) -> str:
    """Return one step as text: who did what, what happened, and what it paid."""
    parts: list[str] = []
    for g, group in enumerate(spec.groups):
        for i, agent in enumerate(group.agents):
            action = group.action_text(rollout.actions[g][t, env, i])
            events = [event.name for v, event in enumerate(group.events) if rollout.events[g][t, env, i, v] > 0]
            parts.append(f"{agent}: {action}" + (f" [{', '.join(events)}]" if events else ""))
    ending = " terminated" if rollout.terminated[t, env] else " cut by the time limit" if rollout.done[t, env] else ""
    if rollout.truncated is not None and rollout.truncated[t, env]:
        ending = " cut by the time limit"
    if rollout.lost is not None and rollout.lost[t, env]:
        ending = " cut since the environment crashed"
    return f"{'; '.join(parts)}; reward {rollout.reward[t, env]:+.3f}{ending}"
