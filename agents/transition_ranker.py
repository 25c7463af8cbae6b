"""The Ranker on transitions: which of two states is better, from one agent's side (LCA, Lin et al., arXiv 2502.03723).

A vote is 1 where the state after an agent's own move is better for the team, 0 where the one before is, 0.5 for
neither. Where the provider gives log-probabilities, one query gives a fraction instead (`soft_votes`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from langchain_core.messages import AIMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import BudgetExhausted, ModelAnswerError, PromptTooLong
from ..prompts import Rendered
from ..rl.preferences.votes import RecordedAnswer
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import MAX_CHARS
from .schemas import TransitionVotes

# ---------------------------------------------------------------- MERGED agents.transition_ranker

Asked = tuple[str, str, int]  # pair, agent, query
HOPELESS = 5  # failed requests, none answered so far, after which the rest is not made


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
) -> AsyncGenerator[list[RecordedAnswer], None]:
    """The votes of one request after the other, as they come; requests run beside each other.

    Every move is asked about `queries` times, `batch` moves in one request, in another order each time; a move that is
    in `items` twice is asked about once. Requests whose answers are all `known` are not made. A request that fails
    leaves its moves without that vote.

    Raises:
        BudgetExhausted: calls, tokens or money are used up; what was answered, and what was under way, has been given.
        ModelAnswerError: no request was answered, and all were made or `HOPELESS` of them; it is what the last one
            failed of. `ProviderError` where the model is the embedded rules.
    """
    every, seen = _batches(_distinct(items), queries, batch), set(known)
    ahead = deque(b for b in every if not {_key(item, b.query) for item in b.items} <= seen)
    answered, failed, failure = len(ahead) < len(every), 0, None
    async with aclosing(_outcomes(model, place, setting, ahead)) as outcomes:
        async for outcome in outcomes:
            if not isinstance(outcome, ModelAnswerError):
                answered = True
                yield outcome
                continue
            failed += 1
            if not isinstance(failure, BudgetExhausted):
                failure = outcome
            if isinstance(failure, BudgetExhausted) or (failed >= HOPELESS and not answered):
                ahead.clear()  # what is under way is waited for: it is paid for
    if isinstance(failure, BudgetExhausted) or (failure and not answered):
        raise failure


async def _outcomes(
    model: RoleModel, place: Place, setting: RankSetting, ahead: deque[_Batch]
) -> AsyncGenerator[list[RecordedAnswer] | ModelAnswerError, None]:
    """Of each batch that is `ahead`. As many are asked at a time as the run's limits let through: a question's deadline
    begins when it is put, so that hundreds put at once would end in line."""
    running: set[asyncio.Task[list[RecordedAnswer] | ModelAnswerError]] = set()
    try:
        while ahead or running:
            while ahead and len(running) < model.door.limits.concurrency:
                running.add(asyncio.create_task(_outcome(model, place, setting, ahead.popleft())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _distinct(items: Sequence[RankItem]) -> list[RankItem]:
    return list({(item.pair, item.agent): item for item in items}.values())


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


async def _outcome(
    model: RoleModel, place: Place, setting: RankSetting, batch: _Batch
) -> list[RecordedAnswer] | ModelAnswerError:
    try:
        return await _ask(model, place, setting, batch)
    except ModelAnswerError as error:
        return error


async def _ask(model: RoleModel, place: Place, setting: RankSetting, batch: _Batch) -> list[RecordedAnswer]:
    prompt = prompt_of(model, setting, batch.items)
    ids = [f"m{k}" for k in range(len(batch.items))]
    part = f"{place.part}-q{batch.query}-b{batch.number}-{batch.items[0].agent}"
    question = Question(
        Place(place.point, place.round, part),
        prompt,
        TransitionVotes,
        problems=lambda votes: misvoted(votes, ids),
        by_rules=False,
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
    """Raises PromptTooLong where the texts of the moves are too long for one request, ModelAnswerError where the
    template fails on this data."""
    length = sum(len(item.before) + len(item.action) + len(item.after) for item in items)
    if length > MAX_CHARS:
        raise PromptTooLong(
            f"the moves of one request have at most {MAX_CHARS} characters, got {length} for {len(items)}; "
            "lower preferences.batch, or shorten the task's viewpoint"
        )
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


# ---------------------------------------------------------------- MERGED agents.soft_votes
# DOC """Votes between 0 and 1 from a model's log-probabilities: how sure it was of each answer."""

_BLANK = r"[\s▁Ġ]"  # servers that do not decode their tokens write a blank so
_ANSWERED = re.compile(rf'"prefer"{_BLANK}*:{_BLANK}*(\S)')
_CHOICE = re.compile(rf'(?:{_BLANK}|[":])*([01])[\s,}}\]]*')  # a whole token that says 0 or 1


class _Alternative(BaseModel):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


_TOKENS = TypeAdapter(list[_Token])


def soft_votes(message: AIMessage, votes: TransitionVotes) -> dict[str, float]:
    """By id: P(1) / (P(0) + P(1)) at the token that answers, where the provider says it; else the hard vote, which is
    0, 1, or 0.5 for null.

    Log-probabilities are read where OpenAI's chat completions have them, `logprobs.content[].top_logprobs`. Answers
    are taken in order; of more than there are items the last count, since a model may think aloud before.
    """
    soft = {item.id: 0.5 if item.prefer is None else float(item.prefer) for item in votes.items}
    tokens = _tokens(message)
    ends = list(accumulate(len(token.token) for token in tokens))
    answers = list(_ANSWERED.finditer("".join(token.token for token in tokens)))
    for item, answer in zip(votes.items, answers[-len(votes.items) :], strict=False):
        share = _share(tokens[bisect_right(ends, answer.start(1))])
        if answer[1] == str(item.prefer) and share is not None:
            soft[item.id] = share
    return soft


def _tokens(message: AIMessage) -> list[_Token]:
    """None where there are no log-probabilities, or in a form of the server's own."""
    found = message.response_metadata.get("logprobs")
    try:
        return _TOKENS.validate_python(found.get("content") or []) if isinstance(found, dict) else []
    except ValidationError:
        return []


def _share(token: _Token) -> float | None:
    """P(1) / (P(0) + P(1)); None where neither is among the likely ones, or no number is given."""
    likely = {other.token: other.logprob for other in [token, *(token.top_logprobs or [])]}
    chances = {"0": 0.0, "1": 0.0}
    for text, logprob in likely.items():
        if choice := _CHOICE.fullmatch(text):
            chances[choice[1]] += math.exp(min(logprob, 0.0))
    total = sum(chances.values())
    return chances["1"] / total if total > 0 else None
