"""What an intervention costs, what the gate asks for, and what ranking asks of a model."""

from __future__ import annotations

import pytest
from examined import looked_at, one

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_the_arithmetic_by_hand() -> None:
    """Screen: 5 arms × 2 seeds × 100 000. At 4 seeds: 2 arms × (2 × 100 000 + 2 × 200 000). Share ¾: 3 × main steps."""
    sums = looked_at().arithmetic
    assert (sums["steps_screen"], sums["steps_intervention"]) == (1_000_000, 2_200_000)
    assert [look["steps_full"] for look in sums["looks"]] == [1_200_000, 2_000_000]
    assert (sums["steps_branches"], sums["interventions"], sums["interventions_short"]) == (4_500_000, 2, 8)
    assert sums["interventions_by_patience"] == 4
    assert sums["margin"] == pytest.approx(0.02 * 5)
    assert [look["level"] for look in sums["looks"]] == pytest.approx([0.01, 0.015])
    # 1 + t(0.99, 3 degrees) · 0.5 / √4 with t = 4.541
    assert sums["looks"][0]["least_gain_margins"] == pytest.approx(1 + 4.541 / 4, abs=0.01)
    # 1.5 M steps at 50 000 a second; 2.2 M on two workers
    assert (sums["main_s"], sums["intervention_s"]) == (30.0, 22.0)


def test_a_look_that_decides_nothing_and_a_single_intervention_are_warnings() -> None:
    examination = looked_at("gate.looks=[2, 8]", "trainer.steps=1_600_000")
    look = one(examination, "gate.look 2 seeds")
    assert (look.state, "only continues" in look.message) == ("warning", True)
    assert examination.arithmetic["looks"][0]["least_gain_margins"] is None
    single = looked_at("trainer.steps=1_000_000")
    assert (single.arithmetic["interventions"], one(single, "interventions").state) == (1, "warning")


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [
        (["adaptation.max_staleness=1_100_000"], "ok", "about 1,100,000 steps while 2 workers try"),
        (["adaptation.max_staleness=1_099_999"], "warning", "confirmed once more"),
        (
            ["branches.workers=4", "adaptation.max_staleness=700_000"],
            "warning",
            "about 733,333 steps while 3 workers try",
        ),  # the trainer has the fourth core
        (["branches.workers=1"], "warning", "it ends before the first verdict"),
        (["branches.workers=3", "branches.horizon=50_000"], "ok", "about 183,333 steps"),
    ],
)
def test_how_far_the_run_moves_on_under_the_overlap_clock(more: list[str], state: str, words: str) -> None:
    check = one(looked_at("clock=overlap", *more), "overlap")
    assert (check.state, words in check.message) == (state, True)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ([], "warning"),  # 400 requests and 1,800,000 tokens a group; the default limits are 200 and 500,000
        (["preferences.pairs=100"], "ok"),
        (["preferences.pairs=400", "preferences.rounds=1"], "ok"),
        (["llm.limits.calls=1000", "llm.limits.tokens=10_000_000"], "ok"),
        (["llm.limits.calls=1000", "llm.limits.tokens=10_000_000", "preferences.queries=16"], "warning"),
    ],
)
def test_what_ranking_asks_of_a_model_is_compared_with_its_limits(more: list[str], state: str) -> None:
    check = one(looked_at("preferences.ranker=model", *more), "preferences")
    assert check.state == state
    assert "rounds for each group of agents" in check.message
    assert not [c for c in looked_at(*more).checks if c.name == "preferences"]
