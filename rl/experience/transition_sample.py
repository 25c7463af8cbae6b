"""A bounded sample of a run's own transitions: what scales are frozen on and proposals are checked against.

`TransitionSampler` follows the rollouts of a run; `TransitionSample` is what it has at one moment, in memory or as a
file of a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import SnapshotError
from ..digests import check_digests
from ..task import FloatArray, TaskSpec
from .episodes import AFTER_EVENT, Arrays, EpisodeTracker
from .rollout import Rollout

CAPACITY = 4096  # transitions that are remembered
PER_UPDATE = 32  # taken from each rollout, so that the sample reaches 128 updates back
_PER_GROUP = ("features", "last_features", "events", "end_features")
_OBS = ("obs", "last_obs", "end_obs")  # of a run that keeps them
# What snapshots of older versions do not have: by group, of a run that keeps observations too, and for all groups.
_LATER = ("start_features", "end_counts", "event_features", "advantage")
_LATER_OBS = ("start_obs", "event_obs")
_LATER_FLAT = ("reward", "end_return", "event_kind", "taken")


def _none() -> FloatArray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class TransitionSample:
    """`N` transitions, `M` finished episodes, and `Q` states after first events. Flags are bool, or 0 and 1.

    `obs` and the other observations are of the same states, for learned terms; empty lists in a run that keeps none.
    What stands below `end_obs` is empty in snapshots of older versions. NaN is what a run that began in such a version
    did not keep.
    """

    features: list[FloatArray]  # [g] [N, A_g, F_g], of s
    last_features: list[FloatArray]  # [g] [N, A_g, F_g], of s′ before auto-reset
    events: list[FloatArray]  # [g] [N, A_g, V_g]
    terminated: NDArray[Any]  # [N]
    end_features: list[FloatArray]  # [g] [M, A_g, F_g], of the last non-terminal state
    end_success: NDArray[Any]  # [M]
    obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s
    last_obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s′
    end_obs: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, O_g]
    reward: FloatArray = field(default_factory=_none)  # [N] sparse team reward
    advantage: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g] by the critic of that time; NaN: unknown
    end_return: FloatArray = field(default_factory=_none)  # [M] undiscounted sparse return
    end_counts: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, V_g] of events in the episode
    start_features: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, F_g] of the first state
    start_obs: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, O_g]
    event_kind: NDArray[Any] = field(default_factory=_none)  # [Q] index among the events of all groups, in order
    event_features: list[FloatArray] = field(default_factory=list)  # [g] [Q, A_g, F_g], right after it first happened
    event_obs: list[FloatArray] = field(default_factory=list)  # [g] [Q, A_g, O_g]
    taken: FloatArray = field(default_factory=_none)  # [N] how many transitions were taken before it: the age of each

    def newest_first(self) -> NDArray[np.int64]:
        """Return the numbers of the N transitions, the newest first; the last one is where nobody knows."""
        count = len(self.terminated)
        age = self.taken if len(self.taken) == count else np.arange(count)
        return np.asarray(np.argsort(-age, kind="stable"), np.int64)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        arrays: dict[str, NDArray[Any]] = {"terminated": self.terminated, "end_success": self.end_success}
        arrays |= {name: getattr(self, name) for name in _LATER_FLAT}
        for name in (*_PER_GROUP, *_OBS, *_LATER, *_LATER_OBS):
            arrays |= {f"{name}.{g}": array for g, array in enumerate(getattr(self, name))}
        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path, spec: TaskSpec | None = None) -> TransitionSample:
        """Read what `save` wrote.

        Raises:
            SnapshotError: the file is missing, broken, or not of `spec`'s task.
        """
        check_digests(path.parent, [path.name], every=False)
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SnapshotError(
                f"recorded transitions cannot be read from {str(path)!r} ({error}); take a new snapshot"
            ) from error
        groups = sum(key.startswith("features.") for key in arrays)
        try:
            known = (*_PER_GROUP, *(name for name in (*_OBS, *_LATER, *_LATER_OBS) if f"{name}.0" in arrays))
            lists: dict[str, Any] = {name: [arrays[f"{name}.{g}"] for g in range(groups)] for name in known}
            lists |= {name: arrays[name] for name in _LATER_FLAT if name in arrays}
            recorded = cls(**lists, terminated=arrays["terminated"], end_success=arrays["end_success"])
        except KeyError as error:
            raise SnapshotError(f"recorded transitions lack {error} in {str(path)!r}; take a new snapshot") from error
        # All arrays must be equally long, and as wide as the task says.
        count, ends, after = len(recorded.terminated), len(recorded.end_success), len(recorded.event_kind)
        per_state = (*recorded.features, *recorded.last_features, *recorded.events, *recorded.obs, *recorded.last_obs)
        per_state += tuple(recorded.advantage)
        per_end = (*recorded.end_features, *recorded.end_obs, *recorded.end_counts)
        fits = all(len(x) == count for x in per_state) and len(recorded.reward) in (0, count)
        fits &= all(len(x) == ends for x in (*per_end, *recorded.start_features, *recorded.start_obs))
        fits &= len(recorded.end_return) in (0, ends)
        fits &= all(len(x) == after for x in (*recorded.event_features, *recorded.event_obs))
        if not fits:
            raise SnapshotError(
                f"recorded arrays must all have {count} transitions, {ends} ends and {after} states after events, got "
                f"others in {str(path)!r}; take a new snapshot"
            )
        if spec is not None:
            wanted = [(len(g.agents), len(g.features), len(g.events)) for g in spec.groups]
            got = [(*f.shape[1:], e.shape[-1]) for f, e in zip(recorded.features, recorded.events, strict=True)]
            if got != wanted:
                raise SnapshotError(
                    f"recorded transitions must have (agents, features, events) {wanted!r} per group as task "
                    f"{spec.name!r}, got {got!r} in {str(path)!r}; use the snapshot with the task it was made on"
                )
        return recorded


class TransitionSampler:
    """A ring of transitions, drawn with random streams of its own, so that recording never changes training.

    Attributes:
        spec: the task.
        views: what is kept of states, `features` and, for learned terms, `obs`.
        count: how many transitions were taken since the run began.
        ring: [CAPACITY, …] by name: `terminated`, `reward`, and by group `events.g`, `advantage.g`, `features.g`,
            `last_features.g`, `obs.g`, `last_obs.g`; the first `size` rows are filled.
    """

    def __init__(self, spec: TaskSpec, with_obs: bool = False) -> None:
        """Begin with nothing; `with_obs`: what agents observe is kept too."""
        self.spec = spec
        self.views = ("features", "obs") if with_obs else ("features",)
        self.count = 0
        self.ring: dict[str, NDArray[Any]] = {name: np.zeros(CAPACITY, np.float32) for name in ("terminated", "reward")}
        for g, group in enumerate(spec.groups):
            agents, widths = len(group.agents), {"obs": group.obs_size, "features": len(group.features)}
            self.ring[f"events.{g}"] = np.zeros((CAPACITY, agents, len(group.events)), np.float32)
            self.ring[f"advantage.{g}"] = np.full((CAPACITY, agents), np.nan, np.float32)
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"] = np.zeros((CAPACITY, agents, widths[view]), np.float32)

    @property
    def size(self) -> int:
        """The number of transitions in the ring."""
        return min(self.count, CAPACITY)

    def add(self, rollout: Rollout, advantages: list[FloatArray] | None = None) -> None:
        """Take some transitions of a rollout, drawn without replacement; those that were lost are left out.

        `advantages` are those of its steps, [g] [T, E, A_g], where there are any.
        """
        steps, envs = rollout.reward.shape
        # Seeded by the count: the same rollouts give the same sample, and no other stream is touched.
        rng = np.random.default_rng(self.count)
        chosen = rng.choice(steps * envs, size=min(PER_UPDATE, steps * envs), replace=False)
        if rollout.lost is not None:
            chosen = chosen[rollout.lost.ravel()[chosen] == 0]
        t, e = np.divmod(chosen, envs)
        slots = (self.count + np.arange(len(chosen))) % CAPACITY
        self.ring["terminated"][slots] = rollout.terminated[t, e]
        self.ring["reward"][slots] = rollout.reward[t, e]
        for g in range(len(self.spec.groups)):
            self.ring[f"events.{g}"][slots] = rollout.events[g][t, e]
            self.ring[f"advantage.{g}"][slots] = np.nan if advantages is None else advantages[g][t, e]
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"][slots] = getattr(rollout, name)[g][t, e]
        self.count += len(chosen)

    def recorded(self, episodes: EpisodeTracker) -> TransitionSample:
        """Return the sample with what is kept of recent episodes."""

        def per_group(name: str) -> list[FloatArray]:
            return [self.ring[f"{name}.{g}"][: self.size] for g in range(len(self.spec.groups))]

        def at_ends(name: str) -> list[FloatArray]:
            return [episodes.recent(f"{name}.{g}").astype(np.float32) for g in range(len(self.spec.groups))]

        def after_events(view: str) -> list[FloatArray]:
            kept = [episodes.after_event[f"{view}.{g}"] for g in range(len(self.spec.groups))]
            return [np.concatenate([x[:0, 0], *(row[:n] for row, n in zip(x, filled, strict=True))]) for x in kept]

        filled = np.minimum(episodes.after_event["count"], AFTER_EVENT)
        with_obs = "obs" in self.views
        return TransitionSample(
            features=per_group("features"),
            last_features=per_group("last_features"),
            events=per_group("events"),
            terminated=self.ring["terminated"][: self.size],
            end_features=at_ends("last_state"),
            end_success=episodes.recent("successes").astype(np.float32),
            obs=per_group("obs") if with_obs else [],
            last_obs=per_group("last_obs") if with_obs else [],
            end_obs=at_ends("last_obs") if with_obs else [],
            reward=self.ring["reward"][: self.size],
            advantage=per_group("advantage"),
            end_return=episodes.recent("returns").astype(np.float32),
            end_counts=at_ends("counts"),
            start_features=at_ends("first_state"),
            start_obs=at_ends("first_obs") if with_obs else [],
            event_kind=np.repeat(np.arange(len(filled)), filled),
            event_features=after_events("features"),
            event_obs=after_events("obs") if with_obs else [],
            taken=self._taken(),
        )

    def _taken(self) -> FloatArray:
        """Return how many transitions were taken before each of those in the ring, whose places come round again."""
        place = np.arange(self.size)
        return np.asarray(place + CAPACITY * ((self.count - 1 - place) // CAPACITY), np.float32)

    def state_dict(self) -> Arrays:
        """Return the ring and the count as arrays, copied."""
        return {**{k: v.copy() for k, v in self.ring.items()}, "count": np.array([self.count])}

    def load_state_dict(self, state: Arrays) -> None:
        """Take over what `state_dict` gave.

        Arrays of older versions that nothing reads any more are left out, and rewards and advantages, which they do not
        have, are NaN.
        """
        for key, ring in self.ring.items():
            known = key in state or not key.startswith(("reward", "advantage"))
            self.ring[key] = state[key].copy() if known else np.full_like(ring, np.nan)
        self.count = int(state["count"][0])
