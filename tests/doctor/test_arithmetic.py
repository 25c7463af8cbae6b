"""What an intervention costs, what the gate asks for, and what ranking asks of a model."""

from __future__ import annotations

import pytest
from examined import looked_at, one

pytestmark = pytest.mark.usefixtures("plain_environment")


SIGNAL = "gate.claim=signal"
LONG = "trainer.steps=1_500_000"
RACE = (
    "race.arms=3",
    "race.rungs=8",
    "race.longest=24",
    "race.look_episodes=32",
    "race.confirm_episodes=32",
    "race.most_confirm_episodes=64",
)  # whatever is tuned


def test_a_race_by_hand() -> None:
    """Three of six arms train four rungs of 16 384 steps; five of the six train 8, the fresh start 16. Share ¾.

    The fork's policy plays 32 episodes, and after each rung every arm's and the main line's: 32 · (1 + 4 · 4), and
    32 · (1 + 56 + 24), since the second three join after 8 rungs.
    """
    sums = looked_at(LONG, *RACE).arithmetic
    race = sums["race"]
    assert race is not None
    assert (race["arms"], race["at_a_time"], race["first_rungs"]) == (6, 3, 4)
    assert (race["rungs"], race["fresh_rungs"]) == (8, 16)
    assert (race["steps_first"], race["steps_whole"]) == (12 * 16_384, 56 * 16_384)
    assert (race["evaluation_first"], race["evaluation_whole"]) == (32 * 17 * 100, 32 * 81 * 100)
    assert race["evaluation_confirm"] == 2 * 64 * 100
    assert race["levels"] == pytest.approx([0.030396, 0.007599], rel=1e-4)  # 0.3 / π², and a quarter of it
    assert (sums["steps_branches"], race["interventions_first"], sums["interventions"]) == (4_500_000, 22, 4)
    assert (sums["interventions_by_patience"], sums["interventions_short"]) == (9, None)
    assert sums["margin"] == pytest.approx(0.02 * 5)
    # 1.5 M steps at 50 000 a second; 917 504 on two workers
    assert (sums["main_s"], sums["intervention_s"]) == (30.0, 9.2)
    # Both sides in the middle of the width 5, d apart, bet half of their capital whole over the mean that is worst:
    # ¼ · ((1 + d) / (1 + 0.1 / 5))^128 = 1/level, d in widths.
    by_hand = [5 * (1.02 * (4 / level) ** (1 / 128) - 1) for level in race["levels"]]
    assert race["least_gains"] == pytest.approx(by_hand, abs=0.02)


def test_a_race_in_words() -> None:
    examination = looked_at(LONG, *RACE)
    steps = one(examination, "intervention.steps")
    assert "6 arms (4 candidates, the kick alone, a fresh start)" in steps.message
    assert "196,608 branch steps until the first 4 rungs" in steps.message
    assert "at most 917,504 where none rises (8 rungs each, 16 for the fresh start)" in steps.message
    assert "0.03 for the first and 0.0076 for the second" in one(examination, "race.error").message
    assert "decided after 4 rungs, 4 in which no arm rises" in one(examination, "interventions").message
    bare = looked_at(LONG, *RACE, "race.kick_alone=false", "race.fresh_start=false")
    assert "4 arms (4 candidates)," in one(bare, "intervention.steps").message
    assert one(bare, "intervention.steps").message.endswith(" where none rises (8 rungs each)")
    assert bare.arithmetic["race"]["fresh_rungs"] is None


def test_a_removal_is_judged_beside_races_and_costs_a_short_horizon() -> None:
    """Three arms × 2 seeds × 25 000; at 4 seeds 2 arms × (2 × 25 000 + 2 × 50 000)."""
    examination = looked_at()
    assert examination.arithmetic["steps_signal"] == 150_000 + 300_000
    assert "450,000 branch steps at horizon 50,000: screening 3 arms" in one(examination, "signal.steps").message
    assert one(examination, "gate.look 4 seeds").state == "ok"
    # It is enough that nothing is lost: t(0.99, 3 degrees) · 0.5 / √4 above minus one margin.
    assert examination.arithmetic["looks"][0]["least_gain_margins"] == pytest.approx(-1 + 4.541 / 4, abs=0.01)
    assert "shaping may leave" in one(examination, "gate").message


def test_where_only_policies_are_proven_the_doctor_says_nothing_of_judging_a_signal() -> None:
    names = {check.name for check in looked_at("gate.claim=policy").checks}
    assert {"intervention.steps", "race.error", "interventions"} <= names
    assert not [name for name in names if name == "signal.steps" or name.startswith("gate")]
    assert "a gain counts from one margin" in one(looked_at(SIGNAL, LONG), "gate").message


def test_a_run_that_affords_one_race_is_warned() -> None:
    more = ("race.arms=9", "adaptation.patience=0")
    single = looked_at("trainer.steps=262_143", *more)  # two races of 393 216 steps need 262 144
    assert one(single, "interventions").state == "warning"
    assert one(looked_at("trainer.steps=262_144", *more), "interventions").state == "ok"


def test_judging_signals_by_hand() -> None:
    """Screen: 5 arms × 2 seeds × 100 000. At 4 seeds: 2 arms × (2 × 100 000 + 2 × 200 000). Share ¾: 3 × main steps."""
    sums = looked_at(SIGNAL, LONG).arithmetic
    assert sums["race"] is None
    assert (sums["steps_screen"], sums["steps_intervention"]) == (1_000_000, 2_200_000)
    assert [look["steps_full"] for look in sums["looks"]] == [1_200_000, 2_000_000]
    assert (sums["steps_branches"], sums["interventions"], sums["interventions_short"]) == (4_500_000, 2, 8)
    assert [look["level"] for look in sums["looks"]] == pytest.approx([0.01, 0.015])
    # 1 + t(0.99, 3 degrees) · 0.5 / √4 with t = 4.541
    assert sums["looks"][0]["least_gain_margins"] == pytest.approx(1 + 4.541 / 4, abs=0.01)
    assert (sums["main_s"], sums["intervention_s"]) == (30.0, 22.0)  # 2.2 M on two workers


def test_a_look_that_decides_nothing_and_a_single_intervention_are_warnings() -> None:
    examination = looked_at(SIGNAL, "gate.looks=[2, 8]", "trainer.steps=1_600_000")
    look = one(examination, "gate.look 2 seeds")
    assert (look.state, "only continues" in look.message) == ("warning", True)
    assert examination.arithmetic["looks"][0]["least_gain_margins"] is None
    single = looked_at(SIGNAL, "trainer.steps=1_000_000")
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
    check = one(looked_at("clock=overlap", SIGNAL, LONG, *more), "overlap")
    assert (check.state, words in check.message) == (state, True)


def test_under_the_overlap_clock_the_control_races_in_a_branch() -> None:
    """24 rungs more than the arms' 56: 80 × 16 384 steps on two workers."""
    examination = looked_at("clock=overlap", LONG, *RACE)
    assert examination.arithmetic["steps_meanwhile"] == 80 * 16_384 // 2
    check = one(examination, "overlap")
    assert (check.state, "newest snapshot" in check.message) == ("ok", True)
    assert "3 at a time and the control, 16,384 steps a rung" in one(examination, "intervention.steps").message
    # seven branches over four rungs take 458 752 steps one after another
    short = ["clock=overlap", "branches.workers=1", "adaptation.patience=0", "race.arms=9"]
    late, soon = (one(looked_at(*short, f"trainer.steps={steps}"), "overlap") for steps in (458_752, 458_753))
    assert (late.state, "before the first verdict" in late.message, soon.state) == ("warning", True, "ok")


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
