"""Every study at a tiny size, on real trainers, workers and branches; and rows made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.studies import job_cache, loop_arms
from cosignal.studies.adversary import gate_trials, snapshots
from cosignal.studies.adversary.gate_trials import run_gate_trials
from cosignal.studies.adversary.study import run_adversary
from cosignal.studies.economy import run_economy
from cosignal.studies.stages import run_stages
from cosignal.studies.two_switch import run_two_switch
from short_runs import SHORT

Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def studies_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for the module, so that studies share their jobs as they do for a user."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studies")
        patch.chdir(folder)
        patch.setattr(job_cache, "PARALLEL", 0)
        yield folder / "studies_out"


def base(**adaptation: Any) -> RunConfig:
    """20 updates, with a pause every fifth."""
    trainer = {**SHORT["trainer"], "steps": 2_560}
    adaptation = {**SHORT["adaptation"], "interval": 640, **adaptation}
    return RunConfig.model_validate({**SHORT, "seed": 1, "trainer": trainer, "adaptation": adaptation})


def rows_of(result: Json) -> dict[str, Json]:
    return {row["id"]: row for row in result["rows"]}


def cut(*_: Any) -> None:
    raise RuntimeError("cut off")


def run_again(study: Any, seeds: int, arms: tuple[str, ...], config: RunConfig) -> list[str]:
    """The lines that a study tells before its table."""
    lines: list[str] = []
    study(seeds, arms, lines.append, config)
    return lines[:-1]


def test_without_an_acceptance_the_adversary_changes_nothing(studies_out: Path) -> None:
    often = base(interval=256)  # six of them are the patience of the study
    strict = often.model_copy(update={"gate": often.gate.model_copy(update={"margin": 0.9})})  # accepts nothing
    result = run_adversary(1, ("harmful",), lambda line: None, strict)
    rows = rows_of(result)
    assert rows["harmful.interventions"]["mean"] >= 1 and rows["harmful.branched"]["mean"] > 0
    assert rows["harmful.passed"]["verdict"] == "reproduced" and rows["harmful.passed"]["mean"] > 0.5
    assert rows["harmful.false_accepts"]["mean"] == rows["harmful.accepts"]["mean"] == 0
    assert (rows["harmful.difference"]["mean"], rows["harmful.difference"]["exact_zeros"]) == (0, 1)
    assert rows["A-1"]["verdict"] == "reproduced"
    titles = [proposal[2] for seed in result["seeds"] for proposal in seed["proposals"]]
    assert titles and all(title.startswith("Harmful: ") for title in titles)
    assert json.loads((studies_out / "adversary" / "result.json").read_text()) == json.loads(json.dumps(result))
    assert (studies_out / "adversary" / "table.md").read_text().startswith("| arm | return minus plain's |")


def test_studies_share_what_they_have_in_common(monkeypatch: pytest.MonkeyPatch, studies_out: Path) -> None:
    idle = base(patience=2_559)  # nobody is ever asked, so that nothing within an intervention can make a difference
    told: list[str] = []
    loops = len(list((studies_out / "cache").glob("loop-*/*/run.json")))
    with monkeypatch.context() as cut_off:
        cut_off.setattr(loop_arms, "outcome_of", cut)
        with pytest.raises(RuntimeError, match="cut off"):
            run_economy(1, (), told.append, idle)
    result = run_economy(1, ("no_halving", "no_kept_control"), told.append, idle)
    rows = rows_of(result)
    assert [line.split(":")[0] for line in told[:-1]] == ["all seed 1"]
    assert (rows["all.share"]["reused"], rows["no_halving.share"]["reused"]) == (0, 1)
    assert rows["no_kept_control.steps_total"]["mean"] == rows["all.steps_total"]["mean"] > 2_560
    assert rows["all.per_promotion"]["verdict"] == "none of them happened"
    assert len(list((studies_out / "cache").glob("loop-*/*/run.json"))) == loops + 1  # the run was not begun anew
    cached = ["1 jobs are cached, 0 are to be run"]
    assert run_again(run_economy, 1, ("no_halving",), idle) == cached
    assert run_again(run_stages, 1, ("auto",), idle) == cached
    assert run_again(run_two_switch, 1, ("loop",), idle) == cached


def test_gate_trials_fork_where_training_stood(monkeypatch: pytest.MonkeyPatch, studies_out: Path) -> None:
    monkeypatch.setattr(gate_trials, "PLAIN_SEEDS", range(101, 102))
    monkeypatch.setattr(snapshots, "EARLY", 3_840)
    monkeypatch.setattr(snapshots, "LATE", 3_841)
    result = run_gate_trials(3, (), lambda line: None, base())
    found = [(trial["group"], trial["steps_main"]) for trial in result["trials"]]
    assert found == [("start", 256), ("early", 3_840), ("early, high entropy", 3_840)]
    for trial in result["trials"]:
        assert trial["passed"] >= 2 and trial["steps"] >= 2 * 3 * 256 and trial["horizon"] == 512
        assert trial["verdict"] in ("accept", "reject", "no_difference", "not_informative")
        assert all(title.startswith("Harmful: ") for _, title in trial["candidates"]) and len(trial["candidates"]) == 2
    assert rows_of(result)["G-1"]["seeds"] == 3 and rows_of(result)["G-2"]["seeds"] == 3
    controls = sorted((studies_out / "cache").glob("snapshots-*/branches/*.json"))
    times = [path.stat().st_mtime_ns for path in controls]
    with_good = run_gate_trials(1, ("good",), lambda line: None, base())
    [trial] = with_good["trials"]
    assert trial["candidates"][-1][1] == "Good: hand-made" and len(trial["candidates"]) == 2
    assert [path.stat().st_mtime_ns for path in controls] == times  # its control was there already
    assert run_again(run_gate_trials, 3, (), base()) == [
        "1 jobs are cached, 0 are to be run",
        "3 jobs are cached, 0 are to be run",
    ]
