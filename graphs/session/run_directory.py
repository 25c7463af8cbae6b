"""Run directories: made, found again, and locked against a second loop; and the loop's log in them."""

from __future__ import annotations

import fcntl
import json
import secrets
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import structlog
from pydantic import ValidationError

from ...config.run_config import RemovedKeyWarning, RunConfig
from ...errors import ConfigError, NotARunError, RunLockedError
from ...files import write_whole
from ...packages import installed_version
from ...rl.signals.scorer import FOLDER, copy_scorers
from ...runs.store import RunView

LOCK_PATIENCE_S = 1.0  # who reads a run's state takes the lock for an instant
LOCK_RETRY_S = 0.05


class RunDirectory:
    """A run directory whose lock this process holds.

    Attributes:
        path: the directory.
        id: the run's name, which is the directory's.
        resumed: whether the run was begun by an earlier process.
    """

    def __init__(self, path: Path, resumed: bool, lock: IO[str]) -> None:
        self.path = path
        self.id = path.name
        self.resumed = resumed
        self._lock = lock

    def unlock(self) -> None:
        """Let other processes at the run; nothing may be written to it any more."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock's file, which unlocks it too."""
        self._lock.close()


def open_run(config: RunConfig, resume: bool) -> RunDirectory:
    """Make a run directory, or with `resume` open the newest unfinished one of this config, if there is one.

    Raises:
        RunLockedError: another process is at it.
        ConfigError: `run_dir` cannot be written.
    """
    unfinished = newest_unfinished(config) if resume else None
    try:
        path = unfinished or make_run(config)
        return RunDirectory(path, unfinished is not None, lock_run(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(
            f"run_dir: must be a folder that can be written, got {str(config.run_dir)!r} ({reason}); set another one"
        ) from error


def make_run(config: RunConfig) -> Path:
    """Write a run directory: resolved config, what the trainer needs, and `run.json`, which makes it a run."""
    # Task, seed and time say which run it is; the random end keeps runs of the same second apart.
    now = datetime.now(UTC)
    task = config.task.name or str(config.task.env).partition(":")[2]
    name = f"{task.replace('.', '_')}-s{config.seed}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    path = config.run_dir.absolute() / name
    path.mkdir(parents=True)
    for folder in ("checkpoints", "branches"):
        (path / folder).mkdir()
    # Each file is there whole or not at all; the directory is a run only with the last one.
    write_whole(path / "config.json", config.resolved_json())
    write_whole(path / "training.json", config.training().model_dump_json(indent=2))
    if config.signal.scorers is not None:
        copy_scorers(config.signal.to_signal(), config.signal.scorers, path / FOLDER)
    version = installed_version("cosignal") or "unknown"
    info = {"id": name, "created": now.isoformat(), "config_hash": config.config_hash(), "version": version}
    write_whole(path / "run.json", json.dumps(info, indent=2))
    return path


def newest_unfinished(config: RunConfig) -> Path | None:
    """Return the newest run below `run_dir` with this config that is not done; None without one.

    Raises:
        RunLockedError: another process is at it.
    """
    views = [view for view in _runs(config.run_dir.absolute()) if _config_hash(view) == config.config_hash()]
    for view in sorted(views, key=lambda view: str(view.info.get("created")), reverse=True):
        state = view.state()
        if state in ("running", "waiting"):
            raise RunLockedError(f"another process is running {str(view.path)!r}; wait for it or stop it first")
        if state != "done":
            return view.path
    return None


def _config_hash(view: RunView) -> str | None:
    """Hash the run's config as this version reads it: a version with other keys has written another hash."""
    if "config_hash" not in view.info:  # a damaged run.json
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemovedKeyWarning)
        try:
            return RunConfig.model_validate(view.config).config_hash()
        except ValidationError:  # a key that this version refuses: nothing to continue here
            return None


def _runs(folder: Path) -> list[RunView]:
    """Return the runs directly below `folder`."""
    views = []
    for path in folder.glob("*/run.json"):
        try:
            views.append(RunView(path.parent))
        except NotARunError:  # a run.json of somebody else, or one that cannot be read
            continue
    return views


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


class RunLog:
    """The loop's log: JSON lines, appended to a file, without touching anybody's global logging configuration."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(self._file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            process="loop",
        )

    def write(self, event: str, **values: Any) -> None:
        """Append one line: the event's name, `values`, the level and the time (UTC)."""
        self._logger.info(event, **values)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
