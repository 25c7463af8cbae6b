"""What studies say of runs and trials that are made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from cosignal import RunConfig
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Signal
from cosignal.studies import economy, stages
from cosignal.studies.adversary import gate_trials
from cosignal.studies.adversary import study as adversary
from cosignal.studies.adversary.snapshots import Snapshot
from cosignal.studies.adversary.trials import Trial
from cosignal.studies.loop_arms import LoopRun, accepted, points_of
from cosignal.studies.outcome import Outcome, Point

Json = dict[str, Any]


def outcome(arm: str, seed: int, final: float = 3.8, **more: Any) -> Outcome:
    settings: Json = {
        "main_to_90": 300_000, "total_to_90": 500_000, "steps_main": 1_500_000, "steps_total": 4_000_000,
        "final_return": final, "final_success": 1.0,
    }  # fmt: skip
    return Outcome(arm, seed, **{**settings, **more})


def decision(verdict: str, title: str | None = None, point: int = 48, removal: bool = False) -> Json:
    return {"point": point, "round": 0, "verdict": verdict, "title": title, "removal": removal}


def run(one: Outcome, *decisions: Json, proposals: tuple[Any, ...] = (), **details: Any) -> LoopRun:
    empty: Json = {"branch_steps": 0, "signals": [], "curve": []}
    return LoopRun(one, {**empty, "decisions": list(decisions), "proposals": list(proposals), **details})


def by_id(rows: list[Json]) -> dict[str, Json]:
    return {row["id"]: row for row in rows}


# ---------------------------------------------------------------- runs


class View:
    """A run of five updates of 100 steps: the first, a kept control of two more, and two after it."""

    config: ClassVar[Json] = {"trainer": {"envs": 10, "rollout": 10}}

    def metrics(self) -> list[Json]:
        def row(update: int, success: float | None, adopted: bool = False) -> Json:
            return {
                "update": update, "steps": 100 * update, "train_success": success, "adopted": adopted,
                "steps_evaluation": 7, "evaluation_success": 1.0 if adopted else None,
            }  # fmt: skip

        return [row(1, 0.1), row(3, None, adopted=True), row(4, 0.8), row(5, 0.9)]

    def signals(self) -> list[Json]:
        adoption = {"adopt": "branches/a", "cause": self.cause, "applied_update": 1, "applied_steps": 100}
        return [{"adopt": None, "cause": "start", "applied_update": 0, "applied_steps": 0}, adoption]

    def branches(self) -> list[Json]:
        curve = [[100, 0.0, 0.3], [200, 0.0, 0.6]]
        steps = {"steps": 200, "steps_evaluation": 5}
        return [{"point": 1, "result": {"end_state": f"branches/{name}", "curve": curve, **steps}} for name in "ab"]

    def __init__(self, cause: str) -> None:
        self.cause = cause


def test_a_kept_control_counts_by_its_training_and_any_other_adopted_state_by_fresh_episodes() -> None:
    after = 2 * 205 - 200 + 7  # both branches, what was adopted only once, and the evaluations
    control = points_of(View("control"))  # type: ignore[arg-type]
    within = [Point(200, 300 + after, 0.3), Point(300, 300 + after, 0.6)]
    late = [Point(400, 400 + after, 0.8), Point(500, 500 + after, 0.9)]
    assert control == [Point(100, 107, 0.1), *within, Point(300, 300 + after, None), *late]
    promoted = points_of(View("promotion"))  # type: ignore[arg-type]
    assert promoted == [Point(100, 107, 0.1), Point(300, 300 + after, None, 1.0), *late]


# ---------------------------------------------------------------- adversary


def test_the_adversarys_rows_count_what_was_accepted_and_whose_it_was() -> None:
    four = tuple([48, 0, "Harmful: flipped", passed, passed] for passed in (True, True, True, False))
    plain = [outcome("plain", seed) for seed in (1, 2, 3, 4)]
    runs = [
        run(outcome("harmful", 1), decision("reject"), proposals=four),
        run(outcome("harmful", 2, 1.0), decision("accept", "Harmful: flipped"), proposals=four),
        run(outcome("harmful", 3, 3.9), decision("accept", None), proposals=four),  # the kicked control's state
        run(outcome("harmful", 4), decision("accept", "Let all shaping fade out", 99, removal=True),
            proposals=([99, 0, "Let all shaping fade out", True, True],)),
    ]  # fmt: skip
    rows = by_id(adversary._arm_rows("harmful", runs, plain))
    assert rows["harmful.difference"]["mean"] == pytest.approx((-2.8 + 0.1) / 4)
    assert rows["harmful.difference"]["exact_zeros"] == 2
    assert rows["harmful.interventions"]["mean"] == 0.75  # a removal is none: no model was asked
    assert (rows["harmful.passed"]["mean"], rows["harmful.passed"]["seeds"]) == (0.75, 12)
    assert rows["harmful.false_accepts"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert rows["harmful.accepts"]["mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert rows["harmful.accepts"]["whose"] == {"harmful": 1, "blend": 0, "rules": 0, "control": 1}
    assert (rows["A-1"]["verdict"], rows["A-1"]["seeds"]) == ("reproduced", 2)


def test_one_difference_without_an_acceptance_is_seen() -> None:
    plain = [outcome("plain", 1), outcome("plain", 2)]
    runs = [run(outcome("half_harmful", 1), decision("reject")), run(outcome("half_harmful", 2, 3.8 + 1e-9))]
    row = by_id(adversary._arm_rows("half_harmful", runs, plain))["A-2"]
    assert (row["verdict"], row["mean"], row["seeds"]) == ("not reproduced", 0.5, 2)


# ---------------------------------------------------------------- economy


def test_branch_steps_are_shared_out_over_promotions_and_solved_seeds() -> None:
    one, two, three = (
        run(outcome("all", 1), decision("accept", "Staircase"), branch_steps=2_000_000),
        run(outcome("all", 2), decision("reject"), branch_steps=1_000_000),
        run(outcome("all", 3, main_to_90=None, total_to_90=None), branch_steps=0),
    )
    rows = by_id(economy._rows("all", [one, two, three], 0))
    assert rows["all.share"]["mean"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert (rows["all.per_promotion"]["mean"], rows["all.per_promotion"]["seeds"]) == (3_000_000, 1)
    assert (rows["all.per_solved"]["mean"], rows["all.per_solved"]["seeds"]) == (1_500_000, 2)
    assert rows["all.interventions"]["mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert {name.partition(".")[2] for name in rows} == set(economy.COLUMNS)


def test_each_arm_has_one_idea_off() -> None:
    shipped = RunConfig()
    changes = {
        arm: {
            name
            for part in ("branches", "adaptation")
            for name, value in economy.without(arm, shipped).model_dump()[part].items()
            if value != shipped.model_dump()[part][name]
        }
        for arm in (*economy.ARMS, "no_patience+no_halving")
    }
    assert changes == {
        "all": set(),
        "no_halving": {"finalists"},
        "no_kept_control": {"keep_control"},
        "no_skipping": {"stage"},
        "no_patience": {"patience"},
        "none": {"finalists", "keep_control", "stage", "patience"},
        "no_patience+no_halving": {"patience", "finalists"},
    }
    for arm in economy.ARMS:  # and is a config that runs
        RunConfig.model_validate(economy.without(arm, shipped).model_dump())


# ---------------------------------------------------------------- stages


def signals(*entries: tuple[int, int]) -> list[Json]:
    """(main steps, terms that stay)."""
    return [{"steps": steps, "staying": staying} for steps, staying in entries]


def test_when_shaping_was_taken_away() -> None:
    def log(*entries: tuple[int, int]) -> LoopRun:
        return run(outcome("auto", 1), signals=signals(*entries))

    plain, kept, faded = log((0, 0)), log((0, 0), (300, 2)), log((0, 0), (300, 2), (700, 0))
    assert (stages.shaped_at(plain), stages.removed_at(plain)) == (None, None)
    assert (stages.shaped_at(kept), stages.removed_at(kept)) == (300, None)
    assert (stages.shaped_at(faded), stages.removed_at(faded)) == (300, 700)
    back = log((0, 0), (300, 2), (700, 0), (800, 0), (900, 2))  # a removal that was rolled back
    assert stages.removed_at(back) is None
    assert stages.removed_at(log((0, 0), (300, 2), (700, 0), (800, 0))) == 700


def test_the_return_after_the_removal() -> None:
    curve = [[300, 1.0, 0.0], [500, 3.6, 1.0], [700, 3.8, 1.0], [800, 3.7, 1.0], [900, 3.9, 1.0]]
    gone = run(outcome("auto", 1), signals=signals((0, 0), (300, 2), (700, 0)), curve=curve)
    rows = by_id(stages._removal([gone, run(outcome("auto", 2), signals=signals((0, 0)))]))
    assert (rows["S-1"]["mean"], rows["S-1"]["seeds"]) == (1.0, 1)
    assert rows["S-2"]["mean"] == pytest.approx((3.7 + 3.9) / 2 - (3.6 + 3.8) / 2)


def test_knowing_the_stage_is_compared_seed_by_seed() -> None:
    auto = [run(outcome("auto", seed)) for seed in (1, 2, 3)]
    later = [run(outcome("improving", s, steps_total=5_000_000, main_to_90=400_000)) for s in (1, 2, 3)]
    rows = by_id(stages._paired("improving", later, auto))
    assert rows["auto − improving: main"]["mean"] == -100_000
    assert rows["auto − improving: main"]["verdict"] == "worth it"
    assert rows["auto − improving: solved"]["verdict"] == "worth nothing that shows"
    assert stages._worth((-0.3, -0.1), more_is_better=True) == "harmful"


# ---------------------------------------------------------------- gate trials


def snapshot(competence: str, seed: int) -> Snapshot:
    status = TrainerStatus(
        state="waiting", update=48, steps_main=98_304, steps_evaluation=0, steps_repeated=0, steps_adopted=0,
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
    rows = by_id(gate_trials._rows("harmful", done, level=0.1))
    assert rows["start.false_accepts"]["ci95"] == [0.0, pytest.approx(1 - 0.025 ** (1 / 3), abs=1e-4)]
    assert rows["early.false_accepts"]["mean"] == 0.5 and rows["early.kick"]["mean"] == 0.5
    assert (rows["G-1"]["mean"], rows["G-1"]["seeds"], rows["G-1"]["verdict"]) == (0.2, 5, "not reproduced")
    assert (rows["G-2"]["mean"], rows["G-2"]["seeds"]) == (0.5, 2)
    assert (rows["G-3"]["mean"], rows["G-3"]["seeds"]) == (pytest.approx(20 / 24, abs=1e-4), 120)
    assert rows["G-4"]["mean"] == 1.0
    clean = [(Trial("start", one, "harmful", number), trial_value()) for number in range(60)]
    assert by_id(gate_trials._rows("harmful", clean, level=0.1))["G-1"]["verdict"] == "reproduced"


def test_power_is_the_share_that_accepts_the_helpful_one() -> None:
    one = snapshot("start", 101)
    found = [trial_value("accept", "Good: hand-made"), trial_value("accept", "Harmful: events"), trial_value()]
    done = [(Trial("start", one, "good", number), value) for number, value in enumerate(found)]
    rows = by_id(gate_trials._rows("good", done, level=0.1))
    assert rows["G-5"]["mean"] == rows["G-6"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert rows["good: start.good_accepts"]["seeds"] == 3 and "G-1" not in rows


def test_accepted_decisions_and_removals_are_told_apart() -> None:
    one = run(outcome("auto", 1), decision("accept", "Staircase"), decision("accept", "No", removal=True))
    assert [row["title"] for row in accepted(one)] == ["Staircase"]
    assert [row["title"] for row in accepted(one, removal=True)] == ["No"]
