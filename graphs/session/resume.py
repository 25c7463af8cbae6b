"""Which run a resumed session goes on with: found by what decides its results, or named; and whether it may.

Nothing is written here. What the directory holds is checked after that, see `directory_checks`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...config.identity import BUDGETS, Change, all_changes, deciding_changes
from ...config.load import Settings, explain_errors
from ...config.run_config import RemovedKeyWarning, RunConfig
from ...errors import NotARunError, ResumeError, RunLockedError
from ...rl.processes import lock_is_held
from ...runs.run_files import RUN_FILES, read_json
from ...runs.run_view import RunView

SHOWN = 5  # changed keys that a message names


@dataclass(frozen=True)
class RunOnDisk:
    """What a directory says of its run.

    Attributes:
        path: the directory.
        info: what `run.json` says; empty where it is damaged.
        config: the run's config as this version reads it; None where it cannot, or must not, be read.
        problem: why there is no info or no config, with a remedy.
    """

    path: Path
    info: dict[str, Any]
    config: RunConfig | None
    problem: str = ""

    def is_of(self, config: RunConfig) -> bool:
        """Tell whether the run was begun with a config that decides the same results."""
        if self.config is None:
            return self.info.get("config_hash") == config.config_hash()
        return self.config.config_hash() == config.config_hash()

    @property
    def age(self) -> tuple[str, bool]:
        """What runs are sorted by: the newer one, then the original before its copies, is higher."""
        return str(self.info.get("created")), self.path.name == self.info.get("id")


@dataclass(frozen=True)
class Found:
    """The run to go on with, None for a new one, and what there is to say about how it was found."""

    run: RunOnDisk | None
    notes: list[str]


# ---------------------------------------------------------------- reading what a directory says


def read_run(path: Path) -> RunOnDisk:
    """Read `run.json` and `config.json` of a directory; what is wrong with them is in `problem`."""
    try:
        info = read_json(path / "run.json", needed=("id", "config_hash"))
    except NotARunError as error:
        return RunOnDisk(path, {}, None, str(error))
    if not isinstance(info["id"], str):
        return RunOnDisk(
            path,
            {},
            None,
            f"{str(path / 'run.json')!r} must be the JSON file of a run, got the id {info['id']!r}; restore it",
        )
    try:
        config = _read_config(path)
    except NotARunError as error:
        return RunOnDisk(path, info, None, str(error))
    # Keys that decide nothing may have been edited, for the caller's config says what they are now.
    if _is_edited(path, info) and config.config_hash() != info["config_hash"]:
        return RunOnDisk(
            path,
            info,
            None,
            f"{str(path / 'config.json')!r} must be as it was written, but it has been edited and names another run; "
            "restore it, or resume with the config that the run was begun with",
        )
    return RunOnDisk(path, info, config)


def _read_config(path: Path) -> RunConfig:
    view = RunView(path)
    data = dict(view.config)
    if not view.knows_claims:
        data["gate"] = {"claim": "signal"} | data.get("gate", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemovedKeyWarning)
        try:
            return RunConfig.model_validate(data)
        except ValidationError as error:
            reason = next(iter(explain_errors(RunConfig, Settings(path / "config.json", data, {}), error)))
    raise NotARunError(
        f"{str(path / 'config.json')!r} must be a config of this version of cosignal, but {reason}; "
        "resume the run with the version that has made it"
    )


def _is_edited(path: Path, info: dict[str, Any]) -> bool:
    """Tell whether `config.json` is not what cosignal has written; older versions have kept no digest."""
    digest = info.get("config_sha256")
    return digest is not None and digest != digest_of((path / "config.json").read_bytes())


def digest_of(content: bytes) -> str:
    """Return the SHA-256 in hex digits, as `run.json` keeps it of `config.json`."""
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- finding the run


def find_run(config: RunConfig) -> Found:
    """Return the newest run of this config below `run_dir` that can go on.

    A new one is to begin where the task has no run there, or where the nearest differs in `seed` alone. A run that is
    not done comes before one that is and whose budget was raised, and one with these very budgets before others.

    Raises:
        ResumeError: there are runs of the task, but none can go on with this config; the message says why.
        RunLockedError: another process is at it.
    """
    folder = config.run_dir.absolute()
    paths = [path for path in sorted(folder.glob("*")) if any((path / name).exists() for name in RUN_FILES)]
    runs = sorted((read_run(path) for path in paths), key=lambda run: run.age, reverse=True)
    own = [run for run in runs if run.is_of(config)]
    damaged = [run for run in runs if run.problem and run not in own and _may_be_of_task(run, config)]
    if own:
        open_ones = [run for run in own if _can_go_on(run, config)]
        if not open_ones:
            raise _done(own, config)
        # `max` takes the first of equals, which is the newest.
        best = max(open_ones, key=lambda run: (_is_unfinished(run), run.config is None or not _budgets(run, config)))
        _refuse_if_running(best.path)
        return Found(best, [f"passed over: {run.problem}" for run in damaged])
    near = [run for run in runs if run.config is not None and _task(run.config) == _task(config)]
    if damaged:
        raise ResumeError(
            f"--resume: no run below {str(config.run_dir)!r} has this config, but {damaged[0].problem}; or move that "
            "directory away, or leave out --resume for a new run"
        )
    if near:
        closest = min(near, key=lambda run: (len(_differences(run, config)), not _is_other_seed(run, config)))
        if _is_other_seed(closest, config):
            return Found(
                None, [f"no run below {str(config.run_dir)!r} has the seed {config.seed} yet: this is a new one"]
            )
        raise ResumeError(
            f"--resume: no run below {str(config.run_dir)!r} has this config; the nearest, {str(closest.path)!r}, "
            f"{_in_words(_differences(closest, config))}; set them as they were, or leave out --resume for a new run"
        )
    return Found(None, [f"no run of {task_name(config)} is below {str(config.run_dir)!r} yet: this is a new one"])


def named_run(config: RunConfig, path: Path) -> Found:
    """Return the run in the directory `path`.

    Raises:
        NotARunError: there is none.
        ResumeError: it is of another config, or done.
        RunLockedError: another process is at it.
    """
    if not any((path / name).exists() for name in RUN_FILES):
        raise NotARunError(
            f"--resume: {str(path)!r} must be a run directory, but it has no run.json; name one that `cosignal run` "
            "has made"
        )
    run = read_run(path)
    if not run.is_of(config):
        if run.config is None:
            raise ResumeError(f"--resume: {run.problem}")
        raise ResumeError(
            f"--resume: {str(path)!r} must be a run of this config, but it {_in_words(_differences(run, config))}; "
            "set them as they were, or leave out --resume for a new run"
        )
    _refuse_if_running(path)
    if not _can_go_on(run, config):
        raise _done([run], config)
    return Found(run, [])


def _task(config: RunConfig) -> str | None:
    return config.task.name or config.task.env


def _may_be_of_task(run: RunOnDisk, config: RunConfig) -> bool:
    """Tell whether a damaged run may be of the config's task, by the name that the directory was given."""
    task = task_name(config)
    return run.path.name.startswith(f"{task}-s") or "-s" not in run.path.name


