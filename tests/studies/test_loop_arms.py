"""What is read out of a finished run of the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from cosignal.rl.ipc.messages import Cause
from cosignal.rl.signals.signal import Signal
from cosignal.runs.records import BranchRecord, SignalVersion
from cosignal.runs.run_view import RunView
from cosignal.runs.steps import StepHistory, StepsAt
from cosignal.studies.loop_arms import details_of, points_of
from cosignal.studies.outcome import Point
from cosignal.testing.run_directory import build_run_directory
from made_up_run import RACE, add_races
from records import branch

Json = dict[str, Any]


class View:
    """A run of five updates of 100 steps: the first, a kept control of two more, and two after it."""

    config: ClassVar[Json] = {"trainer": {"envs": 10, "rollout": 10}}

    def __init__(self, cause: Cause) -> None:
        self.cause = cause

    def metrics(self) -> list[Json]:
        def row(update: int, success: float | None, adopted: bool = False) -> Json:
            return {
                "update": update, "steps": 100 * update, "train_success": success, "adopted": adopted,
                "steps_trained": 100 * update - (200 if update > 1 else 0), "steps_evaluation": 7,
                "evaluation_success": 1.0 if adopted else None,
            }  # fmt: skip

        return [row(1, 0.1), row(3, None, adopted=True), row(4, 0.8), row(5, 0.9)]

    def signals(self) -> list[SignalVersion]:
        return [
            SignalVersion(version=0, key="start", base_version=None, applied_update=0, applied_steps=0, signal=Signal(),
                          adopt=None, cause="start"),
            SignalVersion(version=1, key="a", base_version=0, applied_update=1, applied_steps=100, signal=Signal(),
                          adopt="branches/a", cause=self.cause),
        ]  # fmt: skip

    def branches(self) -> list[BranchRecord]:
        curve = [(100, 0.0, 0.3), (200, 0.0, 0.6)]
        return [branch(name, horizon=200, curve=curve, steps_evaluation=5) for name in "ab"]

    def step_history(self) -> StepHistory:
        branches = [StepsAt(1, 205), StepsAt(1, 205)]
        return StepHistory(branches=branches, play=[])


def test_a_kept_control_counts_by_its_training_and_any_other_adopted_state_by_fresh_episodes() -> None:
    after = 2 * 205 - 200 + 7  # both branches, what was adopted only once, and the evaluations
    control = points_of(View("control"))  # type: ignore[arg-type]
    within = [Point(200, 300 + after, 0.3), Point(300, 300 + after, 0.6)]
    late = [Point(400, 400 + after, 0.8), Point(500, 500 + after, 0.9)]
    assert control == [Point(100, 107, 0.1), *within, Point(300, 300 + after, None), *late]
    promoted = points_of(View("promotion"))  # type: ignore[arg-type]
    assert promoted == [Point(100, 107, 0.1), Point(300, 300 + after, None, 1.0), *late]


def test_a_decision_says_which_kind_of_arm_has_won_a_race(tmp_path: Path) -> None:
    details = details_of(RunView(add_races(build_run_directory(tmp_path / "run"))))
    raced = [row for row in details["decisions"] if row["point"] == RACE]
    assert [(row["verdict"], row["claim"], row["kind"]) for row in raced] == [("accept", "policy", "candidate")]
    # What the gate has accepted is no arm of a race.
    assert {row["kind"] for row in details["decisions"] if row["claim"] == "signal"} == {None}
