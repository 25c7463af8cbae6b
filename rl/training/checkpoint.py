"""Snapshots: the whole state of a training line at an update boundary, as a directory, and as bytes to be sent.

A directory holds:

    state.safetensors     the arrays
    state.json            the plain data
    recorded.safetensors  the sample of transitions that proposals are checked against
    replay-*.records      links to the transitions of an off-policy learner
    digests.json          SHA-256 of all of them, checked at every load

It is written beside its place and renamed, so that a snapshot is whole or not there. As bytes (`PackedFiles`) it
travels between machines that share no files; names are relative to the run directory then, so that what is packed in
one is unpacked below another just as it was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import TypedDict

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import CosignalError, SnapshotError, StorageError, TrainingDiverged
from ...files import UNFINISHED, whole_folder, write_whole
from ..digests import check_digests, damaged, write_digests
from ..envs.step_alarm import step_alarm
from ..experience.replay_buffer import REPLAY
from ..signals.scorer import FOLDER, Scorers
from ..task import Arrays
from .config import TrainingConfig
from .line import LineData, TrainingLine

FORMAT = 4
WITHOUT_DIGESTS = 3  # the format before
STATE, ARRAYS, RECORDED = "state.json", "state.safetensors", "recorded.safetensors"

PackedFiles = dict[str, bytes]  # name relative to the run directory → content


class SavedState(TypedDict):
    """The content of `state.json`."""

    format: int
    task: str  # name of the task
    line: LineData
    extra: dict[str, object]  # of whoever saved it


# ---------------------------------------------------------------- saving and loading


def save_snapshot(line: TrainingLine, directory: Path, extra: dict[str, object] | None = None) -> Path:
    """Write `line` to `directory`, and return that; one that exists stays: same run, same update, same content.

    Raises:
        TrainingDiverged: something that was learned is not finite; nothing is written.
    """
    if directory.exists():
        return directory
    arrays, data = line.state_dict()
    for name, array in arrays.items():
        if name.startswith("learner/") and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise TrainingDiverged(
                f"a snapshot must be finite, got infinity or NaN in {name!r}, at main step {line.steps_main}; lower "
                "the trainer's lr, or scale what the environment pays and shows to about 1"
            )
    saved: SavedState = {"format": FORMAT, "task": line.spec.name, "line": data, "extra": extra or {}}
    try:
        with whole_folder(directory) as unfinished:
            save_file(arrays, unfinished / ARRAYS)
            linked = line.learner.link_files(unfinished)
            line.recorder.recorded(line.episodes).save(unfinished / RECORDED)
            (unfinished / STATE).write_text(json.dumps(saved))
            write_digests(unfinished, linked)
    except SafetensorError as error:  # its name for what the system says of the disk
        raise StorageError(
            f"{str(directory)!r} must be written, but cannot be ({error}); make room there, then go on with --resume"
        ) from error
    return directory


def load_snapshot(line: TrainingLine, directory: Path, adopted: bool = False, fresh: bool = False) -> dict[str, object]:
    """Put a snapshot's state into `line`, and return what was saved as `extra`.

    Args:
        line: is overwritten.
        directory: of the snapshot.
        adopted: the line keeps its count of the steps that it trained, see `TrainingLine.load_state_dict`.
        fresh: begin fresh episodes where they could only be played again.

    Raises:
        SnapshotDamaged: its files are not those that were written.
        SnapshotError: it is missing, of another format, or of another task or network.
    """
    arrays, saved = read_snapshot(line.spec.name, directory)
    try:
        line.load_state_dict(arrays, saved["line"], adopted, directory, fresh)
    except (KeyError, RuntimeError, ValueError) as error:
        raise SnapshotError(f"snapshot {str(directory)!r} does not fit this config: {error!r}") from error
    return saved["extra"]


def line_of_snapshot(run_dir: Path, snapshot: str) -> TrainingLine:
    """Return a line of the run's config with the state of a snapshot, for whoever plays its policy in another process.

    Args:
        run_dir: of the run, whose replay and scorers it reads.
        snapshot: its folder, relative to `run_dir`.
    """
    config = TrainingConfig.model_validate_json((run_dir / "training.json").read_text()).for_branches()
    line = TrainingLine(config, run_dir / REPLAY, Scorers(run_dir / FOLDER))
    try:
        with step_alarm(line.task, config.task, config.trainer.envs):
            load_snapshot(line, run_dir / snapshot)
    except CosignalError:
        line.close()
        raise
    return line


def read_snapshot(task: str, directory: Path) -> tuple[Arrays, SavedState]:
    """Return arrays and plain data of a snapshot of the task named `task`. Raises SnapshotError as `load_snapshot`."""
    saved = _read_state(directory, every=True)
    try:
        arrays = load_file(directory / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise damaged(directory, str(error)) from error
    if saved["task"] != task:
        raise SnapshotError(
            f"a snapshot must be of task {task!r}, {str(directory)!r} is of {saved['task']!r}; use the "
            "config it was made with"
        )
    return arrays, saved


def snapshot_steps(directory: Path) -> int:
    """Return the main steps of the line that a snapshot holds. Raises SnapshotError where it cannot be read."""
    return int(_read_state(directory, every=False)["line"]["steps_main"])


def _read_state(directory: Path, every: bool) -> SavedState:
    """Return the plain data of a snapshot, compared with its digest; with `every`, all other files are compared too."""
    has_digests = check_digests(directory, (STATE, ARRAYS, RECORDED) if every else (STATE,), every)
    try:
        saved: SavedState = json.loads((directory / STATE).read_text())
        known = WITHOUT_DIGESTS if not has_digests else FORMAT
        if saved["format"] in (FORMAT, WITHOUT_DIGESTS) and saved["format"] != known:
            raise damaged(directory, f"digests.json is missing, which those of format {FORMAT} have")
        if saved["format"] != known:
            raise SnapshotError(
                f"a snapshot must have format {FORMAT}, {str(directory)!r} has {saved['format']!r}; use the version it "
                "was made with"
            )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise damaged(directory, f"{error!r}") from error
    return saved


# ---------------------------------------------------------------- the snapshots of a run


def snapshot_name(update: int) -> str:
    """16 → checkpoints/update_000000016, relative to the run directory."""
    return f"checkpoints/update_{update:09d}"


def snapshot_update(directory: Path) -> int:
    """checkpoints/update_000000016 → 16."""
    return int(directory.name.rsplit("_", 1)[1])


def newest_snapshot(checkpoints: Path) -> Path | None:
    """Return the snapshot of the highest update, None where there is none."""
    return next(iter(snapshots_of(checkpoints)), None)


def snapshots_of(checkpoints: Path) -> list[Path]:
    """Return the snapshots, newest first."""
    whole = [path for path in checkpoints.glob("update_*") if path.suffix != UNFINISHED]
    return sorted(whole, key=snapshot_update, reverse=True)


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
        raise damaged(run_dir / snapshot, str(error)) from error


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
