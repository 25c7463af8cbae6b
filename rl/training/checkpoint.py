"""Snapshots: the whole state of a training line at an update boundary, as a directory, and as bytes to be sent.

A directory holds:

    state.safetensors     the arrays
    state.json            the plain data
    recorded.safetensors  the sample of transitions that proposals are checked against
    replay-*.records      links to the transitions of an off-policy learner

It is written beside its place and renamed, so that a snapshot is whole or not there. As bytes (`PackedFiles`) it
travels between machines that share no files; names are relative to the run directory then, so that what is packed in
one is unpacked below another just as it was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import TypedDict

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import SnapshotError
from ...files import UNFINISHED, whole_folder, write_whole
from ..signals.scorer import FOLDER
from ..task import Arrays
from .line import LineData, TrainingLine

FORMAT = 3

PackedFiles = dict[str, bytes]  # name relative to the run directory → content


class SavedState(TypedDict):
    """The content of `state.json`."""

    format: int
    task: str  # name of the task
    line: LineData
    extra: dict[str, object]  # of whoever saved it


# ---------------------------------------------------------------- saving and loading


def save_snapshot(line: TrainingLine, directory: Path, extra: dict[str, object] | None = None) -> Path:
    """Write `line` to `directory`, and return that; one that exists stays: same run, same update, same content."""
    if directory.exists():
        return directory
    arrays, data = line.state_dict()
    saved: SavedState = {"format": FORMAT, "task": line.spec.name, "line": data, "extra": extra or {}}
    with whole_folder(directory) as unfinished:
        save_file(arrays, unfinished / "state.safetensors")
        line.learner.link_files(unfinished)
        line.recorder.recorded(line.episodes).save(unfinished / "recorded.safetensors")
        (unfinished / "state.json").write_text(json.dumps(saved))
    return directory


def load_snapshot(
    line: TrainingLine, directory: Path, keep_past: bool = False, fresh: bool = False
) -> dict[str, object]:
    """Put a snapshot's state into `line`, and return what was saved as `extra`.

    Args:
        line: is overwritten.
        directory: of the snapshot.
        keep_past: the line keeps its counters and its past, see `TrainingLine.load_state_dict`.
        fresh: begin fresh episodes where they could only be played again.

    Raises:
        SnapshotError: it is missing, of another format, or of another task or network.
    """
    arrays, saved = read_snapshot(line, directory)
    try:
        line.load_state_dict(arrays, saved["line"], keep_past, directory, fresh)
    except (KeyError, RuntimeError, ValueError) as error:
        raise SnapshotError(f"snapshot {str(directory)!r} does not fit this config: {error!r}") from error
    return saved["extra"]


def read_snapshot(line: TrainingLine, directory: Path) -> tuple[Arrays, SavedState]:
    """Return arrays and plain data of a snapshot that `line` may load. Raises SnapshotError as `load_snapshot` does."""
    try:
        saved: SavedState = json.loads((directory / "state.json").read_text())
        arrays = load_file(directory / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(directory, error) from error
    if (saved["format"], saved["task"]) != (FORMAT, line.spec.name):
        raise SnapshotError(
            f"a snapshot must have format {FORMAT} and task {line.spec.name!r}, {str(directory)!r} has "
            f"{saved['format']!r} and {saved['task']!r}; use the version and config it was made with"
        )
    return arrays, saved


def snapshot_steps(directory: Path) -> int:
    """Return the main steps of the line that a snapshot holds."""
    saved: SavedState = json.loads((directory / "state.json").read_text())
    return int(saved["line"]["steps_main"])


def _unusable(directory: Path, error: Exception) -> SnapshotError:
    return SnapshotError(f"no usable snapshot at {str(directory)!r}: {error}; resume from another one")


# ---------------------------------------------------------------- the snapshots of a run


def snapshot_name(update: int) -> str:
    """16 → checkpoints/update_000000016, relative to the run directory."""
    return f"checkpoints/update_{update:09d}"


def snapshot_update(directory: Path) -> int:
    """checkpoints/update_000000016 → 16."""
    return int(directory.name.rsplit("_", 1)[1])


def newest_snapshot(checkpoints: Path) -> Path | None:
    """Return the snapshot of the highest update, None where there is none."""
    whole = [path for path in checkpoints.glob("update_*") if path.suffix != UNFINISHED]
    return max(whole, key=snapshot_update, default=None)


def prune_snapshots(checkpoints: Path, keep: int, named: set[str]) -> None:
    """Delete all but the newest `keep` snapshots and the `named` ones, and what crashed writers left behind."""
    for unfinished in checkpoints.glob(f"*{UNFINISHED}"):
        shutil.rmtree(unfinished, ignore_errors=True)
    whole = sorted(checkpoints.glob("update_*"), key=snapshot_update)
    for old in whole[:-keep]:
        if old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


# ---------------------------------------------------------------- as bytes


def pack_snapshot(run_dir: Path, snapshot: str) -> PackedFiles:
    """Return all files that `snapshot`, a directory below the run directory, needs to be continued elsewhere.

    Raises:
        SnapshotError: one is missing.
    """
    # Whatever else a snapshot comes to name belongs here. All scorers come along: they are few and small, and a job's
    # signal may name any of them.
    folders = [snapshot, *([FOLDER] if (run_dir / FOLDER).exists() else [])]
    try:
        return {
            f"{folder}/{path.name}": path.read_bytes()
            for folder in folders
            for path in sorted((run_dir / folder).iterdir())
        }
    except OSError as error:
        raise _unusable(run_dir / snapshot, error) from error


def unpack_snapshot(files: PackedFiles, run_dir: Path, snapshot: str) -> None:
    """Write what `pack_snapshot` returned for `snapshot` below `run_dir`; whatever is there already stays as it is.

    The snapshot's own directory comes last and as a whole, so that one that is there has all that it needs.

    Raises:
        SnapshotError: a name leads out of the run directory. What comes from another machine is written nowhere else.
    """
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise SnapshotError(
                f"a shipped file must lie in the run directory, got {name!r}; use one version everywhere"
            )
    # first what the snapshot names, then the snapshot
    prefix = f"{snapshot}/"
    for name, content in files.items():
        if not name.startswith(prefix) and not (run_dir / name).exists():
            (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(run_dir / name, content)
    if (run_dir / snapshot).exists():
        return
    with whole_folder(run_dir / snapshot) as unfinished:
        for name, content in files.items():
            if name.startswith(prefix):
                (unfinished / name.removeprefix(prefix)).write_bytes(content)


def packed_size(files: PackedFiles) -> int:
    """Return the bytes of content."""
    return sum(map(len, files.values()))
