"""A sample of a run's own transitions: what scales are frozen on and proposals are checked against."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import SnapshotError
from ..task import FloatArray, GroupSpec, TaskSpec
from .episodes import EpisodeTracker
from .rollout import Rollout

# ---------------------------------------------------------------- MERGED rl.signals.recorded

_PER_GROUP = ("features", "last_features", "events", "end_features")
_PAIRS = ("rewarded_from", "rewarded_to", "plain_from", "plain_to")  # snapshots of older versions have none
_OBS = ("obs", "last_obs", "end_obs", *(f"{name}_obs" for name in _PAIRS))  # of a run that keeps them


@dataclass(frozen=True)
class TransitionSample:
    """`N` transitions and the last non-terminal states of `M` finished episodes. Flags are bool, or 0 and 1.

    Besides pairs of states a few steps apart in one episode: `rewarded_to` are states from which the next step brought
    a positive team reward; on the way from `plain_from` to `plain_to`, and in the step after it, none came. Empty lists
    where nothing was paired. `obs` and the other observations are of the same states, for learned terms; empty lists in
    a run that keeps none.
    """

    features: list[FloatArray]  # [g] [N, A_g, F_g], of s
    last_features: list[FloatArray]  # [g] [N, A_g, F_g], of s′ before auto-reset
    events: list[FloatArray]  # [g] [N, A_g, V_g]
    terminated: NDArray[Any]  # [N]
    end_features: list[FloatArray]  # [g] [M, A_g, F_g]
    end_success: NDArray[Any]  # [M]
    rewarded_from: list[FloatArray] = field(default_factory=list)  # [g] [P, A_g, F_g]
    rewarded_to: list[FloatArray] = field(default_factory=list)  # [g] [P, A_g, F_g]
    plain_from: list[FloatArray] = field(default_factory=list)  # [g] [Q, A_g, F_g]
    plain_to: list[FloatArray] = field(default_factory=list)  # [g] [Q, A_g, F_g]
    obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s
    last_obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s′
    end_obs: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, O_g]
    rewarded_from_obs: list[FloatArray] = field(default_factory=list)  # [g] [P, A_g, O_g]
    rewarded_to_obs: list[FloatArray] = field(default_factory=list)
    plain_from_obs: list[FloatArray] = field(default_factory=list)  # [g] [Q, A_g, O_g]
    plain_to_obs: list[FloatArray] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        arrays: dict[str, NDArray[Any]] = {"terminated": self.terminated, "end_success": self.end_success}
        for name in (*_PER_GROUP, *_PAIRS, *_OBS):
            arrays |= {f"{name}.{g}": array for g, array in enumerate(getattr(self, name))}
        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path, spec: TaskSpec | None = None) -> TransitionSample:
        """Read what `save` wrote. Raises SnapshotError where the file is missing, broken, or not of `spec`'s task."""
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SnapshotError(
                f"recorded transitions cannot be read from {str(path)!r} ({error}); take a new snapshot"
            ) from error
        groups = sum(key.startswith("features.") for key in arrays)
        try:
            known = (*_PER_GROUP, *(name for name in (*_PAIRS, *_OBS) if f"{name}.0" in arrays))
            lists = {name: [arrays[f"{name}.{g}"] for g in range(groups)] for name in known}
            recorded = cls(**lists, terminated=arrays["terminated"], end_success=arrays["end_success"])
        except KeyError as error:
            raise SnapshotError(f"recorded transitions lack {error} in {str(path)!r}; take a new snapshot") from error
        recorded._check_shapes(path)
        if spec is not None:
            recorded._check_task(path, spec)
        return recorded

    def _check_shapes(self, path: Path) -> None:
        count, ends = len(self.terminated), len(self.end_success)
        per_state = (*self.features, *self.last_features, *self.events, *self.obs, *self.last_obs)
        fits = all(len(x) == count for x in per_state)
        fits &= all(len(x) == ends for x in (*self.end_features, *self.end_obs))
        pairs = ((self.rewarded_from, self.rewarded_to), (self.plain_from, self.plain_to))
        fits &= all([x.shape for x in start] == [x.shape for x in end] for start, end in pairs)
        if not fits:
            raise SnapshotError(
                f"recorded arrays must all have {count} transitions and {ends} ends, and pairs two states of one "
                f"shape, got others in {str(path)!r}; take a new snapshot"
            )

    def _check_task(self, path: Path, spec: TaskSpec) -> None:
        wanted = [(len(g.agents), len(g.features), len(g.events)) for g in spec.groups]
        got = [(*f.shape[1:], e.shape[-1]) for f, e in zip(self.features, self.events, strict=True)]
        if got != wanted:
            raise SnapshotError(
                f"recorded transitions must have (agents, features, events) {wanted!r} per group as task "
                f"{spec.name!r}, got {got!r} in {str(path)!r}; use the snapshot with the task it was made on"
            )


