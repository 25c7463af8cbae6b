"""One run of the study of harm: forks by their windows, twins that are the main line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal import RunConfig
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from cosignal.runs.race_records import RaceDetail, RaceLook, RaceRecord
from cosignal.studies.adversary.adoption_twins import RESEED, fork_kind, go_on
from cosignal.testing import early_evidence
from short_runs import SHORT


@pytest.mark.parametrize(
    ("now", "best", "trend", "expected"),
    [
        (1.0, 1.0, 0.25, "rising"),  # 0.125 over a window, above the margin of 0.1
        (1.0, 1.0, 0.15, "stuck"),
        (1.0, 1.5, 0.25, "rising"),
        (1.0, 1.25, -0.1, "oscillating"),
        (1.0, 1.15, -0.1, "stuck"),
        (None, None, None, "stuck"),
    ],
)
def test_a_fork_is_named_by_its_windows(
    now: float | None, best: float | None, trend: float | None, expected: str
) -> None:
    raw = early_evidence()
    raw["sparse"] |= {"return_now": now, "return_best": best, "trend": trend}
    look = RaceLook(arm="control", state="x", steps=0, mean=0.0, sd=0.0, episodes=4, success=None)
    race = RaceRecord(
        id="p1-r0", point=1, round=0, detail=RaceDetail(fork_steps=0, fork=look, margin=0.1, left=0, arms=[])
    )
    assert fork_kind(Evidence.model_validate(raw), race) == expected


def test_a_twin_goes_on_as_the_main_line_would_have_and_a_reseeded_one_does_not(tmp_path: Path) -> None:
    config = RunConfig.model_validate(SHORT)
    line, evaluator = TrainingLine(config.training()), Evaluator(config.task, 32, 5)
    for _ in range(8):
        line.update()
    save_snapshot(line, tmp_path / "before")
    steps = 10 * line.collector.rollout.steps
    twin = go_on(config, tmp_path, "before", steps, evaluator)
    other = go_on(config, tmp_path, "before", steps, evaluator, seed=RESEED)
    for _ in range(10):
        line.update()
    assert twin.returns == evaluator.evaluate(line.learner).mean_return
    assert other.returns != twin.returns
    assert not twin.solved
