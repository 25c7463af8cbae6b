"""Run directories: what they hold, which one is resumed, and the lock that keeps a second loop away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError, RunLockedError
from cosignal.graphs.session.run_directory import RunLog, lock_run, make_run, newest_unfinished, open_run
from cosignal.rl.training.config import TrainingConfig
from cosignal.runs.store import RunView


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


def test_resume_finds_the_newest_unfinished_run_of_the_same_config(tmp_path: Path) -> None:
    config = small(tmp_path)
    assert newest_unfinished(config) is None
    make_run(small(tmp_path, seed=2))
    make_run(config)
    newest = make_run(config)
    assert newest_unfinished(config) == newest
    again = open_run(config, resume=True)
    assert (again.path, again.resumed, again.id) == (newest, True, newest.name)
    again.close()
    fresh = open_run(config, resume=False)
    assert (fresh.path == newest, fresh.resumed) == (False, False)
    fresh.close()


@pytest.mark.parametrize("waits", [False, True])
def test_a_run_that_another_process_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr("cosignal.graphs.session.run_directory.LOCK_PATIENCE_S", 0.0)
    monkeypatch.setattr(RunView, "waiting_for", lambda _: {"id": "p1-r0"} if waits else None)
    config = small(tmp_path)
    with lock_run(make_run(config)):
        with pytest.raises(RunLockedError, match="another process is running"):
            newest_unfinished(config)
        with pytest.raises(RunLockedError, match="another process is running"):
            open_run(config, resume=True)
        with pytest.raises(RunLockedError):
            lock_run(next(tmp_path.glob("two_switch-*")))


@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b'{"id": ', b"{}", b"[]", b"\xff"])
def test_a_broken_run_of_somebody_else_is_passed_over(tmp_path: Path, name: str, content: bytes) -> None:
    path, broken = make_run(config(tmp_path)), make_run(config(tmp_path))
    (broken / name).write_bytes(content)
    assert newest_unfinished(config(tmp_path)) == path


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


def test_the_log_is_json_lines_that_a_resumed_run_goes_on_with(tmp_path: Path) -> None:
    for number in range(2):
        log = RunLog(tmp_path / "log.jsonl")
        log.write("failed", error="no\nmemory", number=number)
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["event"], line["process"], line["error"], line["number"]) for line in lines] == [
        ("failed", "loop", "no\nmemory", number) for number in range(2)
    ]
    assert all(line["timestamp"].endswith("Z") for line in lines)
