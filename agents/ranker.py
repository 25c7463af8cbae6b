"""The Ranker: which proposals are tried first."""

from __future__ import annotations

from collections.abc import Mapping

from ..prompts.bounded import off_the_loop
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Payload, prompt_block
from .race_rules import RaceRules
from .schemas import Proposal, ProposalRanking


async def rank(
    model: RoleModel, place: Place, payload: Payload, proposals: Mapping[str, Proposal], race: RaceRules | None = None
) -> ProposalRanking:
    """Ask for the order in which proposals are tried, best first.

    Args:
        model: the Ranker's.
        place: the adaptation point and round.
        payload: of `build_payload`, with the diagnosis and the history.
        proposals: by id, in the Generator's order.
        race: how they will race; None where the gate judges signals.

    Raises:
        ModelAnswerError: see `RoleModel.ask`.
    """
    answered = await model.ask(await off_the_loop(ranker_question, model, place, payload, proposals, race))
    assert answered.parsed is not None  # no tools are offered
    return answered.parsed


def ranker_question(
    model: RoleModel, place: Place, payload: Payload, proposals: Mapping[str, Proposal], race: RaceRules | None = None
) -> Question[ProposalRanking]:
    """Return the question that `rank` asks. Raises ModelAnswerError where the template fails on this data."""
    rules = None if race is None else race.model_dump()
    rows = [{"id": key, **proposal.model_dump(mode="json")} for key, proposal in proposals.items()]
    prompt = model.prompt(
        {
            "stage": payload["evidence"]["stage"],
            "schema": json_schema(ProposalRanking),
            "race": rules,
            "block": {**prompt_block(payload), "race": rules, "proposals": rows},
        }
    )
    return Question(place, prompt, ProposalRanking, problems=lambda ranking: order_problems(ranking, list(proposals)))


def order_problems(ranking: ProposalRanking, ids: list[str]) -> list[str]:
    """Return a line where the order is no permutation of `ids`."""
    if sorted(ranking.order) == sorted(ids):
        return []
    return [f"order is {ranking.order!r}; it must name each of {ids!r} exactly once"]
