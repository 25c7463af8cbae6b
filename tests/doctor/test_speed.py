"""The speed of training is measured in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.doctor import examine, speed
from cosignal.errors import TrainerGone
from cosignal.rl.training.config import TrainingConfig
from examined import SILENT, one

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_speed_is_measured_in_a_process_without_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class FakeChild:
        def __init__(self, module: str, request: str, within_s: float, secrets: list[str]) -> None:
            seen.update(module=module, request=request, secrets=secrets)

        def answer(self) -> float:
            return 7.5

    monkeypatch.setattr(speed, "Child", FakeChild)
    assert speed.steps_per_second(RunConfig().training(), ["MY_SECRET"]) == 7.5
    assert (seen["module"], seen["secrets"]) == ("cosignal.doctor.speed", ["MY_SECRET"])
    assert TrainingConfig.model_validate_json(seen["request"]) == RunConfig().training()


def test_a_training_that_dies_is_a_problem_with_its_last_words() -> None:
    def die(_: RunConfig) -> float:
        raise TrainerGone("training must work, got exit status 1: boom; mend what it names")

    check = one(examine(None, measure=die), "speed")
    assert (check.state, "boom" in check.message, check.remedy) == ("problem", True, "mend what it names")


@pytest.mark.integration
def test_the_measurement_itself_also_of_a_task_that_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "silent_env.py").write_text(SILENT)
    (tmp_path / "bad_env.py").write_text(SILENT.replace("self.agents = list", "raise OSError('boom') #"))
    small = {"trainer": {"envs": 2, "rollout": 8}, "adaptation": {"enabled": False}}
    config = RunConfig.model_validate({**small, "task": {"env": "silent_env:SilentEnv", "n_max": 5}})
    assert speed.steps_per_second(config.training()) > 0
    with pytest.raises(TrainerGone, match="boom"):
        speed.steps_per_second(config.training().model_copy(update={"task": bad()}))


def bad() -> Any:
    return RunConfig.model_validate({"task": {"env": "bad_env:SilentEnv"}}).task
