"""Votes from log-probabilities: where the answering token is found, and what a server may say instead."""

from __future__ import annotations

import math
from typing import Any

import pytest
from asking import config
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.llm.ledger import Place
from cosignal.agents.llm.models import TRANSITIONS_VERSION, RoleModel
from cosignal.agents.llm.providers import build_chat_model
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.schemas import TransitionVote, TransitionVotes
from cosignal.agents.transition_ranker import RankItem, RankSetting, rank_transitions, soft_votes
from cosignal.errors import ConfigError
from cosignal.prompts import load_template
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import says_tokens
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

Token = tuple[str, dict[str, float]]
LIKELY = {"1": math.log(0.6), "0": math.log(0.2), "null": math.log(0.2)}  # P(1) / (P(0) + P(1)) = 0.75


def said(*tokens: Token, **changes: Any) -> AIMessage:
    content = [
        {"token": text, "logprob": -0.01, "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
        for text, top in tokens
    ]
    return AIMessage("", response_metadata={"logprobs": {"content": content} | changes})


def parsed(*prefer: int | None) -> TransitionVotes:
    return TransitionVotes(items=[TransitionVote(id=f"m{k}", prefer=vote) for k, vote in enumerate(prefer)])


def plain(text: str) -> Token:
    return text, {}


@pytest.mark.parametrize(
    "tokens",
    [
        [plain('"prefer":'), ("1", LIKELY), plain("}")],
        [plain('"prefer'), plain('":'), plain(" "), ("1", LIKELY), plain("}")],
        [plain('"'), plain("prefer"), plain('"'), plain(" :"), (" 1", {f" {t}": p for t, p in LIKELY.items()})],
        [plain('"prefer"'), (": 1", {f": {t}": p for t, p in LIKELY.items()})],
        [plain('"prefer'), ('":1}', {f'":{t}}}': p for t, p in LIKELY.items()})],
        [plain('"prefer":'), plain("\n  "), ("1", {"1": math.log(0.3), " 1": math.log(0.3), "0": math.log(0.2)})],
        [plain('"prefer":'), ("Ġ1", {f"Ġ{t}": p for t, p in LIKELY.items()})],
        [plain('{"reason": "\\"prefer\\": 0", "prefer":'), ("1", LIKELY)],
    ],
)
def test_the_answering_token_is_found_however_the_text_is_cut(tokens: list[Token]) -> None:
    assert soft_votes(said(*tokens), parsed(1)) == {"m0": pytest.approx(0.75)}


def test_items_are_taken_in_order_and_null_is_no_preference() -> None:
    tokens = [plain('{"items": [{"prefer": '), ("1", LIKELY), plain('}, {"prefer": '), ("null", LIKELY),
              plain('}, {"prefer": '), ("0", {"0": math.log(0.9), "1": math.log(0.1)}), plain("}]}")]  # fmt: skip
    votes = soft_votes(said(*tokens), parsed(1, None, 0))
    assert votes == {"m0": pytest.approx(0.75), "m1": 0.5, "m2": pytest.approx(0.1)}


def test_what_a_model_thinks_aloud_before_does_not_count() -> None:
    tokens = [plain('<think>"prefer": '), ("1", {"1": 0.0}), plain('</think>{"prefer": '), ("1", LIKELY)]
    assert soft_votes(said(*tokens), parsed(1))["m0"] == pytest.approx(0.75)


def test_where_the_token_is_missing_or_another_the_hard_vote_counts() -> None:
    first = [plain('{"prefer": '), ("1", LIKELY)]
    assert soft_votes(said(*first), parsed(1, 0)) == {"m0": pytest.approx(0.75), "m1": 0.0}
    assert soft_votes(said(*first), parsed(0)) == {"m0": 0.0}
    assert soft_votes(said(plain('{"prefer": '), ("1", {"yes": -0.1})), parsed(1)) == {"m0": 1.0}
    assert soft_votes(AIMessage(""), parsed(1, 0, None)) == {"m0": 1.0, "m1": 0.0, "m2": 0.5}


@pytest.mark.parametrize(
    "metadata",
    [
        {"logprobs": None},
        {"logprobs": []},
        {"logprobs": {"content": None}},
        {"logprobs": {"tokens": ["1"], "token_logprobs": [-0.1]}},  # the form of text completions
        {"logprobs": {"content": [{"token": None, "logprob": -0.1}]}},
        {"logprobs": {"content": [{"token": '"prefer": 1', "logprob": None}]}},
        {"logprobs": {"content": [{"token": '"prefer":', "logprob": 0}, {"token": "1", "logprob": float("nan")}]}},
        {"logprobs": {"content": "1"}},
    ],
)
def test_what_cannot_be_read_leaves_the_hard_vote(metadata: dict[str, Any]) -> None:
    assert soft_votes(AIMessage("", response_metadata=metadata), parsed(1)) == {"m0": 1.0}


def test_likely_tokens_may_be_missing_beside_the_one_that_was_written() -> None:
    bare = {"content": [{"token": '"prefer":', "logprob": 0.0}, {"token": "0", "logprob": -0.1, "top_logprobs": None}]}
    assert soft_votes(AIMessage("", response_metadata={"logprobs": bare}), parsed(0)) == {"m0": 0.0}


@given(st.floats(), st.floats())
def test_a_vote_is_between_zero_and_one_whatever_numbers_a_server_sends(one: float, zero: float) -> None:
    vote = soft_votes(said(plain('"prefer":'), ("1", {"1": one, "0": zero})), parsed(1))["m0"]
    assert 0.0 <= vote <= 1.0


@pytest.mark.usefixtures("quick_and_keyed")
async def test_over_http_the_server_is_asked_for_them_and_one_query_gives_a_fraction() -> None:
    tokens = [plain('{"items":[{"id":"m0","reason":"r","prefer":'), ("1", LIKELY), plain("}]}")]
    items = [RankItem("0" * 16, "green", "before", "dig", "after")]
    with MisbehavingServer(says_tokens(*tokens), says_tokens(*tokens, content=None)) as server:
        budget, template = CallBudget(LimitsConfig()), load_template("ranker", TRANSITIONS_VERSION)
        model = RoleModel("ranker", config(server, logprobs=True), budget, lambda call: None, template)
        found = []
        for point in (7, 8):
            asked = rank_transitions(model, Place(point), RankSetting("Dig.", ["green"], []), items, queries=1, batch=5)
            found += [answer async for answers in asked for answer in answers]
    assert [(answer.vote, answer.model) for answer in found] == [(pytest.approx(0.75), "tiny-1"), (1.0, "tiny-1")]
    assert [(request["logprobs"], request["top_logprobs"]) for request in server.requests] == [(True, 5)] * 2


def test_a_provider_that_gives_none_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        ConfigError, match="logprobs must be false but for .* got true for 'anthropic'.*preferences.queries"
    ):
        build_chat_model(ModelConfig(provider="anthropic", model="m", api_key_env=None, logprobs=True))
