"""Snapshots as bytes: what travels between machines that share no files.

Names are relative to the run directory, so that what is packed in one is unpacked below another just as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...errors import SnapshotError
from ..checkpoint import written_whole
from ..signals.scorer import FOLDER

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
