"""`cosignal doctor` and the start of a run: the places where networks live and branches run, and a remedy for each."""

from __future__ import annotations

import socket
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from cosignal.config.run_config import RunConfig
from cosignal.doctor import Check, examine
from cosignal.errors import ConfigError
from cosignal.graphs.session.run import start


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def found(name: str, *overrides: str) -> list[Check]:
    examination = examine("two_switch", overrides, measure=lambda _: 50_000.0)
    return [check for check in examination.checks if check.name == name]


def none(name: str) -> str:
    raise PackageNotFoundError(name)


def test_the_executor_is_named_and_a_missing_package_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    [check] = found("executor")
    assert check.message == "local: 2 processes on this machine"
    monkeypatch.setattr("cosignal.rl.branches.executors.version", none)
    [check] = found("executor", "branches.executor=ray")
    assert (check.state, check.remedy) == ("problem", "pip install 'cosignal[ray]'")


def test_a_cluster_that_does_not_answer_is_a_problem_and_cores_here_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cosignal.rl.branches.executors._ray_version", lambda: "2.60.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        overrides = "branches.executor=ray", f"branches.ray_address=127.0.0.1:{taken.getsockname()[1]}"
    [check] = found("executor", *overrides)
    assert check.state == "problem"
    assert found("cores", *overrides) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what others lack")
async def test_a_device_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    [check] = found("device")
    assert (check.state, check.message) == ("ok", "networks live on cpu")
    [check] = found("device", "trainer.device=cuda")
    assert (check.state, str(check.remedy)[:13]) == ("problem", "set it to cpu")
    config = RunConfig.model_validate({"run_dir": tmp_path / "runs", "trainer": {"device": "cuda"}})
    with pytest.raises(ConfigError, match=r"trainer\.device"):
        async with start(config):
            pass
    assert not (tmp_path / "runs").exists()


async def test_a_run_without_ray_is_refused_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.branches.executors.version", none)
    config = RunConfig.model_validate({"run_dir": tmp_path / "runs", "branches": {"executor": "ray"}})
    with pytest.raises(ConfigError, match=r"pip install 'cosignal\[ray\]'"):
        async with start(config):
            pass
    assert not (tmp_path / "runs").exists()
