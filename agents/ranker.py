"""The Ranker: which proposals are tried first."""

from __future__ import annotations

from collections.abc import Mapping

from ..prompts.bounded import off_the_loop
from ..rl.signals.preview import SignalPreview
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Json, Payload, bounded_rows, prompt_block, rounded
from .race_rules import RaceRules
from .schemas import Proposal, ProposalRanking
from .small_prompts.questions import ask_for_ranking, question_of_size

MAX_AFTER = 8  # events after which Φ is shown
MAX_NEAREST = 3  # earlier proposals


async def rank(
    model: RoleModel,
    place: Place,
    payload: Payload,
    proposals: Mapping[str, Proposal],
    race: RaceRules | None = None,
    previews: Mapping[str, SignalPreview] | None = None,
) -> ProposalRanking:
    """Ask for the order in which proposals are tried, best first.

    Args:
        model: the Ranker's.
        place: the adaptation point and round.
        payload: of `build_payload`, with the diagnosis and the history.
        proposals: by id, in the Generator's order.
        race: how they will race; None where the gate judges signals.
        previews: by id, the numbers of those that have any.

    Raises:
        ModelAnswerError: see `RoleModel.ask`.
    """
    answered = await model.ask(await off_the_loop(ranker_question, model, place, payload, proposals, race, previews))
    assert answered.parsed is not None  # no tools are offered
    return answered.parsed


def ranker_question(
    model: RoleModel,
    place: Place,
    payload: Payload,
    proposals: Mapping[str, Proposal],
    race: RaceRules | None = None,
    previews: Mapping[str, SignalPreview] | None = None,
) -> Question[ProposalRanking]:
    """Return the question that `rank` asks. Raises ModelAnswerError where the template fails on this data."""
    rules = None if race is None else race.model_dump()
    numbers = {key: {"numbers": shown_numbers(preview)} for key, preview in (previews or {}).items()}
    rows = [
        {"id": key, **proposal.model_dump(mode="json"), **numbers.get(key, {})} for key, proposal in proposals.items()
    ]
    full = {
        "stage": payload["evidence"]["stage"],
        "schema": json_schema(ProposalRanking),
        "race": rules,
        "block": {**prompt_block(payload), "race": rules, "proposals": rows},
    }

    def problems(ranking: ProposalRanking) -> list[str]:
        return order_problems(ranking, list(proposals))

    return question_of_size(model, place, ProposalRanking, full, lambda: ask_for_ranking(payload, rows), problems)


# rows are shown cut; the others say nothing of what a proposal gains (docs/results.md), or were never asked for
UNSHOWN = {"phi_after", "distances", "mean_paid", "mean_reward", "epic_in_force", "epic_distances"}


def shown_numbers(preview: SignalPreview) -> Json:
    """Return the numbers of a proposal as plain data of bounded size; what is not known is missing.

    The mean sizes of shaping and reward are left out, and EPIC distances.
    """
    shown = {
        **preview.model_dump(mode="json", exclude=UNSHOWN),
        "phi_after": bounded_rows([[name, phi] for name, phi in preview.phi_after], MAX_AFTER),
        "nearest": [[key, distance] for key, distance in preview.distances[:MAX_NEAREST]],
    }
    return {key: rounded(value) for key, value in shown.items() if value != []}


def order_problems(ranking: ProposalRanking, ids: list[str]) -> list[str]:
    """Return a line where the order is no permutation of `ids`."""
    if sorted(ranking.order) == sorted(ids):
        return []
    return [f"order is {ranking.order!r}; it must name each of {ids!r} exactly once"]
