"""What the pages show, as data."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunView
from cosignal.runs.page import content
from cosignal.runs.page.content import Difference, gate_sums
from cosignal.runs.records import JudgementRecord
from cosignal.testing import build_run_directory
from cosignal.testing.run_directory import POINT
from records import branch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    build_run_directory(path / "one")
    build_run_directory(path / "two")
    return path


def test_the_gates_sums_by_hand() -> None:
    """Gains 1, 2, 3: mean 2, deviation 1; t(0.05, 2) = 2.920, so the bounds lie 2.920 / √3 = 1.686 from it."""
    branches = [
        branch("k", arm=arm, seed=seed, horizon=horizon, final_return=value)
        for arm, horizon, values in (("c", 9, (1, 1, 1)), ("control", 9, (0, 0, 0)), ("c", 20, (1.5, 3, 4.5)),
                                     ("control", 20, (0.5, 1, 1.5)))
        for seed, value in enumerate(values)
    ]  # fmt: skip
    judgement = JudgementRecord(
        arm="c", verdict="accept", gain=2.0, lower=None, upper=None, level=0.05, seeds=[0, 1, 2], success_change=None,
        margin=0.1, removal=False, explanation="",
    )  # fmt: skip
    sums = gate_sums(judgement, branches)
    assert [row.gain for row in sums.seeds] == [1, 2, 3]
    assert (sums.mean, sums.deviation, sums.floored, sums.bar) == (2, 1, False, 0.1)
    assert (sums.t, sums.reach) == (pytest.approx(2.920, abs=1e-3), pytest.approx(1.686, abs=1e-3))
    even = gate_sums(judgement.model_copy(update={"removal": True, "level": 0.0, "margin": 4.0}), branches)
    assert (even.deviation, even.floored, even.bar, even.t) == (2.0, True, -4.0, None)


def test_evidence_is_found_by_the_key_that_a_finding_cites() -> None:
    features = [{"name": "a", "x": 1}, {"name": "b", "x": 2}]
    evidence = {"stage": "plateaued", "sparse": {"trend": 0.5}, "features": features,
                "behaviour": [{"group": "agents", "entropy": [1, 2]}]}  # fmt: skip
    keys = ("stage", "sparse.trend", "features.b.x", "behaviour.agents.entropy", "features.c.x", "sparse.trend.deep")
    assert [content.evidence_value(evidence, key) for key in keys] == ["plateaued", 0.5, 2, [1, 2], None, None]


def test_what_terms_pay_is_shown_while_they_are_in_force() -> None:
    rows: list[dict[str, Any]] = [{"steps": 10, "terms": {}}, {"steps": 20, "terms": {"a": [-0.5, 1.0]}}, {"steps": 30}]
    rows.append({"steps": 40, "terms": {"a": [0.5, 2.0], "b": [0.0, 0.1]}})
    assert content.term_curves(rows) == [
        {"name": "a", "steps": [20, 40], "mean": [-0.5, 0.0], "size": [1.0, 1.5]},
        {"name": "b", "steps": [40], "mean": [0.0], "size": [0.1]},
    ]


def test_stages_are_bands_that_leave_no_gap(folder: Path) -> None:
    bands = content.curves(RunView(folder / "one"))["stages"]
    assert [band["stage"] for band in bands] == ["exploring", "improving", "plateaued", "improving", "converged"]
    assert bands[0]["from"] == 0
    assert all(one["to"] == other["from"] for one, other in pairwise(bands))
    assert bands[0]["total_from"] == 0
    assert all(one["total_to"] == other["total_from"] for one, other in pairwise(bands))


def test_a_younger_state_begins_a_stage_band_of_its_own() -> None:
    rows = [{"steps": steps, "stage": stage} for steps, stage in ((10, "a"), (30, "a"), (20, "a"), (30, "b"))]
    assert content.stage_bands(rows, [10, 40, 45, 55]) == [
        {"stage": "a", "from": 0, "to": 30, "total_from": 0, "total_to": 40},
        {"stage": "a", "from": 20, "to": 20, "total_from": 40, "total_to": 45},
        {"stage": "b", "from": 20, "to": 30, "total_from": 45, "total_to": 55},
    ]


def test_an_intervention_on_the_time_line_says_what_was_tried(folder: Path) -> None:
    view = RunView(folder / "one")
    [point] = content.curves(view)["interventions"]
    assert (point["steps"], point["verdict"], point["proposals"]) == (POINT * 2048, "accept", 8)
    last = content.curves(view)["main"].index(POINT * 2048)
    assert point["total"] == content.curves(view)["total"][last]
    assert (point["branches"], point["href"]) == (len(view.branches()), f"/runs/one#at-{POINT}")


def test_only_keys_that_differ_are_compared(folder: Path) -> None:
    one, other = RunView(folder / "one"), RunView(folder / "two")
    other.config = json.loads(json.dumps(one.config)) | {"seed": 7, "new": {"a": 1}}
    assert content.comparison(one, other)["differences"] == [
        Difference("seed", one.config["seed"], 7),
        Difference("new", None, {"a": 1}),
    ]
