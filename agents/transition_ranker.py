"""The Ranker on transitions: which of two states is better, from one agent's side (LCA, Lin et al., arXiv 2502.03723).

A vote is 1 where the state after an agent's own move is better for the team, 0 where the one before is, 0.5 for
neither. Where the provider gives log-probabilities, one query gives P(1) / (P(0) + P(1)) instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage

from ..errors import BudgetExhausted, ModelAnswerError
from ..prompts import Rendered
from ..rl.preferences.answers import RecordedAnswer
from .ledger import Place
from .llm import Question, RoleModel, json_schema
from .schemas import TransitionVotes

Asked = tuple[str, str, int]  # pair, agent, query


@dataclass(frozen=True)
class RankItem:
    """One move, in words from the agent's own side. `pair`: its name in recorded answers."""

    pair: str
    agent: str
    before: str
    action: str
    after: str


@dataclass(frozen=True)
class RankSetting:
    """What the Ranker is told besides. `task`: the rules in words; `key_steps`: what the team was paid for in a
    successful episode, in order; empty where none is known."""

    task: str
    agents: Sequence[str]
    key_steps: Sequence[str]


@dataclass(frozen=True)
class _Batch:
    """Moves of one request; `number` among all of the same query."""

    number: int
    query: int
    items: list[RankItem]


async def rank_transitions(
    model: RoleModel,
    place: Place,
    setting: RankSetting,
    items: Sequence[RankItem],
    *,
    queries: int,
    batch: int,
    known: Collection[Asked] = (),
) -> AsyncIterator[list[RecordedAnswer]]:
    """The votes of one request after the other, as they come; requests run beside each other.

    Every move is asked about `queries` times, `batch` moves in one request, in another order each time. Requests whose
    answers are all `known` are not made. A request that fails leaves its moves without that vote.

    Raises:
        BudgetExhausted: calls, tokens or money are used up; what was answered before has been given.
        ModelAnswerError: no request was answered; it is what the last one failed of.
    """
    batches = [b for b in _batches(items, queries, batch) if not {_key(x, b.query) for x in b.items} <= set(known)]
    tasks = [asyncio.create_task(_ask(model, place, setting, b)) for b in batches]
    failure: ModelAnswerError | None = None
    answered = len(batches) < -(-len(items) // batch) * queries
    try:
        for task in asyncio.as_completed(tasks):
            try:
                votes = await task
            except BudgetExhausted:
                raise
            except ModelAnswerError as error:
                failure = error
                continue
            answered = True
            yield votes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None and not answered:
        raise failure


def _key(item: RankItem, query: int) -> Asked:
    return item.pair, item.agent, query


def _batches(items: Sequence[RankItem], queries: int, size: int) -> list[_Batch]:
    """The same arguments give the same batches, so that a run that was killed asks for no more than what is missing."""
    found = []
    for query in range(queries):
        order = np.random.default_rng([len(items), query]).permutation(len(items))
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        found += [_Batch(number, query, [items[i] for i in part]) for number, part in enumerate(parts)]
    return found


async def _ask(model: RoleModel, place: Place, setting: RankSetting, batch: _Batch) -> list[RecordedAnswer]:
    prompt = prompt_of(model, setting, batch.items)
    ids = [f"m{k}" for k in range(len(batch.items))]
    part = f"-q{batch.query}-b{batch.number}-{batch.items[0].agent}"
    question = Question(
        Place(place.point, place.round, part), prompt, TransitionVotes, problems=lambda votes: misvoted(votes, ids)
    )
    answered = await model.ask(question)
    assert answered.parsed is not None  # no tools are offered
    hashed = hashlib.sha256(f"{prompt.system}\n{prompt.user}".encode()).hexdigest()[:16]
    votes = soft_votes(answered.message, answered.parsed)
    name = answered.calls[-1].model
    return [
        RecordedAnswer(pair=item.pair, agent=item.agent, query=batch.query, prompt=hashed, vote=votes[key], model=name)
        for key, item in zip(ids, batch.items, strict=True)
    ]


def prompt_of(model: RoleModel, setting: RankSetting, items: Sequence[RankItem]) -> Rendered:
    """Raises ModelAnswerError where the template fails on this data."""
    moves = [
        {"id": f"m{k}", "agent": item.agent, "before": item.before, "action": item.action, "after": item.after}
        for k, item in enumerate(items)
    ]
    return model.prompt(
        {
            "task": setting.task,
            "agents": list(setting.agents),
            "key_steps": list(setting.key_steps),
            "schema": json_schema(TransitionVotes),
            "block": {"moves": moves},
        }
    )


def misvoted(votes: TransitionVotes, ids: Sequence[str]) -> list[str]:
    """A line where the items do not name each of `ids` once."""
    named = [item.id for item in votes.items]
    if sorted(named) == sorted(ids):
        return []
    return [f"items are about {named!r}; they must name each of {list(ids)!r} exactly once"]


# ---------------------------------------------------------------- log-probabilities

_ANSWERED = re.compile(r'"prefer"\s*:\s*$')


def soft_votes(message: AIMessage, votes: TransitionVotes) -> dict[str, float]:
    """By id: P(1) / (P(0) + P(1)) of the token that answers, where the provider says it for every item; else the hard
    votes."""
    hard = {item.id: 0.5 if item.prefer is None else float(item.prefer) for item in votes.items}
    content = (message.response_metadata.get("logprobs") or {}).get("content") or []
    found = _probabilities(content)
    if len(found) != len(votes.items):
        return hard
    return {
        item.id: hard[item.id] if item.prefer is None or share is None else share
        for item, share in zip(votes.items, found, strict=True)
    }


def _probabilities(tokens: Sequence[dict[str, Any]]) -> list[float | None]:
    """One for each token that follows a `"prefer":`, in order; None where it is neither 0 nor 1."""
    text, found = "", []
    for token in tokens:
        if _ANSWERED.search(text) and str(token["token"]).strip():
            found.append(_share(token))
        text += str(token["token"])
    return found


def _share(token: dict[str, Any]) -> float | None:
    chances = {"0": 0.0, "1": 0.0}
    for other in [*(token.get("top_logprobs") or [token])]:
        answer = str(other["token"]).strip(" :\n")
        if answer in chances:
            chances[answer] += math.exp(float(other["logprob"]))
    total = sum(chances.values())
    return chances["1"] / total if total > 0 else None
