"""The plan and the rows of gate trials, on trials made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Signal
from cosignal.studies.adversary import gate_trials
from cosignal.studies.adversary.snapshots import Snapshot
from cosignal.studies.adversary.trials import Trial
from made_up_outcomes import rows_by_id

Json = dict[str, Any]


def snapshot(competence: str, seed: int) -> Snapshot:
    status = TrainerStatus(
        state="waiting", update=48, steps_main=98_304, steps_evaluation=0, steps_repeated=0, steps_trained=98_304,
        steps_budget=1_500_000, waiting_at=48, snapshot="checkpoints/update_000000048", stage="exploring",
        signal=Signal(scale=1.0), sparse_return=0.5, success_rate=0.0,
    )  # fmt: skip
    return Snapshot(competence, RunConfig(seed=seed), Path(), status, None)  # type: ignore[arg-type]


def trial_value(verdict: str = "reject", winner: str | None = None) -> Json:
    return {
        "verdict": verdict, "winner": winner and "p48-r0-0", "winner_title": winner, "horizon": 200_000, "drafts": 24,
        "passed": 20, "candidates": [["a", ""]] * 4, "judgements": [], "steps": 2_000_000,
    }  # fmt: skip


def test_trials_are_spread_over_all_competences_before_any_is_repeated() -> None:
    known = [snapshot(c, seed) for c in ("start", "early", "improving", "solved", "stuck") for seed in (101, 102, 103)]
    plan = gate_trials.planned("harmful", known)
    assert len({trial.name for trial in plan}) == len(plan) == 8 + 8 + 4 + 8 + 8 + 12 + 12
    first = [(trial.group, trial.snapshot.config.seed) for trial in plan if trial.number == 0]
    assert plan[: len(first)] == [trial for trial in plan if trial.number == 0]
    assert {group for group, _ in first} == {group.name for group in gate_trials.GROUPS} - {"emerging"}
    good = gate_trials.planned("good", known)
    assert {trial.group for trial in good} == {"start", "early", "stuck, kicked"}


def test_false_accepts_have_exact_intervals_overall_by_competence_and_by_snapshot() -> None:
    one, two = snapshot("start", 101), snapshot("early", 101)
    done = [(Trial("start", one, "harmful", number), trial_value()) for number in range(3)]
    done += [(Trial("early", two, "harmful", 0), trial_value("accept", "Harmful: flipped"))]
    done += [(Trial("early", two, "harmful", 1), trial_value("accept", "control"))]
    rows = rows_by_id(gate_trials.trial_rows("harmful", done, level=0.1))
    assert rows["start.false_accepts"]["ci95"] == [0.0, pytest.approx(1 - 0.025 ** (1 / 3), abs=1e-4)]
    assert rows["early.false_accepts"]["mean"] == 0.5 and rows["early.kick"]["mean"] == 0.5
    assert (rows["G-1"]["mean"], rows["G-1"]["seeds"], rows["G-1"]["verdict"]) == (0.2, 5, "not reproduced")
    assert (rows["G-2"]["mean"], rows["G-2"]["seeds"]) == (0.5, 2)
    assert (rows["G-3"]["mean"], rows["G-3"]["seeds"]) == (pytest.approx(20 / 24, abs=1e-4), 120)
    assert rows["G-4"]["mean"] == 1.0
    clean = [(Trial("start", one, "harmful", number), trial_value()) for number in range(60)]
    assert rows_by_id(gate_trials.trial_rows("harmful", clean, level=0.1))["G-1"]["verdict"] == "reproduced"


def test_power_is_the_share_that_accepts_the_helpful_one() -> None:
    one = snapshot("start", 101)
    found = [trial_value("accept", "Good: hand-made"), trial_value("accept", "Harmful: events"), trial_value()]
    done = [(Trial("start", one, "good", number), value) for number, value in enumerate(found)]
    rows = rows_by_id(gate_trials.trial_rows("good", done, level=0.1))
    assert rows["G-5"]["mean"] == rows["G-6"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert rows["good: start.good_accepts"]["seeds"] == 3 and "G-1" not in rows
