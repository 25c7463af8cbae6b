"""Replies that were cut, withheld or have failed, in the words of several providers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import GOOD, asked, parsed, question
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.llm.endings import ending
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.errors import AnswerCut
from cosignal.testing import MisbehavingServer, ScriptedChatModel, role_model
from cosignal.testing.server import says
from langchain_core.messages import AIMessage

pytestmark = pytest.mark.usefixtures("quick_and_keyed")

LENGTH = {"finish_reason": "length"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"finish_reason": "stop"}, "whole"),
        ({"stop_reason": "end_turn"}, "whole"),
        ({}, "whole"),
        ({"finish_reason": None, "done_reason": 3}, "whole"),
        (LENGTH, "cut"),
        ({"stop_reason": "max_tokens"}, "cut"),  # Anthropic
        ({"done_reason": "length"}, "cut"),  # Ollama
        ({"stopReason": "max_tokens"}, "cut"),  # Bedrock
        ({"finish_reason": "MAX_TOKENS"}, "cut"),  # Google, Cohere
        ({"finish_reason": "FinishReason.MAX_TOKENS"}, "cut"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "cut"),  # OpenAI's responses
        ({"stop_reason": "refusal"}, "withheld"),
        ({"finish_reason": "SAFETY"}, "withheld"),
        ({"finish_reason": "error"}, "failed"),
    ],
)
def test_reasons_of_providers(metadata: dict[str, Any], expected: str) -> None:
    assert ending(AIMessage("x", response_metadata=metadata)) == expected


@pytest.mark.parametrize("content", [GOOD[:-9], "", f"```json\n{GOOD}\n```\nFinal: {GOOD[:20]}", f"<think>{GOOD}"])
async def test_a_reply_that_was_cut_says_so_and_is_not_asked_to_repair_its_json(content: str) -> None:
    rows: list[Call] = []
    reply = AIMessage(content, response_metadata=LENGTH)
    with pytest.raises(AnswerCut) as caught:
        await role_model("critic", [reply], record=rows.append).ask(question())
    assert "cut at its length (finish_reason 'length')" in str(caught.value)
    assert "raise llm.critic.max_output_tokens, 16000 now" in str(caught.value)
    assert caught.value.raw == content
    assert [(row.outcome, row.error_class, row.error) for row in rows] == [("invalid", "AnswerCut", str(caught.value))]


async def test_an_answer_that_was_whole_before_its_end_counts() -> None:
    """A grammar lets a model add blanks for ever."""
    rows: list[Call] = []
    reply = AIMessage(f"{GOOD}\n\n   \n", response_metadata=LENGTH)
    assert (await role_model("critic", [reply], record=rows.append).ask(question())).parsed is not None
    assert [row.outcome for row in rows] == ["ok"]


async def test_calls_of_a_reply_that_was_cut_are_not_made() -> None:
    call = {"name": "answer", "args": json.loads(GOOD), "id": "1"}
    reply = AIMessage("", tool_calls=[call], response_metadata=LENGTH)
    with pytest.raises(AnswerCut):  # some packages complete arguments that were cut
        await role_model("critic", [reply]).ask(question())


async def test_a_server_that_cuts_below_the_bound_is_where_to_raise_it() -> None:
    rows: list[Call] = []
    cut = {"index": 0, "finish_reason": "length", "message": {"content": None, "reasoning_content": "hm"}}
    with MisbehavingServer(says(None, choices=[cut])) as server:
        below = str(await asked(server, rows))
        at = str(await asked(server, rows, max_output_tokens=3))
    assert "cut at 3 tokens" in below
    assert "nothing but thinking" in below
    assert "llm.critic.max_output_tokens is 16000, so it was the server's own bound" in below
    assert "raise llm.critic.max_output_tokens, 3 now" in at
    assert [(row.outcome, row.output_tokens) for row in rows] == [("invalid", 3)] * 2


async def test_a_fallback_is_asked_after_a_reply_that_was_cut_and_after_one_that_was_withheld() -> None:
    with MisbehavingServer(says(GOOD)) as server:
        other = ModelConfig(provider="openai", model="tiny", base_url=server.url)
        for metadata in (LENGTH, {"stop_reason": "refusal"}):
            rows: list[Call] = []
            config = ModelConfig(provider="scripted", model="s", fallback=(other,))
            chat = ScriptedChatModel(script=[AIMessage(GOOD[:-9], response_metadata=metadata)])
            model = RoleModel("critic", config, CallBudget(LimitsConfig()), rows.append, chat=chat)
            assert parsed(await model.ask(question()))
            assert [row.fallback for row in rows] == [0, 1]
            assert (rows[0].raw, rows[1].outcome) == (GOOD[:-9], "ok")
