"""Snapshots: the whole state of a training line at an update boundary, as a directory.

`state.safetensors` holds the arrays, `state.json` the plain data, `recorded.safetensors` the sample of transitions that
proposals are checked against; `replay-*.records` are links to the transitions of an off-policy learner. Written beside
its place and renamed, so that a snapshot is whole or not there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import SnapshotError
from .training import Arrays, TrainingLine

FORMAT = 3


def save_snapshot(line: TrainingLine, directory: Path, extra: dict[str, object] | None = None) -> Path:
    """Write `line` to `directory` (kept as it is when it exists: same run, same update, same content)."""
    if directory.exists():
        return directory
    arrays, meta = line.state_dict()
    with written_whole(directory) as partial:
        save_file(arrays, partial / "state.safetensors")
        line.learner.link_files(partial)
        line.recorder.recorded(line.episodes).save(partial / "recorded.safetensors")
        text = json.dumps({"format": FORMAT, "task": line.spec.name, "line": meta, "extra": extra or {}})
        (partial / "state.json").write_text(text)
    return directory


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Write files into the directory that this gives: it becomes `directory`, synced, when the block ends well.

    Where somebody else has finished it first, theirs stays: the same name has the same content.
    """
    partial = directory.with_name(f"{directory.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    yield partial
    for path in partial.iterdir():
        _sync(path)
    try:
        partial.rename(directory)
    except OSError:
        shutil.rmtree(partial)
        if not directory.exists():
            raise
    _sync(directory.parent)


def load_snapshot(line: TrainingLine, directory: Path, going_on: bool = False) -> dict[str, object]:
    """Put a snapshot's state into `line`; returns what was saved as `extra`. `going_on`: see `load_state_dict`.

    Raises SnapshotError when it is missing, of another format, or of another task or network.
    """
    arrays, saved = read_snapshot(line, directory)
    try:
        line.load_state_dict(arrays, saved["line"], going_on, directory)
    except (KeyError, RuntimeError, ValueError) as error:
        raise SnapshotError(f"snapshot {str(directory)!r} does not fit this config: {error!r}") from error
    extra: dict[str, object] = saved["extra"]
    return extra


def read_snapshot(line: TrainingLine, directory: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and plain data of a snapshot that `line` may load. Raises SnapshotError as `load_snapshot` does."""
    try:
        saved = json.loads((directory / "state.json").read_text())
        arrays = load_file(directory / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise SnapshotError(f"no usable snapshot at {str(directory)!r}: {error}; resume from another one") from error
    if (saved["format"], saved["task"]) != (FORMAT, line.spec.name):
        raise SnapshotError(
            f"a snapshot must have format {FORMAT} and task {line.spec.name!r}, {str(directory)!r} has "
            f"{saved['format']!r} and {saved['task']!r}; use the version and config it was made with"
        )
    return arrays, saved


def steps_of(directory: Path) -> int:
    """Main steps of the line that a snapshot holds."""
    return int(json.loads((directory / "state.json").read_text())["line"]["steps_main"])


def snapshot_name(update: int) -> str:
    """16 → checkpoints/update_000000016, relative to the run directory."""
    return f"checkpoints/update_{update:09d}"


def update_of(directory: Path) -> int:
    """checkpoints/update_000000016 → 16."""
    return int(directory.name.rsplit("_", 1)[1])


def newest_snapshot(checkpoints: Path) -> Path | None:
    whole = [p for p in checkpoints.glob("update_*") if p.suffix != ".partial"]
    return max(whole, key=update_of, default=None)


def prune(checkpoints: Path, keep: int, named: set[str]) -> None:
    """Delete all but the newest `keep` snapshots and the `named` ones, and what crashed writers left behind."""
    for partial in checkpoints.glob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    whole = sorted(checkpoints.glob("update_*"), key=update_of)
    for old in whole[:-keep]:
        if old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
