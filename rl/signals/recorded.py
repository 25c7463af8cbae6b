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
from ..task import FloatArray, TaskSpec

_PER_GROUP = ("features", "last_features", "events", "end_features")
_PAIRS = ("rewarded_from", "rewarded_to", "plain_from", "plain_to")  # snapshots of older versions have none
_OBS = ("obs", "last_obs", "end_obs", *(f"{name}_obs" for name in _PAIRS))  # of a run that keeps them


@dataclass(frozen=True)
class Recorded:
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
    def load(cls, path: Path, spec: TaskSpec | None = None) -> Recorded:
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
