"""What a role is asked by a small prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from ..llm.ledger import Place
from ..llm.model_call import Question
from ..llm.models import RoleModel
from ..prompt_payload import Json, Payload
from . import schemas
from .text import cut_payload, diagnosis_text, figures, history_text, never_reached_names, proposals_text, task_text

T = TypeVar("T", bound=BaseModel)


class SmallQuestion(NamedTuple):
    """What a small prompt is made of.

    Attributes:
        variables: of the role's small template.
        schema: of the answer, narrower than the role's own.
    """

    variables: dict[str, Any]
    schema: Json


def question_of_size(
    model: RoleModel,
    place: Place,
    answer: type[T],
    full: dict[str, Any],
    small: Callable[[], SmallQuestion],
    problems: Callable[[T], list[str]],
) -> Question[T]:
    """Return a role's question by the template of its model: by the full one, or by the small one.

    Args:
        model: of the role.
        place: where in the run it is asked.
        answer: the type of the answer.
        full: variables of the full template, which rules behind a small model are asked too.
        small: gives what the small template is made of.
        problems: semantic checks of an answer.

    Raises:
        ModelAnswerError: the template fails on this data.
    """
    if not model.template.is_small:
        return Question(place, model.prompt(full), answer, problems=problems)
    variables, schema = small()
    for_rules = model.prompt_for_rules(full)
    return Question(
        place, model.prompt(variables), answer, problems=problems, narrow_schema=schema, prompt_for_rules=for_rules
    )


def ask_for_diagnosis(payload: Payload) -> SmallQuestion:
    """Return the Critic's question."""
    cut = cut_payload(payload)
    return SmallQuestion(_about(cut), schemas.diagnosis_schema(cut))


def ask_for_proposals(payload: Payload, candidates: int) -> SmallQuestion:
    """Return the Generator's question, for at most `candidates` proposals."""
    cut = cut_payload(payload)
    evidence = cut["evidence"]
    variables = _about(cut) | {
        "diagnosis": diagnosis_text(cut),
        "stage": evidence["stage"],
        "never": never_reached_names(cut),
        "candidates": candidates,
    }
    # Other kinds only where they are in force: small models give events too much weight.
    kinds = ["potential", *(term["kind"] for term in evidence["signal"]["terms"])]
    return SmallQuestion(variables, schemas.proposals_schema(cut, candidates, kinds))


def ask_for_ranking(payload: Payload, rows: Sequence[Json]) -> SmallQuestion:
    """Return the Ranker's question about proposals, a row each."""
    cut = cut_payload(payload)
    variables = _about(cut) | {"diagnosis": diagnosis_text(cut), "proposals": proposals_text(rows)}
    return SmallQuestion(variables, schemas.ranking_schema([row["id"] for row in rows]))


def _about(cut: Payload) -> dict[str, Any]:
    """Return what every role is told."""
    return {"task": task_text(cut), "figures": figures(cut), "history": history_text(cut)}