def task_name(config: RunConfig) -> str:
    """Return the task's part of the name of a run directory."""
    return (config.task.name or str(config.task.env).partition(":")[2]).replace(".", "_")


def _is_unfinished(run: RunOnDisk) -> bool:
    """Tell whether there is something to go on with; of a run that cannot be read the checks after this say why."""
    try:
        return run.config is None or RunView(run.path).state() != "done"
    except (NotARunError, sqlite3.Error):
        return True


def _can_go_on(run: RunOnDisk, config: RunConfig) -> bool:
    return _is_unfinished(run) or config.trainer.steps > _steps_main(run)


def _steps_main(run: RunOnDisk) -> int:
    return RunView(run.path).count("steps_main")


def _budgets(run: RunOnDisk, config: RunConfig) -> list[Change]:
    assert run.config is not None
    return [change for change in all_changes(run.config, config) if change.key in BUDGETS]


def _differences(run: RunOnDisk, config: RunConfig) -> list[Change]:
    assert run.config is not None
    return deciding_changes(run.config, config)


def _is_other_seed(run: RunOnDisk, config: RunConfig) -> bool:
    """Tell whether the run differs in the seed alone, as those of a script that goes through seeds."""
    return [change.key for change in _differences(run, config)] == ["seed"]


def _in_words(changes: Sequence[Change]) -> str:
    told = [f"{key} ({before!r} there, {now!r} here)" for key, before, now in changes[:SHOWN]]
    more = f" and {len(changes) - SHOWN} more keys" if len(changes) > SHOWN else ""
    return f"differs in {', '.join(told)}{more}"


def _done(runs: Sequence[RunOnDisk], config: RunConfig) -> ResumeError:
    path, steps = runs[0].path, _steps_main(runs[0])
    return ResumeError(
        f"--resume: every run of this config is done, the newest is {str(path)!r}; to train it on, trainer.steps must "
        f"be more than the {steps:_} main steps that it has, got {config.trainer.steps:_}; raise it, or leave out "
        "--resume for a new run"
    )


def _refuse_if_running(path: Path) -> None:
    if lock_is_held(path / "loop.lock"):
        raise RunLockedError(f"another process is running {str(path)!r}; wait for it or stop it first")


# ---------------------------------------------------------------- what was used


def check_budgets(run: RunOnDisk, config: RunConfig) -> None:
    """Check that no budget was set below what the run has used; one that nobody has changed is as good as it was.

    Raises:
        ResumeError: one was.
    """
    if run.config is None:
        return
    changed = {change.key: change.now for change in _budgets(run, config)}
    if not changed:
        return
    calls = [call for call in RunView(run.path).calls() if call.outcome != "budget"]
    # Rows of earlier versions have charged nothing.
    tokens = [call.charged_tokens or (call.input_tokens or 0) + (call.output_tokens or 0) for call in calls]
    used = {
        "trainer.steps": _steps_main(run),
        "llm.limits.calls": len(calls),
        "llm.limits.tokens": sum(tokens),
        "llm.limits.usd": sum(call.cost_usd or 0.0 for call in calls),
    }
    for key, least in used.items():
        if key in changed and changed[key] < least:
            raise ResumeError(
                f"{key}: must be at least what {str(run.path)!r} has used, {least!r}, got {changed[key]!r}; raise it"
            )
