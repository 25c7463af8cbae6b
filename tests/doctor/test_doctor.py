"""`cosignal doctor` as a whole: each thing that can be wrong is named with its rule, its value and a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cosignal.cli import app
from cosignal.doctor import examine
from examined import looked_at, one
from typer.testing import CliRunner

pytestmark = pytest.mark.usefixtures("plain_environment")

runner = CliRunner()


def test_the_packaged_example_is_healthy() -> None:
    examination = looked_at()
    assert [check for check in examination.checks if check.state != "ok"] == []
    assert (examination.ok, examination.exit_code) == (True, 0)
    names = [check.name for check in examination.checks]
    assert {"python", "packages", "sockets", "config", "run_dir", "cores", "network", "task", "signal"} <= set(names)
    assert list(Path.cwd().iterdir()) == [], "looking leaves nothing behind"


def test_whatever_is_not_ok_has_a_remedy() -> None:
    examination = looked_at(
        "clock=overlap", "branches.workers=9", "llm.default={provider: openai}", "run_dir=/etc/hostname"
    )
    assert {check.state for check in examination.checks} == {"ok", "warning", "problem"}
    assert all((check.remedy is None) == (check.state == "ok") for check in examination.checks)
    assert examination.exit_code == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.stepz=1"], "trainer.stepz: unknown key"),
        (["trainer.steps=100_000", "adaptation.patience=0", "adaptation.max_share=0.5"], "the first 4 rungs of a race"),
        (
            ["gate.claim=signal", "trainer.steps=400_000", "adaptation.patience=100_000"],
            "must afford at least one intervention",
        ),
        (["gate.looks=[1]"], "gate.looks: must be increasing"),
    ],
)
def test_a_config_that_run_refuses_is_a_problem_in_the_same_words(overrides: list[str], words: str) -> None:
    examination = looked_at(*overrides)
    assert words in one(examination, "config").message
    assert (examination.exit_code, examination.arithmetic) == (2, {})


def test_a_config_that_is_not_there() -> None:
    assert "two_switch" in str(one(examine("two_swich"), "config").remedy)


def test_without_adaptation_no_model_is_looked_at() -> None:
    examination = looked_at("adaptation.enabled=false", "llm.default={provider: openai}")
    assert examination.ok
    assert "no model is asked" in one(examination, "llm").message
    assert examination.arithmetic == {"steps_per_s": 50_000, "main_s": 14.0}  # 700 000 steps


def test_the_command_prints_one_json_object_and_exits_with_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.doctor.examination.steps_per_second", lambda *_: 50_000.0)
    for arguments, code in (
        (["two_switch"], 0),
        (["two_switch", "--set", "task={env: 'no_such_module:env'}"], 1),
        (["no_such_config"], 2),
    ):
        result = runner.invoke(app, ["doctor", *arguments, "--json"])
        assert (result.exit_code, result.stdout.count("\n")) == (code, 1)
        told = json.loads(result.stdout)
        assert told["ok"] == (code == 0)
        assert {"name", "state", "message", "remedy"} == set(told["checks"][0])
    assert "no problems" in runner.invoke(app, ["doctor"]).stdout
