"""What the doctor understood of the task, and whether the first signal fits it."""

from __future__ import annotations

from pathlib import Path

import pytest
from examined import SILENT, found, looked_at, one

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_the_task_is_told_as_it_was_understood() -> None:
    examination = looked_at("task.n_max=50")
    assert "two_switch: 2 agents in 1 group, at most 50 steps" in one(examination, "task").message
    group = one(examination, "task.agents").message
    assert "green, orange: observe 20 numbers, 5 actions (stay, " in group
    assert "dist_goal [0, 16]" in group
    assert "events switch_triggered, goal_reached" in group
    assert one(examination, "task.return_range").message == "episode return from -1 to 4"


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
