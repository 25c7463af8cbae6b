"""What interventions tried, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.runs.interventions import interventions, mean_interval
from cosignal.runs.run_view import RunView


def test_interventions_pair_branches_with_the_control_of_their_round(finished_run: Path) -> None:
    [found] = interventions(RunView(finished_run))
    assert found.steps == 163_840
    first, second = found.rounds
    assert (first.decision.verdict, second.decision.verdict) == ("no_difference", "accept")
    winner = second.proposals[0]
    assert winner.verdict == "accept"
    screen, full = winner.phases
    assert (screen.seeds, full.seeds) == (2, 3)
    assert full.gain == pytest.approx(full.candidate - full.control)
    low, high = full.interval
    assert low < full.gain < high
    verdicts = [[proposal.verdict for proposal in shown.proposals] for shown in (first, second)]
    assert verdicts == [
        ["no_difference", "no_difference", "refused", "screened_out"],
        ["accept", "not_tried", "refused", "screened_out"],
    ]
    assert first.proposals[2].chart is None


def test_the_interval_by_hand() -> None:
    """Gains 1, 2, 3: mean 2, sd 1, t(0.95, 2) = 2.920; 2 ± 2.920 / sqrt(3)."""
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 1.6859, 2 + 1.6859), abs=1e-3)
    assert mean_interval([1.0]) is None


def test_interventions_say_what_became_of_the_winner(eventful_run: Path) -> None:
    found = interventions(RunView(eventful_run))
    assert [item.point for item in found] == [80, 150, 180]  # a rollback is no intervention
    promoted, declined, stale = found
    assert promoted.rounds[1].proposals[0].verdict == "rolled_back"
    assert declined.rounds[0].proposals[0].verdict == "declined"
    assert declined.rounds[0].kept_control == 2048
    [proposal] = stale.rounds[0].proposals
    assert proposal.verdict == "stale"
    assert [row.phase for row in proposal.phases] == ["full", "confirm"]
    full, confirm = proposal.phases
    assert (full.gain > 1.5, confirm.gain) == (True, pytest.approx(0.0))
    assert len(proposal.finals) == 3  # of the point's own branches


def test_the_proposals_of_a_point_are_shown_against_the_signal_in_force_there(eventful_run: Path) -> None:
    """At 150 the promoted signal was in force, whatever came of the point itself."""
    declined = interventions(RunView(eventful_run))[1].rounds[0].proposals[0]
    assert "- potential near_goal: -dist_goal / 14 (weight 1)" in [line.text for line in declined.diff]
