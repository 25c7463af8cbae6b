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
from .episodes import Arrays, EpisodeTracker
from .rollout import Rollout

CAPACITY = 4096  # transitions that are remembered
PER_UPDATE = 32  # taken from each rollout, so that the sample reaches 128 updates back
_PER_GROUP = ("features", "last_features", "events", "end_features")
_OBS = ("obs", "last_obs", "end_obs")  # of a run that keeps them


@dataclass(frozen=True)
class TransitionSample:
    """`N` transitions and the last non-terminal states of `M` finished episodes. Flags are bool, or 0 and 1.

    `obs` and the other observations are of the same states, for learned terms; empty lists in a run that keeps none.
    """

    features: list[FloatArray]  # [g] [N, A_g, F_g], of s
    last_features: list[FloatArray]  # [g] [N, A_g, F_g], of s′ before auto-reset
    events: list[FloatArray]  # [g] [N, A_g, V_g]
    terminated: NDArray[Any]  # [N]
    end_features: list[FloatArray]  # [g] [M, A_g, F_g]
    end_success: NDArray[Any]  # [M]
    obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s
    last_obs: list[FloatArray] = field(default_factory=list)  # [g] [N, A_g, O_g], of s′
    end_obs: list[FloatArray] = field(default_factory=list)  # [g] [M, A_g, O_g]

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        arrays: dict[str, NDArray[Any]] = {"terminated": self.terminated, "end_success": self.end_success}
        for name in (*_PER_GROUP, *_OBS):
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
            known = (*_PER_GROUP, *(name for name in _OBS if f"{name}.0" in arrays))
            lists = {name: [arrays[f"{name}.{g}"] for g in range(groups)] for name in known}
            recorded = cls(**lists, terminated=arrays["terminated"], end_success=arrays["end_success"])
        except KeyError as error:
            raise SnapshotError(f"recorded transitions lack {error} in {str(path)!r}; take a new snapshot") from error
        # All arrays must be equally long, and as wide as the task says.
        count, ends = len(recorded.terminated), len(recorded.end_success)
        per_state = (*recorded.features, *recorded.last_features, *recorded.events, *recorded.obs, *recorded.last_obs)
        fits = all(len(x) == count for x in per_state)
        fits &= all(len(x) == ends for x in (*recorded.end_features, *recorded.end_obs))
        if not fits:
            raise SnapshotError(
                f"recorded arrays must all have {count} transitions and {ends} ends, got others in {str(path)!r}; "
                "take a new snapshot"
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
        ring: [CAPACITY, …] by name: `terminated`, and by group `events.g`, `features.g`, `last_features.g`, `obs.g`,
            `last_obs.g`; the first `size` rows are filled.
    """

    def __init__(self, spec: TaskSpec, with_obs: bool = False) -> None:
        """Begin with nothing; `with_obs`: what agents observe is kept too."""
        self.spec = spec
        self.views = ("features", "obs") if with_obs else ("features",)
        self.count = 0
        self.ring: dict[str, NDArray[Any]] = {"terminated": np.zeros(CAPACITY, np.float32)}
        for g, group in enumerate(spec.groups):
            agents, widths = len(group.agents), {"obs": group.obs_size, "features": len(group.features)}
            self.ring[f"events.{g}"] = np.zeros((CAPACITY, agents, len(group.events)), np.float32)
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"] = np.zeros((CAPACITY, agents, widths[view]), np.float32)

    @property
    def size(self) -> int:
        """The number of transitions in the ring."""
        return min(self.count, CAPACITY)

    def add(self, rollout: Rollout) -> None:
        """Take some transitions of a rollout, drawn without replacement; those that were lost are left out."""
        steps, envs = rollout.reward.shape
        # Seeded by the count: the same rollouts give the same sample, and no other stream is touched.
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

    def recorded(self, episodes: EpisodeTracker) -> TransitionSample:
        """Return the sample with the last non-terminal states of recent episodes."""

        def per_group(name: str) -> list[FloatArray]:
            return [self.ring[f"{name}.{g}"][: self.size] for g in range(len(self.spec.groups))]

        def at_ends(name: str) -> list[FloatArray]:
            return [episodes.recent(f"{name}.{g}").astype(np.float32) for g in range(len(self.spec.groups))]

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
        )

    def state_dict(self) -> Arrays:
        """Return the ring and the count as arrays, copied."""
        return {**{k: v.copy() for k, v in self.ring.items()}, "count": np.array([self.count])}

    def load_state_dict(self, state: Arrays) -> None:
        """Take over what `state_dict` gave; arrays of older versions that nothing reads any more are left out."""
        for key in self.ring:
            self.ring[key] = state[key].copy()
        self.count = int(state["count"][0])
