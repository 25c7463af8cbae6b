"""What models are told of a race: which arm rose, by how much and when, what it reached, and why it left."""

from __future__ import annotations

import pytest
from cosignal.agents.prompt_payload import MAX_MOVED, MAX_REASON, MAX_RUNGS, TriedProposal, build_payload
from cosignal.graphs.history import tried_by
from cosignal.rl.evidence.schema import Evidence
from cosignal.runs.race_records import RaceRecord
from cosignal.runs.records import DecisionDetail, DecisionRecord, DecisionVerdict
from cosignal.testing import stuck_evidence
from races import FIRST, SECOND, look, race, rung
from records import decision, proposal


def decided(
    verdict: DecisionVerdict = "no_difference", winner: str | None = None, point: int = 1, round_: int = 0
) -> DecisionRecord:
    detail = DecisionDetail(reason="", claim="policy", race=f"p{point}-r{round_}")
    return decision(f"p{point}-r{round_}", point, round_, verdict=verdict, winner=winner, detail=detail)


def told(races: list[RaceRecord], *decisions: DecisionRecord) -> list[TriedProposal]:
    return tried_by(decisions, [proposal(), proposal(position=1)], races)


TWO_RUNGS = (
    rung(1, look("control", 1.0), look(FIRST, 0.75), look(SECOND, 1.0), look("kick@1", 1.25)),
    rung(
        2, look("control", 1.0, hit=0.03), look(FIRST, 2.5, ("hit",), hit=0.5), look("kick@1", 1.5),
        p1_r0_1="fell behind",
    ),
)  # fmt: skip


def test_a_race_by_hand() -> None:
    first, second = told([race(*TWO_RUNGS)], decided("accept", FIRST))
    assert (first.verdict, first.gain, first.control) == ("adopted", 1.5, 1.0)
    assert first.race == [(1, 0.75, 1.0), (2, 2.5, 1.0)]
    assert first.moved == [("hit", 0.5, 0.03)]
    assert (first.kick_gain, first.won_by, first.dropped) == (0.5, "candidate", None)
    # it left after the second rung, in which it did not train any more
    assert (second.verdict, second.gain, second.race) == ("not_adopted", 0.0, [(1, 1.0, 1.0)])
    assert (second.kick_gain, second.dropped) == (0.25, "fell behind")
    # nothing but the verdicts of the gate is an acceptance of a signal
    assert {entry.verdict for entry in (first, second)}.isdisjoint({"accept", "reject"})


@pytest.mark.parametrize(("winner", "kind"), [("kick@1", "kick"), (SECOND, "candidate")])
def test_whoever_won_is_told_to_all(winner: str, kind: str) -> None:
    first, _ = told([race(*TWO_RUNGS)], decided("accept", winner))
    assert (first.verdict, first.won_by) == ("not_adopted", kind)


def test_without_a_winner_nobody_is_named() -> None:
    assert {entry.won_by for entry in told([race(*TWO_RUNGS)], decided())} == {None}


def test_a_race_that_is_not_decided_is_not_told() -> None:
    assert told([race(*TWO_RUNGS)]) == []
    # and a decision whose race is lost says the least
    assert [entry.verdict for entry in told([], decided())] == ["not_tried", "not_tried"]


@pytest.mark.parametrize(
    ("verdict", "shown"), [("declined", "declined"), ("stale", "stale"), ("rollback", "rolled_back")]
)
def test_an_adoption_may_be_overturned(verdict: DecisionVerdict, shown: str) -> None:
    decisions = [decided("accept" if verdict == "rollback" else verdict, FIRST)]
    if verdict == "rollback":
        decisions.append(decision("p1-r0-rollback", verdict="rollback", winner=FIRST))
    first, second = told([race(*TWO_RUNGS)], *decisions)
    assert (first.verdict, second.verdict) == (shown, "not_adopted")
    assert first.gain == 1.5


@pytest.mark.parametrize(("verdict", "shown"), [("declined", "not this way"), ("stale", None)])
def test_why_a_human_has_declined_stands_beside_what_was_declined_alone(
    verdict: DecisionVerdict, shown: str | None
) -> None:
    refused = decided(verdict, FIRST)
    refused = refused.model_copy(
        update={"detail": refused.detail.model_copy(update={"declined_because": "not this way"})}
    )
    first, second = told([race(*TWO_RUNGS)], refused)
    assert (first.declined_because, second.declined_because) == (shown, None)
    history = build_payload(Evidence.model_validate(stuck_evidence()), [first, second])["history"]
    assert [entry.get("declined_because", "not shown") for entry in history] == [shown or "not shown", "not shown"]


def test_of_each_milestone_the_best_rung_counts_and_the_largest_differences_come_first() -> None:
    moved = race(
        rung(1, look("control", 0.0, a=0.0, b=0.0), look(FIRST, 0.0, ("a",), a=0.25, b=0.5)),
        rung(2, look("control", 0.0, a=0.125), look(FIRST, 0.0, ("a", "b ×2"), a=0.5, b_2=0.75)),
        rung(3, look("control", 0.0), look(FIRST, 0.0, ("a",), a=0.375)),
    )
    [first] = tried_by([decided()], [proposal()], [moved])
    assert first.moved == [("b ×2", 0.75, 0.0), ("a", 0.5, 0.125)]


def test_an_arm_that_was_carried_into_another_race_is_told_by_that_one() -> None:
    again = race(rung(1, look("control", 1.0), look(FIRST, 4.0)), kinds={FIRST: "carried"}, round_=1)
    decisions = [decided(), decided("accept", FIRST, round_=1)]
    first, second = told([race(*TWO_RUNGS), again], *decisions)
    assert (first.verdict, first.gain, first.won_by) == ("adopted", 3.0, "carried")
    assert second.verdict == "not_adopted"


def test_what_a_race_tells_is_bounded() -> None:
    names = [f"event_{i:02}" for i in range(40)]
    arm = look(FIRST, 0.0) | {"moved": names, "reached": {name: i / 40 for i, name in enumerate(names)}}
    rungs = [
        rung(number, look("control", 0.0), arm, **({"p1_r0_0": "x" * 900} if number == 24 else {}))
        for number in range(1, 25)
    ]
    [first] = tried_by([decided()], [proposal()], [race(*rungs)])
    assert (len(first.race), len(first.moved), len(first.dropped or "")) == (MAX_RUNGS, MAX_MOVED, MAX_REASON)
    assert [row[0] for row in first.race][:: MAX_RUNGS - 1] == [1, 24]
    assert [row[0] for row in first.moved] == names[: -MAX_MOVED - 1 : -1]


def test_a_prompt_shows_a_race_only_where_there_was_one() -> None:
    evidence = Evidence.model_validate(stuck_evidence())
    raced, plain = (
        told([race(*TWO_RUNGS)], decided("accept", FIRST))[0],
        TriedProposal(proposal_id="p0-r0-0", point=0, round=0, verdict="reject", proposal=proposal().proposal),
    )
    shown = build_payload(evidence, [plain, raced])["history"]
    of_races = {"race", "moved", "dropped", "kick_gain", "won_by"}
    assert of_races.isdisjoint(shown[0])
    assert of_races - set(shown[1]) == {"dropped"}
    assert shown[1]["race"] == [[1, 0.75, 1.0], [2, 2.5, 1.0]]
