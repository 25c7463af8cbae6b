"""The study of dips: arms that start alike, and rows by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.studies import report
from cosignal.studies.dip import arms, difference_rows, run_dip, shaped_line, train_on

UPDATE = 8 * 32


def tiny_config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": {"name": "two_switch", "n_max": 20},
            "trainer": {"envs": 8, "rollout": 32, "steps": 4 * UPDATE, "ippo": {"minibatches": 2}},
            "adaptation": {"enabled": False, "interval": UPDATE},
            "branches": {"horizon": 2 * UPDATE},
        }
    )


def test_the_study_runs_and_writes_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path)
    said: list[str] = []
    result = run_dip(said.append, tiny_config(), seeds=2, steps=3 * UPDATE, anneal_steps=1000, success=0.0)
    arms_told = [f"{arm}.{part}" for arm in ("remove", "remove_uncorrected", "anneal") for part in PARTS]
    assert [row["id"] for row in result["rows"]] == arms_told
    assert all(row["seeds"] == 2 for row in result["rows"])
    assert result["steps_total"] == result["forked_at"] + 4 * 2 * 3 * UPDATE
    assert (tmp_path / "dip" / "result.json").exists()
    assert said[-1].startswith("| arm |")


PARTS = ("difference", "first_third")


def test_a_line_that_never_gets_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path)
    with pytest.raises(ConfigError, match="a success rate of 1.1 within 1_024 steps"):
        run_dip(print, tiny_config(), success=1.1)


def test_every_arm_acts_alike_in_its_first_update_and_learns_alike_only_with_the_offset() -> None:
    config = tiny_config()
    line = shaped_line(config)
    for _ in range(4):
        line.update()
    fork = line.state_dict()
    first, weights = {}, {}
    for arm, change in arms(1000).items():
        first[arm] = train_on(line, fork, 1, change, UPDATE)
        weights[arm] = line.learner.state_dict()["0.actor.layers.2.weight"]
    assert first["remove"] == first["remove_uncorrected"] == first["anneal"] == first["keep"]
    assert weights["remove"] == pytest.approx(weights["keep"], abs=1e-5)
    assert weights["anneal"] == pytest.approx(weights["keep"], abs=1e-5)
    assert abs(weights["remove_uncorrected"] - weights["keep"]).max() > 1e-4


def test_rows_are_differences_to_keep_on_the_same_streams() -> None:
    curves = {"keep": [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], "remove": [[0.5, 1.0, 1.5], [2.5, 3.0, 3.5]]}
    whole, third = difference_rows(curves, margin=0.8)
    assert (whole["mean"], whole["ci95"], whole["verdict"]) == (-1.0, [-1.0, -1.0], "dips")
    assert (third["mean"], third["verdict"]) == (-0.5, "nothing dips")
    (undecided, _) = difference_rows({**curves, "remove": [[0.0, 0.0, 0.0], [3.0, 4.0, 5.0]]}, margin=0.8)
    assert undecided["verdict"] == "undecided"
