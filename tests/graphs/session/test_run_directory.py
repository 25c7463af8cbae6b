"""Run directories: what they hold, and the lock that keeps a second loop away."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError, RunLockedError
from cosignal.graphs.session.run_directory import lock_run, make_run, open_run
from cosignal.rl.training.config import TrainingConfig


def config(tmp_path: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate({"run_dir": tmp_path / "runs", **changes})


def small(run_dir: Path, seed: int = 1) -> RunConfig:
    return RunConfig.model_validate({"run_dir": run_dir, "seed": seed, "adaptation": {"enabled": False}})


def test_a_run_directory_holds_config_training_and_name(tmp_path: Path) -> None:
    config = small(tmp_path)
    path = make_run(config)
    assert path.name.startswith("two_switch-s1-")
    assert RunConfig.load(path / "config.json") == config
    training = TrainingConfig.model_validate_json((path / "training.json").read_text())
    assert (training, training.pause_every_steps) == (config.training(), None)
    info = json.loads((path / "run.json").read_text())
    assert (info["id"], info["config_hash"]) == (path.name, config.config_hash())


def test_with_adaptation_the_trainer_pauses() -> None:
    assert RunConfig().training().pause_every_steps == RunConfig().adaptation.interval


def test_a_run_that_cannot_be_made_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", refuse_the_third_time())
    with pytest.raises(ConfigError, match=r"run_dir: .* \(No space left on device\)"):
        open_run(config(tmp_path), resume=False)
    assert not list((tmp_path / "runs").iterdir())


def refuse_the_third_time() -> Callable[[Path, Path], Path]:
    replaced, real = [0], Path.replace

    def replace(self: Path, target: Path) -> Path:
        replaced[0] += 1
        if replaced[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    return replace


def test_a_run_that_another_process_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.graphs.session.run_directory.LOCK_PATIENCE_S", 0.0)
    config = small(tmp_path)
    path = make_run(config)
    with lock_run(path):
        for resume in (True, path):
            with pytest.raises(RunLockedError, match="another process is running"):
                open_run(config, resume)
        with pytest.raises(RunLockedError):
            lock_run(path)


def test_what_makes_a_run_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[str] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        assert self.stat().st_size > 0
        assert not target.exists()
        replaced.append(target.name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    path = make_run(config(tmp_path))
    assert replaced == ["config.json", "training.json", "run.json"]
    assert not list(path.glob("*.partial"))


@pytest.mark.parametrize("folder", ["/etc/hostname", "/proc/x", "a\0b"])
def test_a_run_dir_that_cannot_be_written_is_a_config_error(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigError, match="run_dir: must be a folder that can be written"):
        open_run(config(tmp_path).model_copy(update={"run_dir": Path(folder)}), resume=False)
