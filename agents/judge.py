"""The Ranker as a judge of short texts: what helps, which of two is better, how far a state is ahead of another.

Its judgements make signals, see `rl.signals.learned.judgements`; what it could not tell is a tie.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from ..errors import BudgetExhausted, ModelAnswerError
from ..rl.signals.learned.judgements import Judgement, JudgeQuestion, QuestionKind
from .batches import in_batches
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Json
from .schemas import JudgedItems


@dataclass(frozen=True)
class JudgeSetting:
    """The setting of all questions: the task's rules in words, and the names of the team's agents."""

    task: str
    agents: Sequence[str]


async def judge(
    model: RoleModel, place: Place, setting: JudgeSetting, questions: Sequence[JudgeQuestion], batch: int
) -> AsyncGenerator[list[Judgement], None]:
    """Yield the judgements of one request after the other, as they come; requests run beside each other.

    Args:
        model: the Ranker's chain of models, with the template of these questions.
        place: the adaptation point; its `part` begins the calls' names.
        setting: for the prompt.
        questions: those of one kind share requests, in their order.
        batch: questions in one request.

    A request that fails leaves its questions open; they may be asked again at the next point.

    Raises:
        BudgetExhausted: calls, tokens or money are used up.
        ModelAnswerError: no question of any kind was answered; `ProviderError` where the model is the rules.
    """
    is_answered, failure = False, None
    # a model that cannot answer one kind of question may answer another
    for kind in dict.fromkeys(question.question for question in questions):
        of_kind = [question for question in questions if question.question == kind]
        parts = [of_kind[i : i + batch] for i in range(0, len(of_kind), batch)]
        requests = [partial(_ask, model, place, setting, kind, number, part) for number, part in enumerate(parts)]
        answers = in_batches(requests, model.budget.limits.concurrency)
        try:
            async with aclosing(answers):
                async for judged in answers:
                    is_answered = True
                    yield judged
        except BudgetExhausted:
            raise
        except ModelAnswerError as error:
            failure = error
    if failure is not None and not is_answered:
        raise failure


async def _ask(
    model: RoleModel, place: Place, setting: JudgeSetting, kind: QuestionKind, number: int, part: list[JudgeQuestion]
) -> list[Judgement]:
    """Ask one request. Raises ModelAnswerError where there is no answer."""
    # Short names: the model has to repeat them.
    ids = [f"e{k}" for k in range(len(part))]
    entries = [
        {"id": key, "step": asked.texts[0]}
        if len(asked.texts) == 1
        else {"id": key, "first": asked.texts[0], "second": asked.texts[1]}
        for key, asked in zip(ids, part, strict=True)
    ]
    variables = {
        "task": setting.task,
        "agents": list(setting.agents),
        "question": kind,
        "schema": json_schema(JudgedItems),
        "block": {"entries": entries},
    }
    question = Question(
        Place(place.point, place.round, f"{place.part}-{kind}-b{number}"),
        model.prompt(variables),
        JudgedItems,
        problems=lambda answer: judged_problems(answer, ids, kind),
        by_rules=False,
        narrow_schema=schema_of_items(ids, kind),
    )
    answered = await model.ask(question)
    assert answered.parsed is not None  # no tools are offered
    said = {item.id: item.answer for item in answered.parsed.items}
    by = answered.calls[-1].model
    return [
        Judgement(question=asked.question, texts=asked.texts, answer=said[key], by=by, point=place.point)
        for key, asked in zip(ids, part, strict=True)
    ]


def schema_of_items(ids: Sequence[str], kind: QuestionKind) -> Json:
    """Return the schema of an answer to these entries: as many items, with their names and what may be answered.

    A server that writes by a grammar can then write nothing else.
    """
    possible: Json = {"type": "number", "minimum": -1, "maximum": 1} if kind == "hop" else {"enum": [0, 1]}
    item = {
        "type": "object",
        "properties": {"id": {"type": "string", "enum": [*ids]}, "answer": {"anyOf": [possible, {"type": "null"}]}},
        "required": ["id", "answer"],
        "additionalProperties": False,
    }
    items = {"type": "array", "items": item, "minItems": len(ids), "maxItems": len(ids)}
    return {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}


def judged_problems(answer: JudgedItems, ids: Sequence[str], kind: QuestionKind) -> list[str]:
    """Return a line where the items do not name each of `ids` once, or answer what the question does not ask for."""
    names = [item.id for item in answer.items]
    lines = (
        []
        if sorted(names) == sorted(ids)
        else [f"items are about {names!r}; they must name each of {list(ids)!r} exactly once"]
    )
    if kind != "hop" and (wrong := [x.id for x in answer.items if x.answer is not None and x.answer < 0]):
        lines.append(f"answers of {wrong!r} are below 0; they must lie between 0 and 1, or be null")
    return lines
