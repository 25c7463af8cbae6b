"""Asking the embedded rules, as their tests do."""

from __future__ import annotations

from typing import Any

from cosignal.agents.critic import diagnose
from cosignal.agents.generator import propose
from cosignal.agents.llm.ledger import Place
from cosignal.agents.prompt_payload import TriedProposal, build_payload
from cosignal.agents.schemas import Diagnosis, Failure, Proposal
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.testing import role_model
from langchain_core.tools import tool

Json = dict[str, Any]


@tool
def query_trainer(what: str, name: str | None = None, points: int = 20) -> str:
    """Ask the trainer for more evidence."""
    return "{}"


async def critic(raw: Json, history: tuple[TriedProposal, ...] = ()) -> Diagnosis:
    answered = await diagnose(role_model("critic"), Place(1), build_payload(Evidence.model_validate(raw), history))
    assert isinstance(answered, Diagnosis)
    return answered


async def generator(raw: Json, history: tuple[TriedProposal, ...] = (), k: int = 4) -> list[Proposal]:
    diagnosis = await critic(raw, history)
    payload = build_payload(Evidence.model_validate(raw), history, diagnosis)
    return (await propose(role_model("generator"), Place(1), payload, k)).proposals


def failures(diagnosis: Diagnosis) -> list[Failure]:
    return [finding.failure for finding in diagnosis.findings]


def expressions(proposal: Proposal) -> list[str]:
    return [term.expression for term in proposal.terms if isinstance(term, PotentialTerm)]


def tried(proposal: Proposal, verdict: Any = "reject", gain: float | None = None) -> TriedProposal:
    return TriedProposal(proposal_id="p1-r0-0", point=1, round=0, verdict=verdict, proposal=proposal, gain=gain)
