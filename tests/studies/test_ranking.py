"""The study of what numbers of proposals say: a tiny one on real training, and its statistics by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.rl.evidence.schema import Evidence
from cosignal.studies import job_cache, ranking
from cosignal.testing import stuck_evidence
from made_up_outcomes import rows_by_id
from short_runs import SHORT

Json = dict[str, Any]


def test_a_tiny_study_trains_every_candidate_from_one_snapshot_and_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    draws = {"rules": 2, "harmful": 1, "random": 1}
    for name, value in {"FORK": 2_560, "RUNGS": 2, "EPISODES": 4, "DRAWS": draws}.items():
        monkeypatch.setattr(ranking, name, value)
    base = RunConfig.model_validate({**SHORT, "adaptation": {**SHORT["adaptation"], "interval": 640}})
    lines: list[str] = []
    result = ranking.run_ranking(1, lines.append, ["two_switch"], base=base)

    [snapshot] = result["snapshots"]
    assert (snapshot["task"], snapshot["seed"], len(snapshot["control"])) == ("two_switch", ranking.FIRST_SEED, 2)
    whose = [arm["whose"] for arm in snapshot["arms"]]
    assert set(whose) == set(draws) and whose == sorted(whose, key=list(draws).index)
    assert all(len(arm["returns"]) == 2 for arm in snapshot["arms"])
    assert any("informativeness" in arm["numbers"] for arm in snapshot["arms"])
    kept = json.loads((tmp_path / "studies_out/ranking/result.json").read_text())
    assert kept["snapshots"] == result["snapshots"]

    again: list[str] = []
    assert ranking.run_ranking(1, again.append, ["two_switch"], base=base)["snapshots"] == result["snapshots"]
    assert "1 jobs are cached, 0 are to be run" in again[0]


def snapshot(task: str, gains: list[float], numbers: list[float | None], refused: tuple[int, ...] = ()) -> Json:
    arms = [
        {
            "title": "t",
            "whose": "rules",
            "problems": ["no"] if i in refused else [],
            "numbers": {} if number is None else {"n": number},
            "returns": [0.0, 1.0 + 2.0 * gain],  # the best counts, over the control's best, of a range of 2
        }
        for i, (gain, number) in enumerate(zip(gains, numbers, strict=True))
    ]
    return {
        "task": task, "seed": 1, "margin": 0.02, "stage": "plateaued", "return_range": [-1.0, 1.0],
        "control": [1.0, 0.5], "arms": arms,
    }  # fmt: skip


def test_a_gain_is_the_best_return_over_the_control_s_best_as_a_share_of_the_range() -> None:
    assert ranking.gains_of(snapshot("a", [0.25, -0.5, 0.0], [1, 2, 3])) == [0.25, -0.5, 0.0]


def test_correlations_are_within_snapshots_and_averaged_over_those_whose_gains_differ() -> None:
    known = [
        snapshot("a", [0.0, 0.1, 0.2, 0.3], [1, 2, 3, 4], refused=(0,)),  # ρ = 1
        snapshot("a", [0.0, 0.1, 0.2, 0.3], [104, 103, 102, 101], refused=(3,)),  # ρ = −1, on another level
        snapshot("b", [0.0, 0.1, 0.3, 0.2], [1, 2, 3, 4]),  # ρ = 1 − 6 · 2 / 60
        snapshot("b", [0.0, 0.01, 0.0, 0.0], [1, 2, 3, 4]),  # all alike
        snapshot("b", [0.0, 0.1, 0.2, 0.3], [1, 2, 3, None]),  # three are too few
    ]
    rows = rows_by_id(ranking.number_rows(known, ["a", "b"]))
    assert (rows["n.rho"]["mean"], rows["n.rho"]["seeds"]) == (pytest.approx(0.8 / 3, abs=1e-4), 3)
    assert (rows["n, b.rho"]["mean"], rows["n, b.rho"]["seeds"]) == (pytest.approx(0.8), 1)
    low, high = rows["n.rho"]["ci95"]
    assert low < 0 < high
    # of the five AUCs two are 1, one is 0, one has no gain; three candidates are enough for the last one
    assert (rows["n.auc"]["mean"], rows["n.auc"]["seeds"]) == (pytest.approx(3 / 4), 4)
    # refusing the one that gains nothing is right; where the best is refused, it loses, and the others tie
    assert rows["passes check, a.auc"]["mean"] == pytest.approx((1.0 + (0.5 + 0.5 + 0.0) / 3) / 2, abs=1e-4)


def test_ties_count_half() -> None:
    assert ranking.auc([(1.0, 0.5), (1.0, 0.0), (0.0, 0.0)], 0.02) == pytest.approx(0.75)
    assert ranking.auc([(1.0, 0.5)], 0.02) is None


def test_candidates_of_a_snapshot_are_the_same_each_time() -> None:
    evidence = Evidence.model_validate(stuck_evidence())
    one, two = (ranking.drafted(evidence, 5, ranking.DRAWS) for _ in range(2))
    assert one == two and [whose for whose, _ in one].count("random") == ranking.DRAWS["random"]
    assert one != ranking.drafted(evidence, 6, ranking.DRAWS)
