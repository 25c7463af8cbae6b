"""Run directories: made, found again, and locked against a second loop."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ...config.run_config import RemovedKeyWarning, RunConfig
from ...errors import ConfigError, NotARunError, RunLockedError
from ...rl.signals.scorer import FOLDER, copy_scorers
from ...runs.store import RunView

LOCK_PATIENCE_S = 1.0  # who reads a run's state takes the lock for an instant


class RunDirectory:
    """A run directory whose lock this process holds."""

    def __init__(self, path: Path, resumed: bool, lock: IO[str]) -> None:
        self.path = path
        self.id = path.name
        self.resumed = resumed
        self._lock = lock

    def unlock(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        self._lock.close()


def open_run(config: RunConfig, resume: bool) -> RunDirectory:
    """A new run directory; with `resume` the newest unfinished one of this config, if there is one.

    Raises RunLockedError when another process is at it, ConfigError when `run_dir` cannot be written.
    """
    found = newest_unfinished(config) if resume else None
    try:
        path = found or make_run(config)
        return RunDirectory(path, found is not None, lock_run(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(
            f"run_dir: must be a folder that can be written, got {str(config.run_dir)!r} ({_reason(error)}); "
            "set another one"
        ) from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def make_run(config: RunConfig) -> Path:
    """Write a run directory: resolved config, what the trainer needs, and `run.json`, which makes it a run."""
    now = datetime.now(UTC)
    name = f"{_task_name(config)}-s{config.seed}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    path = config.run_dir.absolute() / name
    path.mkdir(parents=True)
    for folder in ("checkpoints", "branches"):
        (path / folder).mkdir()
    _write(path / "config.json", config.resolved_json())
    _write(path / "training.json", config.training().model_dump_json(indent=2))
    if config.signal.scorers is not None:
        copy_scorers(config.signal.to_signal(), config.signal.scorers, path / FOLDER)
    info = {"id": name, "created": now.isoformat(), "config_hash": config.config_hash(), "version": _version()}
    _write(path / "run.json", json.dumps(info, indent=2))
    return path


def _write(path: Path, text: str) -> None:
    """The whole file or none, also after a kill or a power cut."""
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def newest_unfinished(config: RunConfig) -> Path | None:
    """The newest run below `run_dir` with this config that is not done; None without one.

    Raises RunLockedError when another process is at it.
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemovedKeyWarning)
        try:
            return RunConfig.model_validate(view.config).config_hash()
        except ValidationError:  # a key that this version refuses: nothing to continue here
            return None


def _runs(folder: Path) -> list[RunView]:
    views = []
    for path in folder.glob("*/run.json"):
        try:
            views.append(RunView(path.parent))
        except NotARunError:  # a run.json of somebody else, or one that cannot be read
            continue
    return views


def lock_run(path: Path) -> IO[str]:
    """Hold `loop.lock` while the file is open. Raises RunLockedError."""
    file = (path / "loop.lock").open("a")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise RunLockedError(
                    f"another process is running {str(path)!r}; wait for it or stop it first"
                ) from error
            time.sleep(0.05)
        else:
            return file


def _task_name(config: RunConfig) -> str:
    name = config.task.name or str(config.task.env).partition(":")[2]
    return name.replace(".", "_")


def _version() -> str:
    try:
        return version("cosignal")
    except PackageNotFoundError:  # imported from a checkout that was not installed
        return "unknown"
