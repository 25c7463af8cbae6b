"""Adversaries as providers: asked by the real roles, through the real prompts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cosignal.agents.config import LLMConfig
from cosignal.agents.critic import diagnose
from cosignal.agents.generator import propose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.models import Models, build_models
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import TriedProposal, build_payload
from cosignal.agents.ranker import rank
from cosignal.agents.schemas import Diagnosis, Proposal
from cosignal.rl.evidence.schema import Evidence
from cosignal.studies.adversary.harmful_proposals import origin
from cosignal.studies.adversary.providers import KINDS_OF_ANSWERS, Style, adversary_models
from cosignal.testing import early_evidence, stuck_evidence

PLATEAU = Diagnosis.model_validate(
    {"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "Nothing rises."}]}
)
Json = dict[str, Any]


def models(style: Style, seed: int, calls: list[Call] | None = None) -> Models:
    config = LLMConfig()
    record = ([] if calls is None else calls).append
    return build_models(config, CallBudget(config.limits), record, adversary_models(style, seed))


def asked(style: Style, seed: int, raw: Json, history: tuple[TriedProposal, ...] = ()) -> list[Proposal]:
    """At point 48, in the round that follows the history."""
    context = build_payload(Evidence.model_validate(raw), history, PLATEAU)
    place = Place(48, len(history))
    return asyncio.run(propose(models(style, seed).generator, place, context, 4)).proposals


def tried(proposal: Proposal, round_: int) -> TriedProposal:
    return TriedProposal(
        proposal_id=f"p48-r{round_}-0", point=48, round=round_, verdict="no_difference", proposal=proposal
    )


def test_the_critic_always_finds_something() -> None:
    quiet = early_evidence()
    quiet["stage"], quiet["sparse"]["success_rate"] = "improving", 0.6  # the rules find nothing there
    found = asyncio.run(
        diagnose(models("harmful", 1).critic, Place(48), build_payload(Evidence.model_validate(quiet)), (), (), 0)
    )
    assert isinstance(found, Diagnosis) and found.findings[0].failure == "plateau"


@pytest.mark.parametrize("seed", range(len(KINDS_OF_ANSWERS)))
def test_every_answer_of_the_harmful_one_is_harmful_and_valid(seed: int) -> None:
    for raw in (stuck_evidence(), early_evidence()):
        found = asked("harmful", seed, raw)
        assert len(found) == 4 and {origin(proposal.title) for proposal in found} == {"harmful"}
        destructive = KINDS_OF_ANSWERS[seed] == "destructive"
        assert {proposal.exploration.entropy for proposal in found} == {0.5 if destructive else None}
        assert asked("harmful", seed, raw) == found  # seed, point and round fix the answer


def test_answers_differ_from_round_to_round_and_from_seed_to_seed() -> None:
    first = asked("harmful", 1, stuck_evidence())
    second = asked("harmful", 1, stuck_evidence(), (tried(first[0], 0),))
    other = asked("harmful", 6, stuck_evidence())
    terms = [{str(proposal.terms) + str(proposal.beta) for proposal in found} for found in (first, second, other)]
    assert terms[0] != terms[1] and terms[0] != terms[2]
    assert not terms[0] & terms[1]


def test_the_half_harmful_one_mixes() -> None:
    answers = [asked("half_harmful", seed, stuck_evidence()) for seed in range(8)]
    kinds = [sorted({origin(proposal.title) for proposal in found}) for found in answers]
    assert ["harmful", "other"] in kinds and ["blend"] in kinds
    for found in answers:
        whose = [origin(proposal.title) for proposal in found]
        assert len({proposal.exploration for proposal in found}) == 1
        assert len(found) == 4 and (whose == ["blend"] * 4 or whose == ["other"] * 2 + ["harmful"] * 2)


def test_the_ranker_puts_harm_first_and_the_ledger_names_who_answered() -> None:
    calls: list[Call] = []
    mixed = next(
        found
        for seed in range(8)
        if origin((found := asked("half_harmful", seed, stuck_evidence()))[0].title) == "other"
    )
    proposals = {f"p48-r0-{i}": proposal for i, proposal in enumerate(mixed)}
    ranker = models("half_harmful", 1, calls).ranker
    context = build_payload(Evidence.model_validate(stuck_evidence()), (), PLATEAU)
    order = asyncio.run(rank(ranker, Place(48), context, proposals)).order
    assert [origin(proposals[key].title) for key in order] == ["harmful", "harmful", "other", "other"]
    assert [call.model for call in calls] == ["adversary (half_harmful, no language model)"]
