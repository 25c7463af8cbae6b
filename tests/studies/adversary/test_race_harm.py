"""The study of harm: its rows on adoptions made by hand, its configs, a tiny trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal import RunConfig, RunView
from cosignal.errors import ConfigError
from cosignal.graphs.nodes.check import _explorations_taken
from cosignal.graphs.race import confirmation
from cosignal.rl.branches.run_branch import start_arm
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.ipc.messages import BranchJob
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.line import TrainingLine
from cosignal.studies import job_cache, report
from cosignal.studies.adversary import race_harm
from cosignal.studies.adversary.adoption_twins import Adoption, Fork, Later, RacedFork
from cosignal.studies.adversary.race_harm import (
    ARMS,
    adoptions_needed,
    claim_rows,
    harm_arm,
    harm_rows,
    null_config,
    null_rows,
    outcome_rows,
    run_race_harm,
)
from made_up_outcomes import decision, loop_run, outcome, rows_by_id
from short_runs import SHORT

pytestmark = pytest.mark.timeout(300)


def adoption(adopted: float, twin: float = 1.0, reseeded: float | None = None, **more: Any) -> Adoption:
    """Of an arm that is honest, with a margin of 0.1; a return above 2 solves the task."""

    def later(returns: float) -> Later:
        return Later(returns=returns, success=float(returns > 2), solved=returns > 2)

    settings: dict[str, Any] = {
        "arm": "honest", "seed": 1, "version": 1, "kind": "candidate", "title": "near", "fork": "stuck",
        "horizon": 16_384, "margin": 0.1,
    }  # fmt: skip
    states = {"adopted": later(adopted), "twin": later(twin), "reseeded": later(twin if reseeded is None else reseeded)}
    return Adoption(**{**settings, **states, **more})


# ---------------------------------------------------------------- rows


def test_an_adoption_harms_by_more_than_the_margin_and_luck_is_judged_by_the_same_rule() -> None:
    assert not adoption(0.91).harms and adoption(0.89).harms
    assert not adoption(0.0, reseeded=0.91).luck_harms and adoption(3.0, reseeded=0.89).luck_harms
    four = [adoption(3.0), adoption(0.5), adoption(3.0, 2.5, reseeded=1.0), adoption(2.5, 3.0, reseeded=2.0)]
    rows = rows_by_id(outcome_rows("all", four))
    assert (rows["all.harm"]["mean"], rows["all.base"]["mean"], rows["all.harm"]["seeds"]) == (0.5, 0.5, 4)
    assert rows["all.difference"]["mean"] == 0.0
    assert rows["all.gain"]["mean"] == (2.0 - 0.5 + 0.5 - 0.5) / 4
    assert rows["all.luck"]["mean"] == (-1.5 - 1.0) / 4
    assert rows["all.twin_solves"]["mean"] == 0.5
    assert outcome_rows("none", []) == []


def test_rows_are_by_arm_and_by_kind_and_the_wholly_harmful_one_counts_apart() -> None:
    def adopted(title: str | None) -> dict[str, Any]:
        return decision("accept", title) | {"kind": "candidate" if title else "kick"}

    runs = [
        loop_run(outcome("honest", 1, 3.0), adopted("near")),
        loop_run(outcome("harmful", 1, 1.0), adopted("Harmful: flipped"), adopted("Harmful: flipped")),
        loop_run(outcome("harmful", 2, 3.0), adopted(None)),
        loop_run(outcome("null", 1, 0.0), adopted("Nothing new")),
    ]
    found = [
        adoption(3.0),
        adoption(3.0, arm="half_harmful_early", kind="kick"),
        *(adoption(0.0, arm="harmful") for _ in range(3)),
        adoption(0.0, arm="null"),
    ]
    plain = [outcome("plain", seed, 2.0) for seed in (1, 2)]
    rows = rows_by_id(harm_rows(("honest", "harmful", "null"), runs, found, plain))
    pooled = "all honest and half-harmful"
    assert (rows[f"{pooled}.harm"]["mean"], rows[f"{pooled}.harm"]["seeds"]) == (0.0, 2)
    assert rows["of them a candidate.harm"]["seeds"] == rows["of them the kick alone.harm"]["seeds"] == 1
    assert "of them a fresh start.harm" not in rows
    assert rows["harmful.harm"]["mean"] == 1.0
    assert (rows["harmful.harmful_runs"]["mean"], rows["harmful.harmful_runs"]["seeds"]) == (0.5, 2)
    assert (rows["harmful.against_plain"]["mean"], rows["honest.against_plain"]["mean"]) == (0.0, 1.0)
    assert rows["harmful.adoptions"]["mean"] == 1.5
    assert "honest.harmful_runs" not in rows and "null.against_plain" not in rows


def verdict(adoptions: Sequence[Adoption]) -> str:
    [row] = claim_rows(adoptions)
    return row["verdict"]


def test_the_claim_is_decided_by_enough_adoptions_of_which_half_have_a_twin_that_solves() -> None:
    good, stuck = adoption(3.0, 2.9), adoption(3.0, 1.0)
    assert verdict([good] * 73) == "reproduced"
    assert verdict([good] * 72) == "not decided: 72 adoptions of the 73 or more that it takes"
    assert verdict([good] * 36 + [stuck] * 37).startswith("not decided: the twin later solves the task after 36 of 73")
    assert verdict([good] * 37 + [stuck] * 36) == "reproduced"
    assert verdict([*[good] * 71, *[adoption(2.5, 2.9)] * 2]) == "weaker"  # 2 of 73
    assert verdict([*[good] * 67, *[adoption(2.5, 2.9)] * 6]) == "not reproduced"  # 6 of 73
    # As many reseeded twins harm, others, so that luck explains it; but fewer pairs differ the same way.
    lucky = [*[good] * 67, *[adoption(2.5, 2.9)] * 6, *[adoption(3.0, 2.9, reseeded=2.5)] * 6]
    assert verdict(lucky) == "weaker"
    assert verdict([]) == verdict([adoption(0.0, arm="null")] * 80) == verdict([adoption(0.0, arm="harmful")] * 80)


def test_the_adoptions_needed_follow_from_the_share_of_pairs_that_differ() -> None:
    good, bad, lucky = adoption(3.0, 2.9), adoption(2.5, 2.9), adoption(3.0, 2.9, reseeded=2.5)
    assert adoptions_needed([]) == adoptions_needed([good] * 10) == 73
    # One pair of twenty differs either way: variance 0.1, 1.96² · 0.1 / 0.05² = 153.7.
    assert adoptions_needed([*[good] * 18, bad, lucky]) == 154
    assert adoptions_needed([*[good] * 9, bad]) is None


def test_null_races_count_by_fork_and_by_arm_and_gains_are_of_what_they_adopt() -> None:
    def raced(arm: str, seed: int, fork: Fork, adopted: bool = False) -> RacedFork:
        return RacedFork(arm=arm, seed=seed, fork=fork, adopted=adopted)

    found = [
        raced("null", 1, "stuck"), raced("null", 1, "stuck"), raced("null_early", 1, "rising", True),
        raced("null_early", 2, "rising"), raced("honest", 1, "oscillating", True),
    ]  # fmt: skip
    gained = [adoption(1.5, 1.0, 0.75, arm="null_early", fork="rising"), adoption(9.0, arm="honest", fork="rising")]
    rows = rows_by_id(null_rows(found, gained))
    means = {name: (row["mean"], row["seeds"]) for name, row in rows.items()}
    assert means == {
        "null races, all.adopted": (0.25, 4), "null races, all.gain": (0.5, 1), "null races, all.luck": (-0.25, 1),
        "null races, stuck.adopted": (0.0, 2),
        "null races, rising.adopted": (0.5, 2), "null races, rising.gain": (0.5, 1),
        "null races, rising.luck": (-0.25, 1),
        "null races, null.adopted": (0.0, 2),
        "null races, null_early.adopted": (0.5, 2), "null races, null_early.gain": (0.5, 1),
        "null races, null_early.luck": (-0.25, 1),
        "null runs": (0.3333, 3),
    }  # fmt: skip
    assert null_rows([raced("honest", 1, "stuck")], []) == []


# ---------------------------------------------------------------- configs


def tiny(**trainer: Any) -> RunConfig:
    settings = {**SHORT, "trainer": {**SHORT["trainer"], "steps": 2_560, **trainer}}
    settings["adaptation"] = {**SHORT["adaptation"], "interval": 256, "patience": 256}
    settings["gate"] = {"claim": "policy", "margin": 0.001}
    settings["race"] = {"look_episodes": 4, "confirm_episodes": 8, "rungs": 2, "longest": 2}
    return RunConfig.model_validate(settings)


def test_each_arm_differs_from_the_config_in_what_its_name_says() -> None:
    shipped = report.example_config()
    patient = shipped.adaptation.patience

    def changed(arm: str) -> tuple[str, int, Any]:
        loop = harm_arm(arm, shipped)
        assert loop.config.gate.claim == "policy" and (loop.config.race.kick == 1.0) == arm.startswith("null")
        return loop.config.adaptation.stage, loop.config.adaptation.patience, loop.models

    hasty = 6 * shipped.adaptation.interval
    assert {arm: changed(arm) for arm in ARMS} == {
        "honest": ("auto", patient, None), "honest_early": ("exploring", hasty, None),
        "half_harmful": ("auto", patient, "half_harmful"), "half_harmful_early": ("exploring", hasty, "half_harmful"),
        "harmful": ("auto", patient, "harmful"), "harmful_early": ("exploring", hasty, "harmful"),
        "null": ("auto", patient, None), "null_early": ("exploring", hasty, None),
        "null_oscillating": ("exploring", hasty, None),
    }  # fmt: skip
    lr = shipped.trainer.algorithm_config.lr
    assert harm_arm("null_early", shipped).config.trainer.algorithm_config.lr == lr
    assert harm_arm("null_oscillating", shipped).config.trainer.algorithm_config.lr == 30 * lr


def test_the_candidates_of_a_null_pass_check_and_train_as_a_reseeded_control_does(tmp_path: Path) -> None:
    """Bit for bit; an arm whose head is scaled by less than 1 does not."""
    config = null_config(tiny())
    line = TrainingLine(config.training())
    for _ in range(8):
        line.update()
    save_snapshot(line, tmp_path / "fork")
    recorded = TransitionSample.load(tmp_path / "fork" / "recorded.safetensors", line.spec)
    signals = [given.signal for given in config.adaptation.signals]
    assert len({signal.proposal_hash() for signal in signals}) == 4
    for signal in signals:
        taken = _explorations_taken(config.race, line.signal)
        assert check_signal(signal, line.spec, recorded, line.signal, set(), taken=taken).problems == []
    # Where one is in force, two others are new ideas.
    for adopted in signals:
        lasting = Exploration(entropy=adopted.exploration.entropy)
        taken = _explorations_taken(config.race, line.signal.model_copy(update={"exploration": lasting}))
        assert sum(signal.exploration not in taken for signal in signals) == 2

    def trained(signal: Signal | None, exploration: Exploration | None = None) -> dict[str, Any]:
        if signal is None:
            load_snapshot(line, tmp_path / "fork")
            line.reseed(3)
        else:
            asked = exploration or signal.exploration
            job = BranchJob(
                key="a", fork="fork", start="fork", arm="a", signal=signal, exploration=asked, seed=3, horizon=384,
                evaluation_seed=0, evaluation_episodes=4, end_state="end",
            )  # fmt: skip
            start_arm(line, tmp_path, job)
        for _ in range(3):
            line.update()
        return line.state_dict()[0]

    control = trained(None)
    kicked = Exploration(kick=config.race.kick)
    for arm in (*map(trained, signals), trained(config.signal.to_signal(), kicked)):
        assert all(np.array_equal(arm[name], value, equal_nan=True) for name, value in control.items())
    other = trained(signals[0], Exploration(kick=0.5))
    assert not all(np.array_equal(other[name], value, equal_nan=True) for name, value in control.items())


# ---------------------------------------------------------------- a trial


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ("two_switch", "relay")}, "--task: must be given once for the study 'race-harm'"),
        ({"tasks": ("nonsense",)}, "--task: must be one of two_switch, victim_rubble, relay or"),
        ({"proposals": Path("nowhere.json")}, "nowhere.json: a file of signals must exist here"),
        (
            {"proposals": Path("a.json"), "arms": ("honest", "null")},
            "candidates of honest arms only, got the arm 'null'",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_race_harm(1, **{"arms": (), "tell": print, **options})


def test_every_adoption_of_a_run_has_its_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever leads is confirmed and counts as proven, so that there are adoptions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    monkeypatch.setattr(race_harm, "EPISODES", 16)

    async def promising(*_: Any) -> bool:
        return True

    prove = confirmation.prove
    monkeypatch.setattr(confirmation, "_is_promising", promising)
    monkeypatch.setattr(confirmation, "prove", lambda *sides, **more: replace(prove(*sides, **more), proven=True))
    arms = ("half_harmful", "null_early")
    result = run_race_harm(1, arms, lambda line: None, first_seed=5, base=tiny())
    found = [Adoption.model_validate(row) for row in result["adoptions"]]
    assert {one.arm for one in found} == set(arms)
    raced = [RacedFork.model_validate(row) for row in result["races"]]
    for arm in arms:
        assert sum(one.arm == arm for one in found) == sum(one.adopted for one in raced if one.arm == arm)
    assert all(one.horizon % 256 == 0 and one.seed == 5 for one in found)
    # What was read is deleted, and the log says what it was read of.
    runs = [path.parent for path in (tmp_path / "studies_out" / "cache").glob("race-harm-*/*/run.json")]
    assert len(runs) == 2 and not any((path / "checkpoints").exists() for path in runs)
    versions = sorted(row.version for path in runs for row in RunView(path).signals() if row.adopt)
    assert versions == sorted(one.version for one in found)
    rows = rows_by_id(result["rows"])
    assert rows["half_harmful.harm"]["seeds"] == rows["all honest and half-harmful.harm"]["seeds"] > 0
    assert rows["null races, all.adopted"]["mean"] == 1.0
    assert rows["R-H"]["verdict"].startswith("not decided: ")
    assert "--seeds 1 --first-seed 5 --arm half_harmful --arm null_early" in result["command"]
    assert "| null races | adoptions a race |" in (report.OUT / "race-harm" / "two_switch" / "table.md").read_text()
