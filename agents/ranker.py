"""The Ranker: which proposals deserve the branch budget first."""

from __future__ import annotations

from collections.abc import Mapping

from ..prompts.bounded import off_the_loop
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Payload
from .schemas import Proposal, ProposalRanking


async def rank(model: RoleModel, place: Place, payload: Payload, proposals: Mapping[str, Proposal]) -> ProposalRanking:
    """Order `proposals` (by id, in the Generator's order), best first.

    Raises:
        ModelAnswerError: see `RoleModel.ask`.
    """
    answered = await model.ask(await off_the_loop(ranker_question, model, place, payload, proposals))
    assert answered.parsed is not None  # no tools are offered
    return answered.parsed


def ranker_question(
    model: RoleModel, place: Place, payload: Payload, proposals: Mapping[str, Proposal]
) -> Question[ProposalRanking]:
    """Return the question that `rank` asks. Raises ModelAnswerError where the template fails on this data."""
    rows = [{"id": key, **proposal.model_dump(mode="json")} for key, proposal in proposals.items()]
    prompt = model.prompt(
        {
            "stage": payload["evidence"]["stage"],
            "schema": json_schema(ProposalRanking),
            "block": {**payload, "proposals": rows},
        }
    )
    return Question(place, prompt, ProposalRanking, problems=lambda ranking: order_problems(ranking, list(proposals)))


def order_problems(ranking: ProposalRanking, ids: list[str]) -> list[str]:
    """Return a line where the order is no permutation of `ids`."""
    if sorted(ranking.order) == sorted(ids):
        return []
    return [f"order is {ranking.order!r}; it must name each of {ids!r} exactly once"]
