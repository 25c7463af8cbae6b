"""The replay of an off-policy learner: an append-only file of transitions with a cursor.

Records lie in segment files. A snapshot holds the cursor and, beside its arrays, *hard links* to the segments it needs,
so that it copies no transition and nobody counts references: a segment is gone when the last snapshot and the last line
that need it are. Whoever loads a snapshot never writes into its files but begins a segment of its own, so that forks of
one state, and a run that goes back to it, cannot disturb each other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import SnapshotError
from ..digests import Digest
from ..processes import process_is_alive
from ..task import ActionArray, BoolArray, FloatArray, IntArray, TaskSpec
from .episodes import Arrays
from .rollout import Rollout

REPLAY = "replay"  # folder of a run directory, on the same file system as its snapshots
SEGMENT_BYTES = 16 << 20
PER_AGENT = ("obs", "last_obs", "features", "last_features", "events", "actions")
MASKED = ("last_masks", "alive", "last_alive")  # of a task that has masks
PER_TEAM = ("reward", "terminated")


@dataclass(frozen=True)
class Sample:
    """N transitions of the whole team. `last_*` are s′, before auto-reset.

    Of whole episodes (`episode_replay`) they are `shape` = (L, n) steps of n episodes, one step of all after the other,
    N = L · n; where an episode is shorter its last transition stands again, and `filled` is 0.
    """

    obs: list[FloatArray]  # [g] [N, A_g, O_g]
    last_obs: list[FloatArray]
    features: list[FloatArray]  # [g] [N, A_g, F_g]
    last_features: list[FloatArray]
    events: list[FloatArray]  # [g] [N, A_g, V_g]
    actions: list[ActionArray]  # [g] [N, A_g]
    reward: FloatArray  # [N] sparse team reward
    terminated: FloatArray  # [N]
    last_masks: list[BoolArray] | None = None  # [g] [N, A_g, U], None where the task has none
    alive: list[BoolArray] | None = None  # [g] [N, A_g]
    last_alive: list[BoolArray] | None = None
    shape: tuple[int, int] | None = None
    filled: FloatArray | None = None  # [N]


def record_type(spec: TaskSpec) -> np.dtype[np.void]:
    """Return the numpy record that one transition of the whole team is kept as."""
    fields: list[tuple[str, str, tuple[int, ...]]] = [(name, "<f4", ()) for name in PER_TEAM]
    for g, group in enumerate(spec.groups):
        n, sizes = len(group.agents), {"obs": group.obs_size, "features": len(group.features)}
        fields += [(f"{name}.{g}", "<f4", (n, sizes[name.removeprefix("last_")])) for name in PER_AGENT[:4]]
        fields += [(f"events.{g}", "<f4", (n, len(group.events))), (f"actions.{g}", "<i8", (n,))]
        if spec.has_masks:
            fields += [(f"last_masks.{g}", "?", (n, group.n_actions))]
            fields += [(f"{name}.{g}", "?", (n,)) for name in ("alive", "last_alive")]
    return np.dtype(fields)


class Segment(NamedTuple):
    """A stretch of transitions in one file."""

    key: int  # names the file
    first: int  # index of its first transition since the run began
    length: int  # how many of its records count; a fork's lie in a file of its own


class ReplayBuffer:
    """The last `capacity` transitions, and as many earlier ones as their segments happen to hold.

    Attributes:
        capacity: how many transitions may be drawn.
        record: what one transition is kept as.
        segment_size: transitions that a full segment has.
        folder: where the files lie, removed with the object.
        count: the cursor, how many transitions were added since the run began.
    """

    def __init__(self, spec: TaskSpec, capacity: int, parent: Path | None = None) -> None:
        """Make a folder of its own below `parent`, or below the system's place for temporary files."""
        self.capacity, self.record = capacity, record_type(spec)
        self.per_agent = PER_AGENT + (MASKED if spec.has_masks else ())
        self.groups = len(spec.groups)
        self.segment_size = max(SEGMENT_BYTES // self.record.itemsize, 1)
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.folder, True)
        self.count = 0
        self._segments: list[Segment] = []
        self._files: dict[int, NDArray[np.void]] = {}  # by the key of the segment
        self._sums: dict[int, tuple[int, Any]] = {}  # by the key: records so far, and their running SHA-256
        self._writable: int | None = None  # the key of the segment that this object began

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, rollout: Rollout) -> None:
        """Append a rollout, [T, E] in the order of time, without steps that an environment did not finish."""
        records = self._records(rollout)
        if rollout.lost is not None:
            records = records[rollout.lost.ravel() == 0]
        self._append(records)

    def _records(self, rollout: Rollout) -> NDArray[np.void]:
        """Return all steps of a rollout as records, [T · E] in the order of time."""
        records = np.empty(rollout.reward.size, self.record)
        for name in PER_TEAM:
            records[name] = getattr(rollout, name).ravel()
        for name in self.per_agent:
            for g in range(self.groups):
                values = getattr(rollout, name)[g]
                records[f"{name}.{g}"] = values.reshape(len(records), *values.shape[2:])
        return records

    def _append(self, records: NDArray[np.void]) -> None:
        # Fill the last segment, begin another one, and so on.
        while len(records):
            if self._writable is None or self._segments[-1].length == self.segment_size:
                self._begin_segment()
            key, first, length = self._segments[-1]
            taken = min(len(records), self.segment_size - length)
            self._files[key][length : length + taken] = records[:taken]
            self._segments[-1] = Segment(key, first, length + taken)
            self.count += taken
            records = records[taken:]
        # Let go of segments that lie wholly before the last `capacity` transitions.
        while self._segments and self._segments[0].first + self._segments[0].length <= self.count - self.capacity:
            oldest = self._segments.pop(0)
            del self._files[oldest.key]
            (self.folder / _file_name(oldest.key)).unlink(missing_ok=True)

    def _begin_segment(self) -> None:
        self._writable = uuid.uuid4().int >> 66  # fits a signed 64-bit number
        self._segments.append(Segment(self._writable, self.count, 0))
        path = self.folder / _file_name(self._writable)
        self._files[self._writable] = np.memmap(path, self.record, "w+", shape=(self.segment_size,))

    def sample(self, n: int, generator: torch.Generator) -> Sample:
        """Draw `n` of the last `capacity` transitions, uniformly and with replacement."""
        low = self.count - len(self)
        return self._sample(torch.randint(low, self.count, (n,), generator=generator).numpy())

    def _sample(
        self, index: IntArray, shape: tuple[int, int] | None = None, filled: FloatArray | None = None
    ) -> Sample:
        """Return the transitions of these numbers, which count from the beginning of the run."""
        # Each segment gives those that lie in it, as bytes: numpy copies records field by field, four times as slowly.
        records, as_bytes = np.empty(len(index), self.record), np.dtype((np.void, self.record.itemsize))
        for key, first, length in self._segments:
            inside = np.flatnonzero((index >= first) & (index < first + length))
            stored = np.asarray(self._files[key]).view(as_bytes)
            records.view(as_bytes)[inside] = stored.take(index[inside] - first)
        per_agent = {
            name: [np.ascontiguousarray(records[f"{name}.{g}"]) for g in range(self.groups)] for name in self.per_agent
        }
        reward, terminated = records["reward"].copy(), records["terminated"].copy()
        return Sample(**per_agent, reward=reward, terminated=terminated, shape=shape, filled=filled)

    # ------------------------------------------------------------ state

    def state_dict(self) -> Arrays:
        """Return the cursor and the names of the segments; `link_into` brings the files along."""
        segments = np.array(self._segments, np.int64).reshape(-1, 3)
        return {"count": np.array([self.count]), "segments": segments}

    def link_into(self, directory: Path) -> dict[str, Digest]:
        """Give a snapshot its links to the files that the state names, and return by name the digests of what counts.

        What was written is on disk then.
        """
        if self._writable is not None:
            newest = self._files[self._writable]
            assert isinstance(newest, np.memmap)
            newest.flush()
        digests = {}
        for segment in self._segments:
            name = _file_name(segment.key)
            os.link(self.folder / name, directory / name)
            digests[name] = self._digest(segment)
        self._sums = {segment.key: self._sums[segment.key] for segment in self._segments}
        return digests

    def _digest(self, segment: Segment) -> Digest:
        """Return the digest of the records that count; only those are read that came since it was asked for last."""
        summed, sha = self._sums.get(segment.key, (0, hashlib.sha256()))
        if summed > segment.length:  # of another state, which had more of this file
            summed, sha = 0, hashlib.sha256()
        sha.update(np.ascontiguousarray(self._files[segment.key][summed : segment.length]).view(np.uint8).data)
        self._sums[segment.key] = (segment.length, sha)
        return Digest(segment.length * self.record.itemsize, sha.hexdigest())

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        """Go on from a state.

        Args:
            state: what `state_dict` gave.
            directory: the snapshot that has its files, None where this object wrote them itself.

        Raises:
            SnapshotError: a file is missing.
        """
        segments = [Segment(int(key), int(first), int(length)) for key, first, length in state["segments"]]
        for segment in segments:
            path = self.folder / _file_name(segment.key)
            if path.exists():
                continue
            try:
                if directory is None:
                    raise FileNotFoundError(path)
                os.link(directory / path.name, path)
            except OSError as error:
                raise SnapshotError(
                    f"a state of an off-policy run needs its replay, {path.name!r} is not in {str(directory)!r} "
                    f"({error}); use save_snapshot and load_snapshot"
                ) from error
        # Files of other states stay on disk, for a state that is kept in memory may need them again.
        for key in self._files.keys() - {segment.key for segment in segments}:
            del self._files[key]
        self._segments, self._writable = segments, None
        self.count = int(state["count"][0])
        for segment in segments:
            path = self.folder / _file_name(segment.key)
            self._files[segment.key] = np.memmap(path, self.record, "r", shape=(self.segment_size,))


def _file_name(key: int) -> str:
    return f"replay-{key:016x}.records"


def remove_stale(parent: Path) -> None:
    """Delete what killed processes left below `parent`."""
    for folder in parent.glob("*-*"):
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and not process_is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
