"""Critic, Generator and Ranker on a scripted model: what they refuse and have repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cosignal.agents.critic import diagnose
from cosignal.agents.generator import propose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.prompt_payload import TriedProposal, build_payload
from cosignal.agents.race_rules import RaceRules
from cosignal.agents.ranker import MAX_AFTER, rank, ranker_question
from cosignal.agents.schemas import Diagnosis, Failure, Proposal
from cosignal.errors import InvalidAnswer
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.preview import SignalPreview
from cosignal.testing import ScriptedChatModel, role_model, stuck_evidence

CONTEXT = build_payload(Evidence.model_validate(stuck_evidence()))


def proposals(*terms: dict[str, Any], **more: Any) -> str:
    first = {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": list(terms), **more}
    return json.dumps({"proposals": [first]})


def potential(expression: str, name: str = "near") -> dict[str, Any]:
    return {"name": name, "kind": "potential", "expression": expression}


def finding(cite: str) -> str:
    return json.dumps({"findings": [{"failure": "plateau", "cites": [cite], "explanation": ""}]})


async def test_a_finding_must_cite_evidence_that_exists() -> None:
    rows: list[Call] = []
    model = role_model(
        "critic", [finding("features.made_up.mean"), finding("features.dist_goal.mean")], record=rows.append
    )
    answer = await diagnose(model, Place(1), CONTEXT)
    assert isinstance(answer, Diagnosis)
    assert answer.findings[0].cites == ["features.dist_goal.mean"]
    assert rows[0].error is not None
    assert "made_up" in rows[0].error


async def test_the_critic_is_offered_tools_only_while_calls_are_left() -> None:
    model = role_model("critic", [finding("sparse.trend")])
    await diagnose(model, Place(1), CONTEXT, tools=[], calls_left=0)
    assert isinstance(model.chat, ScriptedChatModel)
    assert "answer now" in model.chat.seen[0][0].text


GOOD = proposals(potential("door_open * (1 - dist_goal / 17)"))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (proposals(potential("-dist_gaol / 17")), "'dist_gaol' is no feature"),
        (proposals(potential("dist_goal ** 2")), "not allowed"),
        (proposals(potential("__import__('os')")), "plain arithmetic"),
        (proposals(potential("dist_goal"), potential("dist_door")), "unique"),
        (proposals({"name": "e", "kind": "event", "event": "won"}), "'won' is no event"),
        (proposals({"name": "near", "expression": "dist_goal"}), "kind"),
        (json.dumps({"proposals": json.loads(GOOD)["proposals"] * 3}), "at most 2"),
        (
            json.dumps(
                {
                    "proposals": json.loads(GOOD)["proposals"]
                    + json.loads(proposals(exploration={"kick": 0.05}))["proposals"]
                }
            ),
            "exploration",
        ),
    ],
)
async def test_a_misfit_proposal_is_repaired(answer: str, complaint: str) -> None:
    rows: list[Call] = []
    answered = await propose(role_model("generator", [answer, GOOD], record=rows.append), Place(1), CONTEXT, 2)
    assert len(answered.proposals) == 1
    assert rows[0].error is not None
    assert complaint in rows[0].error


async def test_events_that_can_be_farmed_and_kinds_that_the_stage_forbids_are_refused() -> None:
    bonus = proposals({"name": "e", "kind": "event", "event": "switch_triggered", "weight": 0.1})
    raw = stuck_evidence()
    raw["events"][0]["repeatable"] = True
    with pytest.raises(InvalidAnswer, match="without progress"):
        await propose(role_model("generator", [bonus, bonus]), Place(1), build_payload(Evidence.model_validate(raw)), 2)
    improving = build_payload(Evidence.model_validate(stuck_evidence() | {"stage": "improving"}))
    with pytest.raises(InvalidAnswer, match="not allowed at stage 'improving'"):
        await propose(role_model("generator", [bonus, bonus]), Place(1), improving, 2)


async def test_a_ranking_is_a_permutation() -> None:
    listed = {key: Proposal(title=key, reason="", addresses=[Failure.PLATEAU], terms=[]) for key in ("a", "b")}
    wrong, right = (
        json.dumps({"kind": "proposals", "order": order, "reason": ""}) for order in (["a", "a"], ["b", "a"])
    )
    model = role_model("ranker", [wrong, right])
    assert (await rank(model, Place(1), CONTEXT, listed)).order == ["b", "a"]
    assert isinstance(model.chat, ScriptedChatModel)
    assert '"id": "a"' in model.chat.seen[0][1].text


@pytest.mark.parametrize(
    "race", [None, RaceRules(kick=0.05, kick_alone=True, fresh_start=True, arms=3, rung_steps=16_384, rungs=12)]
)
def test_the_ranker_s_prompt_and_its_block_say_how_proposals_are_tried_and_what_earlier_races_showed(
    race: RaceRules | None,
) -> None:
    proposal = Proposal(title="t", reason="", addresses=[Failure.PLATEAU], terms=[])
    moved, rows = [("switch_triggered ×2", 0.5, 0.0)], [(1, 1.25, 1.0)]
    raced = TriedProposal(
        proposal_id="p0-r0-0", point=0, round=0, verdict="not_adopted", proposal=proposal, race=rows, moved=moved
    )
    history = [] if race is None else [raced]
    payload = build_payload(Evidence.model_validate(stuck_evidence()), history)
    prompt = ranker_question(role_model("ranker"), Place(1), payload, {"a": proposal}, race).prompt
    assert ("### The race" in prompt.system) == (race is not None)
    block = json.loads(prompt.user.split("```json\n")[1].split("\n```")[0])
    assert block["race"] == (None if race is None else race.model_dump())
    assert [entry["moved"] for entry in block["history"]] == ([] if race is None else [[[*moved[0]]]])
    assert [row["id"] for row in block["proposals"]] == ["a"]
    assert "numbers" not in block["proposals"][0]


def test_the_ranker_sees_the_numbers_of_what_has_any_in_bounded_size() -> None:
    proposal = Proposal(title="t", reason="", addresses=[Failure.PLATEAU], terms=[])
    after = [(f"event_{i}", 1 / 3) for i in range(40)]
    distances = [(f"p1-r0-{i}", i / 100) for i in range(90)]
    # what tells nothing is known, and not shown
    untold = {"mean_paid": 0.5, "mean_reward": 0.25}
    preview = SignalPreview(phi_start=2 / 3, paid_share=0.0, phi_after=after, distances=distances, **untold)
    listed, previews = {"a": proposal, "b": proposal}, {"b": preview, "c": SignalPreview(phi_start=0.25)}
    prompt = ranker_question(role_model("ranker"), Place(1), CONTEXT, listed, None, previews).prompt
    block = json.loads(prompt.user.split("```json\n")[1].split("\n```")[0])
    bare, told = block["proposals"]
    assert "numbers" not in bare
    assert told["numbers"].keys() == {"phi_start", "paid_share", "phi_after", "nearest"}
    assert told["numbers"]["phi_start"] == 0.6667
    assert told["numbers"]["phi_after"][0] == ["event_0", 0.3333] and len(told["numbers"]["phi_after"]) == MAX_AFTER
    assert told["numbers"]["nearest"] == [["p1-r0-0", 0.0], ["p1-r0-1", 0.01], ["p1-r0-2", 0.02]]
    for field in {*SignalPreview.model_fields, "nearest"} - {"distances", "epic_in_force", "epic_distances", *untold}:
        assert f"`{field}`" in prompt.system
    assert not any(field in prompt.system for field in untold)
