"""Races as they are shown, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.runs.interventions import interventions
from cosignal.runs.race_records import RaceLook, RaceRecord
from cosignal.runs.races import ShownRace, gain_over_kick, look_reach, outcome_in_words, show_race
from cosignal.runs.report import signal_history
from cosignal.runs.run_view import RunView
from made_up_run import EXPLAINED, LOOKS, LOST_RACE, RACE, REMOVED
from made_up_run import race_row as made_up_race

LEADER, KICK, FRESH = f"p{RACE}-r0-1", f"kick@{RACE}", f"fresh@{RACE}"


@pytest.fixture
def races(raced_run: Path) -> dict[int, ShownRace]:
    return {
        item.point: round_.race for item in interventions(RunView(raced_run)) for round_ in item.rounds if round_.race
    }


@pytest.mark.parametrize(("sd", "episodes", "reach"), [(0.8, 32, 0.2884), (0.0, 32, 0.0), (1.0, 2, 8.9846)])
def test_the_interval_of_a_look_by_hand(sd: float, episodes: int, reach: float) -> None:
    """t(0.975, 31) = 2.0395: 2.0395 · 0.8 / √32 = 0.2884; t(0.975, 1) = 12.706: 12.706 / √2 = 8.9846."""
    look = RaceLook(arm="a", state="s", steps=0, mean=1.0, sd=sd, episodes=episodes, success=None)
    assert look_reach(look) == pytest.approx(reach, abs=1e-3)


def test_a_single_episode_has_no_interval() -> None:
    look = RaceLook(arm="a", state="s", steps=0, mean=1.0, sd=0.0, episodes=1, success=None)
    assert look_reach(look) is None


def test_an_arm_has_its_looks_and_what_became_of_it(races: dict[int, ShownRace]) -> None:
    race = races[RACE]
    assert [arm.name for arm in race.arms] == list(LOOKS)
    for arm in race.arms:
        assert [look.mean for look in arm.looks] == LOOKS[arm.name]
        assert [look.steps for look in arm.looks] == [16_384, 32_768, 49_152, 65_536][: len(arm.looks)]
    leader, behind, kick, fresh = (race.arm(name) for name in (LEADER, f"p{RACE}-r0-3", KICK, FRESH))
    assert (leader.won, leader.outcome, leader.dropped_at) == (True, "policy adopted", None)
    assert (behind.dropped_at, behind.best) == (3, 1.6)
    assert behind.outcome.startswith("dropped after rung 3: clearly behind")
    assert (kick.kind, kick.explores, kick.dropped_at) == ("the exploration kick alone", "kick 0.05", 4)
    assert (fresh.kind, fresh.explores, fresh.is_fresh) == ("a fresh start", "", True)
    assert fresh.outcome == "raced to the end, not adopted"


def test_rungs_have_the_main_line_and_leave_open_who_did_not_train(races: dict[int, ShownRace]) -> None:
    last = races[RACE].rungs[-1]
    assert (last.number, last.steps, last.control.mean) == (4, 65_536, 2.0)
    assert [look is None for look in last.arms] == [False, False, False, True, False, False]
    assert len(last.dropped) == 2


def test_the_adoption_is_the_confirmation_that_proved_it(races: dict[int, ShownRace]) -> None:
    race = races[RACE]
    assert [(shown.rung, shown.proof.number, shown.proof.proven) for shown in race.proofs] == [
        (3, 1, False),
        (4, 2, True),
    ]
    assert race.adopted.proof.explanation == EXPLAINED
    assert race.winner.name == LEADER
    assert (races[LOST_RACE].winner, races[LOST_RACE].adopted) == (None, None)


def test_a_proven_policy_that_was_declined_is_not_adopted(raced_run: Path) -> None:
    view = RunView(raced_run)
    [record, _], [decision] = view.races(), [row for row in view.decisions() if row.id == f"p{RACE}-r0"]
    declined = decision.model_copy(update={"verdict": "declined", "version": None})
    for known in (declined, None):
        race = show_race(record, known, {})
        assert race.adopted is None
        assert race.winner.outcome == "its policy was proven better"
        assert "adopted" not in re.sub("not adopted", "", race.chart)


def test_the_gain_over_the_kick_is_that_of_the_last_common_look() -> None:
    def gain(looks: dict[str, list[float]], arm: str) -> tuple[float, int] | None:
        rungs = max(len(means) for means in looks.values())
        detail = RaceRecord.model_validate(made_up_race(RACE, looks, [2.0] * rungs, {}, {})).detail
        over = gain_over_kick(detail, arm)
        return None if over is None else (pytest.approx(over.gain), over.rung)

    assert gain({LEADER: [2.0, 2.5, 4.0], KICK: [2.0, 2.2]}, LEADER) == (0.3, 2)
    assert gain({LEADER: [2.0, 2.5], KICK: [2.0, 2.2, 2.4]}, LEADER) == (0.3, 2)
    assert gain({LEADER: [2.0], FRESH: [0.0]}, LEADER) is None
    assert gain({LEADER: [2.0], KICK: [2.0]}, KICK) is None


def test_the_chart_has_a_line_an_arm_a_dot_a_look_and_marks_of_what_became_of_them(
    races: dict[int, ShownRace],
) -> None:
    chart = races[RACE].chart
    looks = sum(len(means) for means in LOOKS.values()) + 5  # and the main line's at the fork and after four rungs
    assert chart.count("<polyline") == len(LOOKS) + 1
    assert chart.count('class="look"') == chart.count('class="whisker"') == looks
    assert chart.count('class="drop"') == 3
    assert (chart.count('class="ring confirmed"'), chart.count('class="ring proven"')) == (1, 1)
    assert chart.count('class="winner"') == 2  # its group and its line
    assert "fresh start (its age)" in chart
    assert f"{LEADER} <tspan>adopted</tspan>" in chart


def test_the_chart_is_told_in_words_and_escaped(races: dict[int, ShownRace]) -> None:
    chart = races[RACE].chart
    assert '<svg class="chart race" role="img" aria-labelledby="race-p160-r0-title"' in chart
    assert '<desc id="race-p160-r0-desc">Main line from the fork on: 2.00, 2.00, 2.02, 1.98, 2.00.' in chart
    assert f"{LEADER}: 2.00, 2.20, 3.40, 3.47; policy adopted." in chart
    assert "&lt;script&gt;" in chart
    assert "<script" not in chart


def test_a_proposal_of_a_race_says_what_became_of_it_and_not_that_it_was_accepted(raced_run: Path) -> None:
    shown = {item.point: item.rounds[-1] for item in interventions(RunView(raced_run))}
    outcomes = [proposal.outcome for proposal in shown[RACE].proposals]
    assert outcomes == ["dropped", "policy adopted", "not adopted", "dropped"]
    assert shown[RACE].outcome == "policy adopted"
    assert shown[REMOVED].outcome == "out of the reward, kept in the critic"
    assert shown[LOST_RACE].outcome == "no difference"


def test_an_arm_that_was_judged_well_and_not_chosen_is_not_called_promoted(raced_run: Path) -> None:
    """Where several finalists are accepted, one of them wins."""
    with closing(sqlite3.connect(raced_run / "loop.db")) as database, database:
        database.execute("UPDATE decisions SET winner = 'p80-r1-1' WHERE id = 'p80-r1'")
    judged = interventions(RunView(raced_run))[0].rounds[1].proposals[0]
    assert (judged.verdict, judged.outcome) == ("accept", "accept")


def test_a_race_under_way_has_no_decision(raced_run: Path) -> None:
    record = RaceRecord.model_validate(made_up_race(RACE, LOOKS, [2.0], {}, {}))
    race = show_race(record, None, {})
    assert {arm.outcome for arm in race.arms} == {"racing"}
    no_rung = record.detail.model_copy(update={"rungs": []})
    assert show_race(record.model_copy(update={"detail": no_rung}), None, {}).chart is None


def test_every_claim_has_words_of_its_own(raced_run: Path) -> None:
    decisions = [row for row in RunView(raced_run).decisions() if row.version is not None]
    assert [outcome_in_words(row) for row in decisions] == [
        "signal promoted",
        "policy adopted",
        "out of the reward, kept in the critic",
    ]
    waiting = decisions[1].model_copy(update={"version": None})
    assert outcome_in_words(waiting) == "a better policy, not adopted yet"


def test_the_history_of_the_signal_tells_the_claim_and_the_gain_over_the_kick(raced_run: Path) -> None:
    removed, adopted, promoted, start = signal_history(RunView(raced_run))
    assert (start.claim, promoted.claim, promoted.notes) == ("", "signal promoted", [])
    assert (removed.claim, removed.notes) == ("out of the reward, kept in the critic", [])
    assert adopted.claim == "policy adopted"
    kind, over = adopted.notes
    assert kind.startswith(f"The arm {LEADER}: a proposal's signal.")
    assert "Nothing was proven of the signal" in kind
    # Leader 3.47, kick 1.99.
    assert over == "Against the exploration kick alone it returned +1.48 at their last common look, after rung 4."
