"""What the doctor understood of the task, and whether the first signal fits it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.doctor.task import check_spec, check_time_limit
from cosignal.rl.envs.two_switch.spec import two_switch_spec
from examined import SILENT, found, looked_at, one
from small_tasks import Walk

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_the_task_is_told_as_it_was_understood() -> None:
    examination = looked_at("task.n_max=50")
    assert "two_switch: 2 agents in 1 group, at most 50 steps" in one(examination, "task").message
    group = one(examination, "task.agents").message
    assert "green, orange: observe 20 numbers, 5 actions (stay, " in group
    assert "dist_goal [0, 16]," in group
    assert "dist_switch_a [0, 10] (done at 0)," in group
    assert "events switch_triggered, goal_reached" in group
    assert one(examination, "task.return_range").message == "episode return from -1 to 4"
    assert found(examination, "task.agents.descriptions") == []


def test_a_time_limit_that_is_learned_as_an_end_is_a_warning() -> None:
    assert not list(check_time_limit(RunConfig()))
    (check,) = check_time_limit(RunConfig.model_validate({"trainer": {"time_limit": "termination"}}))
    assert check.state == "warning" and "wrong and EPyMARL's way" in check.message


def test_features_and_events_without_a_description_are_named() -> None:
    (group,) = two_switch_spec().groups
    features = tuple(f.model_copy(update={"description": ""}) if f.name == "x" else f for f in group.features)
    events = tuple(event.model_copy(update={"description": ""}) for event in group.events[:1])
    changed = group.model_copy(update={"features": features, "events": events})
    checks = {check.name: check for check in check_spec(two_switch_spec().model_copy(update={"groups": (changed,)}))}
    assert checks["task.agents"].state == "ok"
    silent = checks["task.agents.descriptions"]
    assert (silent.state, silent.message.split(",")[0]) == ("warning", "no description of x")
    assert "switch_triggered" in silent.message and "dist_goal" not in silent.message and silent.remedy


def test_an_environment_that_says_little_about_itself_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random observations, no declared features, no return range; what it prints does not get into the result."""
    (tmp_path / "silent_env.py").write_text(SILENT)
    examination = looked_at("task={env: 'silent_env:SilentEnv', n_max: 5}")
    assert "feature_specs" in str(one(examination, "task.agents").remedy)
    assert one(examination, "task.return_range").state == "warning"
    assert "no success test" in one(examination, "task").message
    assert one(examination, "task.deterministic").state == "warning"
    assert examination.arithmetic["margin"] is None
    assert examination.ok
    assert capsys.readouterr().out == ""


def test_a_task_that_cannot_be_built_and_a_signal_that_does_not_fit() -> None:
    examination = looked_at("task={env: 'no_such_module:env'}")
    assert one(examination, "task").state == "problem"
    assert found(examination, "speed") == []
    term = "signal.terms=[{name: a, kind: potential, expression: dist_gaol}]"
    assert "did you mean 'dist_goal'?" in str(one(looked_at(term), "signal.terms"))


class Dying(Walk):
    """Ends its process, but not in its first steps."""

    made = 0

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        Dying.made += 1
        if Dying.made > 700:
            os._exit(3)
        return super().step(actions)


@pytest.mark.integration
def test_an_environment_that_ends_its_process_later_is_a_problem() -> None:
    checks = {check.name: check for check in looked_at(f"task={{env: '{__name__}:Dying'}}").checks}
    assert (checks["task"].state, checks["task.play"].state) == ("ok", "problem")
    assert "ended with exit status 3 (in random play, 100 of 2,000 steps)" in checks["task.play"].message
    assert checks["task.play"].remedy == "mend it"


HASHES = """
import os, sys
from small_tasks import Walk
KINDS = {"crate", "barrel", "sack", "drum"}

class Hashes(Walk):
    made = 0
    def __init__(self, log):
        super().__init__()
        self.log = log
        print("built")
        os.write(1, b"by C")
        with open(log, "a") as file: file.write("+")
    def close(self):
        with open(self.log, "a") as file: file.write("-")
    def _observed(self):
        return {agent: x + list(KINDS).index("sack") for agent, x in super()._observed().items()}
"""


@pytest.mark.integration
def test_another_process_may_come_to_other_states_by_the_hashes_of_strings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told, standard output stays ours, and every environment that was built is closed."""
    (tmp_path / "hashes_env.py").write_text(HASHES)
    examination = looked_at(f"task={{env: 'hashes_env:Hashes', env_args: {{log: '{tmp_path / 'log'}'}}}}")
    check = one(examination, "task.deterministic")
    assert (check.state, "(PYTHONHASHSEED) step 1 differed" in check.message) == ("ok", True)
    assert capfd.readouterr().out == ""
    assert "hashes_env" not in sys.modules
    log = (tmp_path / "log").read_text()
    assert log.count("+") == log.count("-") > 10
