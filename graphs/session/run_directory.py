"""Run directories: made, opened again, and locked against a second loop."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ...config.identity import Change, all_changes
from ...config.run_config import RunConfig
from ...errors import ConfigError, RunLockedError
from ...files import remove_unfinished, storage_error, write_whole, writing
from ...packages import installed_version
from ...rl.processes import lock_is_held
from ...rl.signals.scorer import FOLDER, copy_scorers
from ...rl.training.config import TrainingConfig
from .directory_checks import check_belongs_together, check_nothing_leads_out
from .resume import RunOnDisk, check_budgets, digest_of, find_run, named_run, task_name

LOCK_PATIENCE_S = 1.0  # who reads a run's state takes the lock for an instant
LOCK_RETRY_S = 0.05


class RunDirectory:
    """A run directory whose lock this process holds.

    Attributes:
        path: the directory.
        id: the run's name, which the directory had when it was made, or its end where a thread of a server names it.
        resumed: whether the run was begun by an earlier process.
        changes: keys of the config that have another value than when the run was last started.
        notes: what a reader should know about how the run was found, a line each.
        trains_differently: whether a trainer that is alive still has another `training.json`.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        lock: IO[str],
        *,
        resumed: bool = False,
        changes: Sequence[Change] = (),
        notes: Sequence[str] = (),
        trains_differently: bool = False,
    ) -> None:
        self.path = path
        self.id = run_id
        self.resumed = resumed
        self.changes = changes
        self.notes = notes
        self.trains_differently = trains_differently
        self._lock = lock

    def unlock(self) -> None:
        """Let other processes at the run; nothing may be written to it any more."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock's file, which unlocks it too."""
        self._lock.close()


def open_run(config: RunConfig, resume: bool | Path, run_id: str | None = None) -> RunDirectory:
    """Make a run directory, or open one that is there.

    Args:
        config: of the run; what it says holds from now on.
        resume: True for the newest run of this config below `run_dir` that can go on, and a new one where the task has
            none there, or only of other seeds; a path for the run in that directory.
        run_id: name of a new run; None for the name of its directory.

    Raises:
        RunLockedError: another process is at it.
        ResumeError: no run can go on with this config, or its files do not belong together.
        NotARunError: `resume` names no run.
        ConfigError: `run_dir` cannot be written.
        StorageError: the directory of a run that goes on cannot be written.
    """
    notes: list[str] = []
    if resume:
        try:
            found = find_run(config) if resume is True else named_run(config, Path(resume).absolute())
            if found.run is not None:
                return _go_on(config, found.run, found.notes)
            notes = found.notes
        except OSError as error:
            raise storage_error(Path(error.filename or config.run_dir), error) from error
    try:
        path = make_run(config, run_id)
        return RunDirectory(path, run_id or path.name, lock_run(path), notes=notes)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(
            f"run_dir: must be a folder that can be written, got {str(config.run_dir)!r} ({reason}); set another one"
        ) from error


def make_run(config: RunConfig, run_id: str | None = None) -> Path:
    """Write a run directory: resolved config, what the trainer needs, and `run.json`, which makes it a run."""
    # Task, seed and time say which run it is; the random end keeps runs of the same second apart.
    now = datetime.now(UTC)
    name = f"{task_name(config)}-s{config.seed}-{run_id or f'{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}'}"
    path = config.run_dir.absolute() / name
    path.mkdir(parents=True)
    try:
        for folder in ("checkpoints", "branches"):
            (path / folder).mkdir()
        if config.signal.scorers is not None:
            copy_scorers(config.signal.to_signal(), config.signal.scorers, path / FOLDER)
        version = installed_version("cosignal") or "unknown"
        _write_config(path, config, {"id": run_id or name, "created": now.isoformat(), "version": version})
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _write_config(path: Path, config: RunConfig, info: dict[str, Any]) -> None:
    """Write `config.json`, `training.json` and `run.json`; each is there whole or not at all.

    `run.json` makes the directory a run, so it comes last in a new one. In one that goes on it comes first: after a
    kill in between, `config.json` is one of before that decides the same, from which the changes are found again.
    """
    text = config.resolved_json()
    facts = {"config_hash": config.config_hash(), "config_sha256": digest_of(text.encode())}
    contents = {
        "config.json": text,
        "training.json": config.training().model_dump_json(indent=2),
        "run.json": json.dumps(info | facts, indent=2),
    }
    for name in reversed(contents) if (path / "run.json").exists() else contents:
        write_whole(path / name, contents[name])


def _go_on(config: RunConfig, run: RunOnDisk, found: Sequence[str]) -> RunDirectory:
    """Lock the run, check that its files belong together, and write down what the config says now."""
    path = run.path
    check_nothing_leads_out(path)
    with writing(path):
        lock = lock_run(path)
    try:
        check_budgets(run, config)
        check_belongs_together(path, run.info["id"])
        notes = list(found)
        if run.problem:
            notes.append(f"config.json is written anew from the config of this start, since {run.problem}")
        changes = [] if run.config is None else all_changes(run.config, config)
        # The directory may have been moved.
        if path.parent != config.run_dir.absolute():
            config = config.model_copy(update={"run_dir": path.parent})
        before = _training_text(path)
        # Versions that kept no digest may have had other keys.
        if "config_sha256" in run.info and run.config is not None and _tells_otherwise(before, run.config):
            notes.append("training.json was not what the run's config says; it is written anew from that")
        with writing(path):
            # What was half written when a process was killed; none is at it now, unless a trainer still trains.
            if not lock_is_held(path / "trainer.lock"):
                remove_unfinished(path)
            _write_config(path, config, run.info)
    except BaseException:
        lock.close()
        raise
    differs = before != config.training().model_dump_json(indent=2)
    return RunDirectory(
        path, run.info["id"], lock, resumed=True, changes=changes, notes=notes, trains_differently=differs
    )


def _training_text(path: Path) -> str | None:
    """Read `training.json`, which only a trainer that is alive goes by; None where it cannot be read."""
    try:
        return (path / "training.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _tells_otherwise(text: str | None, config: RunConfig) -> bool:
    """Tell whether a `training.json` says something else than the config."""
    try:
        return text is None or TrainingConfig.model_validate_json(text) != config.training()
    except ValidationError:
        return True


def lock_run(path: Path) -> IO[str]:
    """Take the lock `loop.lock` of a run directory; it is held while the returned file is open.

    Raises:
        RunLockedError: another process holds it for longer than LOCK_PATIENCE_S.
    """
    # The lock is the open file's, so that the kernel releases it however this process ends.
    file = (path / "loop.lock").open("a")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    # A reader of the run's state may hold the lock for an instant, so one refusal says nothing.
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise RunLockedError(
                    f"another process is running {str(path)!r}; wait for it or stop it first"
                ) from error
            time.sleep(LOCK_RETRY_S)
        else:
            return file
