"""Votes between 0 and 1 from a model's log-probabilities: how sure it was of each answer."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from itertools import accumulate

from langchain_core.messages import AIMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from .schemas import TransitionVotes

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