# ---------------------------------------------------------------- MERGED rl.recorder
# DOC """A bounded sample of the run's transitions: what scales are frozen on and proposals are checked against."""

CAPACITY = 4096  # transitions kept
PER_UPDATE = 32  # taken from each rollout, so that the sample reaches 128 updates back
LAG = 5  # steps between the two states of a pair
PAIRS = 256  # kept with a reward, and as many without
PAIRS_PER_UPDATE = 16  # of either kind
KINDS = ("rewarded", "plain")

Arrays = dict[str, NDArray[np.generic]]


class TransitionSampler:
    """Rings of transitions and of pairs of states, drawn with random streams of their own, so that recording never
    changes training. `with_obs`: what agents observe is kept too, which learned terms are computed from."""

    def __init__(self, spec: TaskSpec, with_obs: bool = False) -> None:
        self.spec = spec
        self.views = ("features", "obs") if with_obs else ("features",)
        self.count = 0
        self.ring: dict[str, NDArray[np.float32]] = {"terminated": np.zeros(CAPACITY, np.float32)}
        for g, group in enumerate(spec.groups):
            agents = len(group.agents)
            self.ring[f"events.{g}"] = np.zeros((CAPACITY, agents, len(group.events)), np.float32)
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"] = np.zeros((CAPACITY, agents, _width(group, view)), np.float32)
        self.paired = dict.fromkeys(KINDS, 0)
        self.pairs: dict[str, NDArray[np.float32]] = {
            f"{kind}_{end}{_SUFFIX[view]}.{g}": np.zeros((PAIRS, len(group.agents), _width(group, view)), np.float32)
            for kind in KINDS
            for end in ("from", "to")
            for view in self.views
            for g, group in enumerate(spec.groups)
        }

    def add(self, rollout: Rollout) -> None:
        self._add_pairs(rollout)
        steps, envs = rollout.reward.shape
        rng = np.random.default_rng(self.count)
        chosen = rng.choice(steps * envs, size=min(PER_UPDATE, steps * envs), replace=False)
        if rollout.lost is not None:
            chosen = chosen[rollout.lost.ravel()[chosen] == 0]
        t, e = np.divmod(chosen, envs)
        slots = (self.count + np.arange(len(chosen))) % CAPACITY
        self.ring["terminated"][slots] = rollout.terminated[t, e]
        for g in range(len(self.spec.groups)):
            self.ring[f"events.{g}"][slots] = rollout.events[g][t, e]
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"][slots] = getattr(rollout, name)[g][t, e]
        self.count += len(chosen)

    def _add_pairs(self, rollout: Rollout) -> None:
        """Ways to a reward, and as many ways without one from the same rollout, so that both show the same policy."""
        rng = np.random.default_rng([self.count, LAG])
        most = PAIRS_PER_UPDATE
        for kind, found in zip(KINDS, ways(rollout), strict=True):
            t, e = np.nonzero(found)
            chosen = rng.choice(len(t), size=min(most, len(t)), replace=False) if len(t) else np.zeros(0, np.int64)
            t, e, most = t[chosen], e[chosen], len(chosen)
            slots = (self.paired[kind] + np.arange(len(chosen))) % PAIRS
            for view in self.views:
                for g, seen in enumerate(getattr(rollout, view)):
                    self.pairs[f"{kind}_from{_SUFFIX[view]}.{g}"][slots] = seen[t, e]
                    self.pairs[f"{kind}_to{_SUFFIX[view]}.{g}"][slots] = seen[t + LAG, e]
            self.paired[kind] += len(chosen)

    def recorded(self, episodes: EpisodeTracker) -> TransitionSample:
        """The sample with the last non-terminal states of recent episodes."""
        kept = slice(0, min(self.count, CAPACITY))
        groups = range(len(self.spec.groups))
        kept_pairs = {kind: min(self.paired[kind], PAIRS) for kind in KINDS}
        pairs = {
            f"{kind}_{end}{_SUFFIX[view]}": [
                self.pairs[f"{kind}_{end}{_SUFFIX[view]}.{g}"][: kept_pairs[kind]] for g in groups
            ]
            for kind in KINDS
            for end in ("from", "to")
            for view in self.views
        }
        with_obs = (
            {
                "obs": [self.ring[f"obs.{g}"][kept] for g in groups],
                "last_obs": [self.ring[f"last_obs.{g}"][kept] for g in groups],
                "end_obs": [episodes.recent(f"last_obs.{g}").astype(np.float32) for g in groups],
            }
            if "obs" in self.views
            else {}
        )
        return TransitionSample(
            features=[self.ring[f"features.{g}"][kept] for g in groups],
            last_features=[self.ring[f"last_features.{g}"][kept] for g in groups],
            events=[self.ring[f"events.{g}"][kept] for g in groups],
            terminated=self.ring["terminated"][kept],
            end_features=[episodes.recent(f"last_state.{g}").astype(np.float32) for g in groups],
            end_success=episodes.recent("successes").astype(np.float32),
            **pairs,
            **with_obs,
        )

    def state_dict(self) -> Arrays:
        counts = {"count": np.array([self.count]), "paired": np.array([self.paired[kind] for kind in KINDS])}
        return {**{k: v.copy() for k, v in (self.ring | self.pairs).items()}, **counts}

    def load_state_dict(self, state: Arrays) -> None:
        for key in self.ring:
            self.ring[key] = state[key].copy()  # type: ignore[assignment]
        self.count = int(state["count"][0])
        paired = state.get("paired", np.zeros(len(KINDS), np.int64))  # snapshots of older versions have none
        self.paired = {kind: int(number) for kind, number in zip(KINDS, paired, strict=True)}
        for key in self.pairs:
            self.pairs[key] = state[key].copy() if key in state else np.zeros_like(self.pairs[key])  # type: ignore[assignment]


_SUFFIX = {"features": "", "obs": "_obs"}


def _width(group: GroupSpec, view: str) -> int:
    return group.obs_size if view == "obs" else len(group.features)


def ways(rollout: Rollout) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a pair may start: [T − LAG, E] each, with a reward at its end, and without one on its way.

    Both states are of one episode. A pair ends in the state from which the next step brings a positive team reward:
    what a distance to the next goal does once a goal is reached is no part of the way to it.
    """
    length = len(rollout.reward) - LAG
    if length <= 0:
        none = np.zeros((0, rollout.reward.shape[1]), np.bool_)
        return none, none
    positive = rollout.reward > 0
    whole = ~_any_within(rollout.done > 0, LAG)[:length]
    return whole & positive[LAG:], whole & ~_any_within(positive, LAG + 1)[:length]


def _any_within(flags: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """[T, E] → [T − width + 1, E]: true where any of the `width` rows from here on is."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(flags, width, axis=0).any(axis=-1))
