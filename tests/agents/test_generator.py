"""What a Generator may propose at which stage, and what it is told where it went too far."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.generator import generator_question, proposal_problems, propose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import Payload, build_payload
from cosignal.agents.race_rules import RaceRules
from cosignal.agents.schemas import Diagnosis, ProposalSet
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.stage import STAGES
from cosignal.testing import MisbehavingServer, role_model, stuck_evidence
from cosignal.testing.answers import DIAGNOSIS
from cosignal.testing.server import says

BONUS = {"name": "bonus", "kind": "event", "event": "switch_triggered", "decay_steps": 300_000}
NEAR = {"name": "near", "kind": "potential", "expression": "-dist_goal / 17"}


RACE = RaceRules(kick=0.05, kick_alone=True, fresh_start=True, arms=3, rung_steps=16_384, rungs=12)


def payload(stage: str, *in_force: dict[str, Any]) -> Payload:
    raw = stuck_evidence() | {"stage": stage}
    raw["signal"] = {"version": 1, "terms": list(in_force)}
    return build_payload(Evidence.model_validate(raw))


def lines(stage: str, term: dict[str, Any], *in_force: dict[str, Any]) -> list[str]:
    proposal = {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": [term]}
    return proposal_problems(ProposalSet.model_validate({"proposals": [proposal]}), payload(stage, *in_force), 4)


@pytest.mark.parametrize("stage", STAGES)
def test_an_event_may_be_new_only_where_the_stage_allows_it_and_no_longer_than_it_says(stage: Any) -> None:
    rule = STAGES[stage]
    longest = lines(stage, BONUS | {"decay_steps": rule.decay_steps})
    longer = lines(stage, BONUS | {"decay_steps": rule.decay_steps + 1})
    if "event" in rule.kinds:
        assert longest == []
        most, got = rule.decay_steps, rule.decay_steps + 1
        assert longer == [
            f"proposals[0]: term 'bonus': decay_steps must be at most {most} at stage {stage!r}, got {got}; lower it"
        ]
    else:
        refused = f"kind 'event' is not allowed at stage {stage!r}; use one of ['potential', 'similarity']"
        assert longest == longer == [f"proposals[0]: term 'bonus': {refused}"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_potential_is_annealed_no_longer_than_the_stage_says(stage: Any) -> None:
    most = STAGES[stage].decay_steps
    assert lines(stage, NEAR) == lines(stage, NEAR | {"anneal_steps": most}) == []
    [line] = lines(stage, NEAR | {"anneal_steps": most + 1})
    assert f"anneal_steps must be at most {most} at stage {stage!r}, got {most + 1}; lower it" in line


def test_event_bonuses_may_be_new_only_while_little_is_learnt() -> None:
    refused = [stage for stage in STAGES if "is not allowed" in " ".join(lines(stage, BONUS))]
    assert set(STAGES) - set(refused) == {"exploring", "emerging", "plateaued"}


def test_what_is_in_force_may_stay_weaker_or_leave_earlier() -> None:
    """Whatever it is called now: without it no removal of anything else could be proposed."""
    for changes in ({}, {"weight": 0.05}, {"name": "other"}, {"decay_steps": 1_000}):
        assert lines("regressing", BONUS | changes, BONUS) == []
    assert "decay_steps must be at most 300000" in lines("regressing", BONUS | {"decay_steps": 300_001}, BONUS)[0]
    assert "is not allowed" in lines("regressing", BONUS | {"event": "goal_reached"}, BONUS)[0]
    slow = NEAR | {"anneal_steps": 400_000}
    assert lines("regressing", slow, slow) == []


def test_arms_of_a_race_may_explore_differently_and_signals_that_are_judged_may_not() -> None:
    kicks = [{"kick": None}, {"kick": 0.05}, {"kick": 1.0, "entropy": 0.02}]
    ideas = [
        {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": [NEAR], "exploration": kick} for kick in kicks
    ]
    answer = ProposalSet.model_validate({"proposals": ideas})
    assert proposal_problems(answer, payload("plateaued"), 4, RACE) == []
    [line] = proposal_problems(answer, payload("plateaued"), 4)
    assert "proposals differ in 'exploration'" in line
    # what else is wrong is wrong in a race too
    assert "3 proposals, at most 2" in proposal_problems(answer, payload("plateaued"), 2, RACE)[0]


@pytest.mark.parametrize("race", [None, RACE])
def test_the_prompt_and_its_block_say_how_proposals_are_tried(race: RaceRules | None) -> None:
    question = generator_question(role_model("generator"), Place(1), payload("plateaued"), 4, race)
    system, user = question.prompt.system, question.prompt.user
    assert ("### The race" in system) == (race is not None)
    block = json.loads(user.split("```json\n")[1].split("\n```")[0])
    assert block["race"] == (None if race is None else race.model_dump())


async def test_the_rules_leave_the_kick_to_the_race() -> None:
    """Where exploration has collapsed a gate's round is kicked by its proposals, and a race kicks by itself."""
    collapsed = Diagnosis.model_validate(
        {"findings": [{"failure": "exploration_collapsed", "cites": ["sparse.trend"], "explanation": ""}]}
    )
    diagnosed = build_payload(Evidence.model_validate(stuck_evidence()), diagnosis=collapsed)
    judged = await propose(role_model("generator"), Place(1), diagnosed, 4)
    raced = await propose(role_model("generator"), Place(1), diagnosed, 4, RACE)
    assert {proposal.exploration.kick for proposal in judged.proposals} == {0.05}
    assert {proposal.exploration.kick for proposal in raced.proposals} == {None}
    assert [proposal.terms for proposal in raced.proposals] == [proposal.terms for proposal in judged.proposals]


