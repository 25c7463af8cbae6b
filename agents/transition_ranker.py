"""The Ranker on transitions: which of two states is better, from one agent's side (LCA, Lin et al., arXiv 2502.03723).

A vote is 1 where the state after an agent's own move is better for the team, 0 where the one before is, 0.5 for
neither. Where the provider gives log-probabilities, one query gives a fraction instead (`soft_votes`).
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from langchain_core.messages import AIMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import PromptTooLong
from ..prompts import Rendered
from ..rl.preferences.votes import RecordedAnswer
from .batches import in_batches
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import MAX_CHARS
from .schemas import TransitionVotes

QueryKey = tuple[str, str, int]  # pair, agent, query


@dataclass(frozen=True)
class RankItem:
    """One move, in words from the agent's own side. `pair` is its name in recorded answers."""

    pair: str
    agent: str
    before: str
    action: str
    after: str


@dataclass(frozen=True)
class RankSetting:
    """The setting of all moves.

    Attributes:
        task: the rules in words.
        agents: names of the team's agents.
        key_steps: what the team was paid for in a successful episode, in order; empty where none is known.
    """

    task: str
    agents: Sequence[str]
    key_steps: Sequence[str]


@dataclass(frozen=True)
class _Batch:
    """Moves of one request; `number` counts the requests of the same query."""

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
    known: Collection[QueryKey] = (),
) -> AsyncGenerator[list[RecordedAnswer], None]:
    """Yield the votes of one request after the other, as they come; requests run beside each other.

    Args:
        model: the Ranker's chain of models.
        place: the adaptation point; its `part` begins the calls' names.
        setting: rules of the task, for the prompt.
        items: the moves; one that is there twice is asked about once.
        queries: how many times to ask about each move, in another order each time.
        batch: moves in one request.
        known: answers that are there already. Requests whose answers are all known are not made.

    A request that fails leaves its moves without that vote.

    Raises:
        BudgetExhausted: calls, tokens or money are used up. What was answered, and what was under way, was yielded.
        ModelAnswerError: no request was answered, and all were made or `batches.MAX_FAILURES` of them; it is what the
            last one failed of. `ProviderError` where the model is the embedded rules.
    """
    # A request is made again where any of its answers is missing.
    batches, known_keys = _batches(items, queries, batch), set(known)
    ahead = [b for b in batches if not {(item.pair, item.agent, b.query) for item in b.items} <= known_keys]
    requests = [partial(_outcome, model, place, setting, one) for one in ahead]
    outcomes = in_batches(requests, model.budget.limits.concurrency, is_answered=len(ahead) < len(batches))
    async with aclosing(outcomes):
        async for answers in outcomes:
            yield answers


def _batches(items: Sequence[RankItem], queries: int, size: int) -> list[_Batch]:
    """Return the requests about `items`, each move once.

    The same arguments give the same batches, so that a run that was killed asks for no more than what is missing.
    """
    # The last one of a pair and agent, at the place of the first.
    distinct = list({(item.pair, item.agent): item for item in items}.values())
    batches = []
    for query in range(queries):
        # Seeded by the size and the query alone.
        order = np.random.default_rng([len(distinct), query]).permutation(len(distinct))
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        batches += [_Batch(number, query, [distinct[i] for i in part]) for number, part in enumerate(parts)]
    return batches


