"""Pictures of terms: which are drawn, over what, and that they say what the term says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cosignal.rl.signals.terms import EventTerm, LearnedTerm, PotentialTerm, SimilarityTerm, TableTerm, Term
from cosignal.rl.signals.terms.table import TableRow
from cosignal.runs.term_plots import CELLS, term_plots
from cosignal.testing.evidence import stuck_evidence

FEATURES = {"dist": ("distance", 0.0, 10.0), "open": ("flag", 0.0, 1.0), "keys": ("count", 0.0, 3.0)}


@pytest.fixture
def evidence() -> dict[str, Any]:
    made = stuck_evidence()
    row = made["features"][0]
    made["features"] = [
        row | {"name": name, "group": "agents", "kind": kind, "low": low, "high": high, "done": None, "mean": low}
        for name, (kind, low, high) in FEATURES.items()
    ]
    return made


def points(drawing: str) -> list[tuple[float, float]]:
    [line] = re.findall(r'polyline class="candidate" points="([^"]*)"', drawing)
    return [tuple(map(float, pair.split(","))) for pair in line.split()]  # type: ignore[misc]


def test_one_feature_is_a_curve_that_falls_where_the_term_falls(evidence: dict[str, Any]) -> None:
    [plot] = term_plots([PotentialTerm(name="near", expression="-dist / 10")], evidence)
    assert plot.title == "near over dist"
    heights = [y for _, y in points(plot.drawing)]
    assert heights == sorted(heights)  # pixels count downwards
    assert heights[0] < heights[-1]


def test_two_are_bands_and_three_are_curves(evidence: dict[str, Any]) -> None:
    gated = PotentialTerm(name="gated", expression="open * (1 - dist / 10)")
    [plot] = term_plots([gated], evidence)
    assert plot.title == "gated over dist and open"
    cells = re.findall(r"<title>dist ([\d.]+), open (\d): ([-\d.]+)</title>", plot.drawing)
    assert len(cells) == CELLS * 2
    assert all(
        float(worth) == pytest.approx(int(flag) * (1 - float(dist) / 10), abs=6e-3) for dist, flag, worth in cells
    )
    plots = term_plots([PotentialTerm(name="all", expression="open + keys - dist")], evidence)
    assert [plot.title.split(",")[0] for plot in plots] == ["all over dist", "all over open", "all over keys"]


def test_tables_and_similarity_are_drawn_and_what_has_no_states_is_not(evidence: dict[str, Any]) -> None:
    table = TableTerm(name="t", rows=(TableRow(when="dist < 5", worth=1.0),), agents="agents")
    goal = SimilarityTerm.model_validate(
        {"name": "goal", "objects": [{"name": "keys", "attributes": [{"feature": "keys", "goal": 3}]}]}
    )
    assert len(term_plots([table, goal], evidence)) == 2
    without: list[Term] = [
        EventTerm(name="e", event="found"),
        LearnedTerm(name="l", scorer="0" * 16, agents="agents"),
        PotentialTerm(name="unknown", expression="rope"),
        PotentialTerm(name="wrong", expression="dist **"),
        PotentialTerm(name="constant", expression="1"),
    ]
    assert term_plots(without, evidence) == []
    assert term_plots([table], {}) == []