async def test_the_rules_propose_less_of_a_signal_with_an_event_too() -> None:
    """While the run regresses: its terms at half the strength, which no rule about new terms may refuse."""
    raw = stuck_evidence() | {"stage": "regressing"}
    raw["signal"] = {"version": 1, "terms": [NEAR, BONUS], "scale": 1.0}
    raw["terms"] = [
        {"name": name, "kind": "potential", "per_episode": 0.1, "mean_abs": 0.1, "share": share}
        for name, share in (("near", 0.4), ("bonus", 0.1))
    ]
    diagnosed = build_payload(Evidence.model_validate(raw), diagnosis=Diagnosis.model_validate_json(DIAGNOSIS))
    answer = await propose(role_model("generator"), Place(1), diagnosed, 4)
    assert [proposal.title for proposal in answer.proposals[:3]] == [
        "No shaping", "Half the strength", "Without the largest term",
    ]  # fmt: skip


@pytest.mark.parametrize(("stage", "steps"), [("exploring", 300_000), ("plateaued", 300_000)])
async def test_the_rules_bonus_decays_within_what_the_stage_allows(stage: str, steps: int) -> None:
    raw = stuck_evidence() | {"stage": stage}
    raw["features"] = []  # nothing to build a potential from
    raw["events"][0] |= {"episodes_share": 0.5}
    answer = await propose(
        role_model("generator"),
        Place(1),
        build_payload(Evidence.model_validate(raw), diagnosis=Diagnosis.model_validate_json(DIAGNOSIS)),
        4,
    )
    bonuses = [term for proposal in answer.proposals for term in proposal.terms if term.kind == "event"]
    assert {term.decay_steps for term in bonuses} == {steps}


# ---------------------------------------------------------------- several samples


async def test_a_provider_is_asked_at_each_temperature_of_the_ladder_and_with_one_prompt() -> None:
    idea = {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": [NEAR]}
    answer = says(json.dumps({"proposals": [idea]}))
    rows: list[Call] = []
    with MisbehavingServer(answer, answer, answer) as server:
        own = ModelConfig(provider="openai", model="tiny", base_url=server.url, temperature=0.3)
        model = RoleModel("generator", own, CallBudget(LimitsConfig()), rows.append)
        pool = await propose(model, Place(1), payload("plateaued"), 4, ladder=(None, 0.0, 1.5))
        await model.aclose()
    assert sorted(request["temperature"] for request in server.requests) == [0.0, 0.3, 1.5]
    assert len({json.dumps(request["messages"]) for request in server.requests}) == 1
    assert sorted((row.id, row.temperature) for row in rows) == [
        ("p1-r0-generator-s1-t0-a0", 0.0),
        ("p1-r0-generator-s2-t0-a0", 1.5),
        ("p1-r0-generator-t0-a0", None),
    ]
    assert [proposal.title for proposal in pool.proposals] == ["t"] * 3 and not pool.failed


async def test_a_model_without_a_temperature_is_asked_as_it_is() -> None:
    rows: list[Call] = []
    idea = {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": [NEAR]}
    model = role_model("generator", [json.dumps({"proposals": [idea]})] * 2, record=rows.append)
    await propose(model, Place(1), payload("plateaued"), 4, ladder=(0.0, 1.5))
    assert [row.temperature for row in rows] == [None, None]