async def _outcome(model: RoleModel, place: Place, setting: RankSetting, batch: _Batch) -> list[RecordedAnswer]:
    """Ask about one batch, and return its votes. Raises ModelAnswerError where there are none."""
    # Short names: the model has to repeat them.
    ids = [f"m{k}" for k in range(len(batch.items))]
    part = f"{place.part}-q{batch.query}-b{batch.number}-{batch.items[0].agent}"
    prompt = transition_prompt(model, setting, batch.items)
    question = Question(
        Place(place.point, place.round, part),
        prompt,
        TransitionVotes,
        problems=lambda votes: vote_problems(votes, ids),
        by_rules=False,
    )
    answered = await model.ask(question)
    assert answered.parsed is not None  # no tools are offered
    prompt_hash = hashlib.sha256(f"{prompt.system}\n{prompt.user}".encode()).hexdigest()[:16]
    votes = soft_votes(answered.message, answered.parsed)
    name = answered.calls[-1].model
    return [
        RecordedAnswer(
            pair=item.pair, agent=item.agent, query=batch.query, prompt=prompt_hash, vote=votes[key], model=name
        )
        for key, item in zip(ids, batch.items, strict=True)
    ]


def transition_prompt(model: RoleModel, setting: RankSetting, items: Sequence[RankItem]) -> Rendered:
    """Return the prompt about `items`, which it calls m0, m1, ….

    Raises:
        PromptTooLong: the texts of the moves are too long for one request.
        ModelAnswerError: the template fails on this data.
    """
    # Asked before the request is made: no part of a move can be left out.
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


def vote_problems(votes: TransitionVotes, ids: Sequence[str]) -> list[str]:
    """Return a line where the items do not name each of `ids` once."""
    names = [item.id for item in votes.items]
    if sorted(names) == sorted(ids):
        return []
    return [f"items are about {names!r}; they must name each of {list(ids)!r} exactly once"]


# ---------------------------------------------------------------- votes from log-probabilities

_BLANK = r"[\s▁Ġ]"  # servers that do not decode their tokens write a blank so
_PREFER = re.compile(rf'"prefer"{_BLANK}*:{_BLANK}*(\S)')
_CHOICE = re.compile(rf'(?:{_BLANK}|[":])*([01])[\s,}}\]]*')  # a whole token that says 0 or 1


class _Alternative(BaseModel):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


_TOKENS = TypeAdapter(list[_Token])


def soft_votes(message: AIMessage, votes: TransitionVotes) -> dict[str, float]:
    """Return the votes by id, between 0 and 1: how sure the model was of each answer.

    A vote is P(1) / (P(0) + P(1)) at the token that answers, where the provider gives log-probabilities; else the hard
    vote, which is 0, 1, or 0.5 for null. They are read where OpenAI's chat completions have them,
    `logprobs.content[].top_logprobs`. Answers are taken in order; of more than there are items the last count, since a
    model may think aloud before.
    """
    soft = {item.id: 0.5 if item.prefer is None else float(item.prefer) for item in votes.items}
    logprobs = message.response_metadata.get("logprobs")
    try:
        tokens = _TOKENS.validate_python(logprobs.get("content") or []) if isinstance(logprobs, dict) else []
    except ValidationError:  # in a form of the server's own
        return soft
    # Characters of the text up to and with each token, so that a place in the text leads to its token.
    ends = list(accumulate(len(token.token) for token in tokens))
    answers = list(_PREFER.finditer("".join(token.token for token in tokens)))
    # Where the token says something else than the parsed answer, the parsed answer counts.
    for item, answer in zip(votes.items, answers[-len(votes.items) :], strict=False):
        probability = _probability_of_one(tokens[bisect_right(ends, answer.start(1))])
        if answer[1] == str(item.prefer) and probability is not None:
            soft[item.id] = probability
    return soft


def _probability_of_one(token: _Token) -> float | None:
    """Return P(1) / (P(0) + P(1)); None where neither is among the likely tokens, or no number is given."""
    # The token that was written may be missing among the likely ones; by text, so that none counts twice.
    likely = {other.token: other.logprob for other in [token, *(token.top_logprobs or [])]}
    chances = {"0": 0.0, "1": 0.0}
    for text, logprob in likely.items():
        if choice := _CHOICE.fullmatch(text):
            chances[choice[1]] += math.exp(min(logprob, 0.0))
    # Texts that say neither 0 nor 1 are left out of the sum.
    total = sum(chances.values())
    return chances["1"] / total if total > 0 else None
