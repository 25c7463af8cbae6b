"""The Generator: K candidate signals, each a different idea of what would help."""

from __future__ import annotations

from typing import Any

from ..errors import ExpressionError
from ..rl.signals.terms import TERM_KINDS, Term
from ..rl.stage import STAGES
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .schemas import Proposal, ProposalSet


async def propose(model: RoleModel, place: Place, context: dict[str, Any], k: int) -> ProposalSet:
    """Up to `k` proposals. `context` comes from `build_context` with the diagnosis and the history.

    Raises:
        ModelAnswerError: see `RoleModel.ask`.
    """
    answered = await model.ask(generator_question(model, place, context, k))
    assert answered.parsed is not None  # no tools are offered
    return answered.parsed


def generator_question(model: RoleModel, place: Place, context: dict[str, Any], k: int) -> Question[ProposalSet]:
    """What `propose` asks. Raises ModelAnswerError where the template fails on this data."""
    rule = STAGES[context["evidence"]["stage"]]
    kinds, steps = list(rule.kinds), rule.decay_steps
    limits = {"candidates": k, "term_kinds": kinds, "longest_decay_steps": steps}
    prompt = model.prompt(
        {
            "stage": context["evidence"]["stage"],
            "schema": json_schema(ProposalSet),
            "candidates": k,
            "term_kinds": kinds,
            "block": {**context, "point": place.point, **limits},
        }
    )
    return Question(place, prompt, ProposalSet, problems=lambda answer: misfits(answer, context, k))


def misfits(answer: ProposalSet, context: dict[str, Any], k: int) -> list[str]:
    """What a model can repair at once: too many proposals, unknown names, what the stage does not allow."""
    lines = []
    if len(answer.proposals) > k:
        lines.append(f"{len(answer.proposals)} proposals, at most {k} are asked for; leave the weakest out")
    if len({proposal.exploration for proposal in answer.proposals}) > 1:
        lines.append("proposals differ in 'exploration', which every arm of a round shares; give all the same")
    for position, proposal in enumerate(answer.proposals):
        lines += [f"proposals[{position}]: {line}" for line in _proposal_misfits(proposal, context["evidence"])]
    return lines


def _proposal_misfits(proposal: Proposal, evidence: dict[str, Any]) -> list[str]:
    names = [term.name for term in proposal.terms]
    lines = [] if len(set(names)) == len(names) else [f"term names must be unique, got {names!r}"]
    for term in proposal.terms:
        lines += [f"term {term.name!r}: {line}" for line in _term_misfits(term, evidence)]
    return lines


def _term_misfits(term: Term, evidence: dict[str, Any]) -> list[str]:
    not_now = _not_at_this_stage(term, evidence)
    if not_now:
        return not_now
    try:
        reads = term.reads
    except ExpressionError as error:
        return [str(error)]
    features = [feature["name"] for feature in evidence["features"]]
    events = {event["name"]: event["repeatable"] for event in evidence["events"]}
    lines = [f"{name!r} is no feature; use one of {features!r}" for name in sorted(reads.features - set(features))]
    lines += [f"{name!r} is no event; use one of {list(events)!r}" for name in sorted(reads.events - set(events))]
    if term.weight > 0:
        farmed = [name for name in sorted(reads.events) if events.get(name)]
        lines += [f"event {name!r} can be repeated without progress; reward a potential instead" for name in farmed]
    return lines


def _not_at_this_stage(term: Term, evidence: dict[str, Any]) -> list[str]:
    """A kind or a duration that the stage does not allow. A term in force may stay as it is, or leave earlier."""
    stage, new = evidence["stage"], term.model_dump(mode="json")
    rule = STAGES[stage]
    old = next((row for row in evidence["signal"]["terms"] if _ingredient(row) == _ingredient(new)), None)
    if old is None and term.kind not in rule.kinds:
        return [f"kind {term.kind!r} is not allowed at stage {stage!r}; use one of {list(rule.kinds)!r}"]
    name, steps = term.fading_field, term.fades_over
    most = max(rule.decay_steps, (old or {}).get(name) or 0)
    if steps is not None and steps > most:
        return [f"{name} must be at most {most} at stage {stage!r}, got {steps!r}; lower it"]
    return []


def _ingredient(term: dict[str, Any]) -> dict[str, Any]:
    """What a term is made of, without name, weight and duration."""
    apart = {"name", "weight", *(kind.fading_field for kind in TERM_KINDS.values())}
    return {key: value for key, value in term.items() if key not in apart}
