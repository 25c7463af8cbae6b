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
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import SnapshotError
from ..signals.scorer import FOLDER
from .line import Arrays, TrainingLine

# ---------------------------------------------------------------- MERGED rl.checkpoint

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


# ---------------------------------------------------------------- MERGED rl.branches.shipping
# DOC """Snapshots as bytes: what travels between machines that share no files.
# DOC
# DOC Names are relative to the run directory, so that what is packed in one is unpacked below another just as it was.
# DOC """

Files = dict[str, bytes]  # name relative to the run directory → content


def pack(run_dir: Path, snapshot: str) -> Files:
    """All files that `snapshot`, a directory below the run directory, needs to be continued elsewhere.

    Raises SnapshotError when one is missing.
    """
    try:
        return {name: (run_dir / name).read_bytes() for name in _needed(run_dir, snapshot)}
    except OSError as error:
        raise SnapshotError(
            f"no usable snapshot at {str(run_dir / snapshot)!r}: {error}; resume from another one"
        ) from error


def unpack(files: Files, run_dir: Path, snapshot: str) -> None:
    """Write what `pack` gave for `snapshot` below `run_dir`, where whatever is there already stays as it is.

    The snapshot's own directory comes last and as a whole, so that one that is there has all that it needs. Raises
    SnapshotError for a name that leads out of the run directory.
    """
    for name in files:
        _check_inside(name)
    prefix = f"{snapshot}/"
    for name, content in files.items():
        if not name.startswith(prefix):
            _write_whole(run_dir / name, content)
    if (run_dir / snapshot).exists():
        return
    with written_whole(run_dir / snapshot) as partial:
        for name, content in files.items():
            if name.startswith(prefix):
                (partial / name.removeprefix(prefix)).write_bytes(content)


def size(files: Files) -> int:
    """Bytes of content."""
    return sum(map(len, files.values()))


def _needed(run_dir: Path, snapshot: str) -> Iterator[str]:
    """Names of the files in the snapshot's directory, and of all scorers: few and small, and a job's signal may name
    any of them. Whatever else a snapshot comes to name belongs here."""
    for folder in (snapshot, FOLDER):
        if folder == snapshot or (run_dir / folder).exists():
            yield from (f"{folder}/{path.name}" for path in sorted((run_dir / folder).iterdir()))


def _check_inside(name: str) -> None:
    """What comes back from another machine is written nowhere but below the run directory."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SnapshotError(f"a shipped file must lie in the run directory, got {name!r}; use one version everywhere")


def _write_whole(path: Path, content: bytes) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
