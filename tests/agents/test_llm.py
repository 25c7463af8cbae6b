"""The door to a provider: validation, the repair turn, limits, the ledger."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from agent_roles import Scripted, role_model
from cosignal.agents.config import LimitsConfig, LLMConfig, ModelConfig
from cosignal.agents.ledger import Call, Place
from cosignal.agents.llm import (
    Answered,
    Door,
    Question,
    RoleModel,
    build_models,
    check_models,
    json_schema,
    strip_fence,
)
from cosignal.agents.schemas import Diagnosis, ProposalSet
from cosignal.errors import BudgetExhausted, ConfigError, InvalidAnswer, ProviderError
from cosignal.prompts import Rendered
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, ConfigDict

PROMPT = Rendered("critic/v1", "0" * 64, "role: critic", "What is wrong?")
GOOD = json.dumps(
    {"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}], "advice": ""}
)


@tool
def look(what: str) -> str:
    """Look at something."""
    return what


def question(**more: Any) -> Question[Diagnosis]:
    return Question(Place(16, 1), PROMPT, Diagnosis, **more)


async def ask(script: list[Any], rows: list[Call] | None = None, **more: Any) -> Answered[Diagnosis]:
    rows = [] if rows is None else rows
    return await role_model("critic", script, record=rows.append).ask(question(**more))


async def test_a_valid_answer_is_parsed_and_recorded() -> None:
    rows: list[Call] = []
    reply = AIMessage(GOOD, usage_metadata={"input_tokens": 7, "output_tokens": 5, "total_tokens": 12})
    answered = await ask([reply], rows)
    assert answered.parsed == Diagnosis.model_validate_json(GOOD)
    assert answered.calls == tuple(rows)
    row = rows[0]
    assert (row.id, row.outcome, row.attempt, row.raw) == ("p16-r1-critic-t0-a0", "ok", 0, GOOD)
    assert (row.input_tokens, row.output_tokens) == (7, 5)
    assert row.parsed == json.loads(GOOD)
    assert row.messages == [
        {"role": "system", "content": "role: critic"},
        {"role": "human", "content": "What is wrong?"},
    ]


async def test_a_markdown_fence_is_taken_off() -> None:
    assert (await ask([f"```json\n{GOOD}\n```"])).parsed is not None
    assert strip_fence("``` \n{}\n```") == "{}"
    assert strip_fence(' {"a": "```"} ') == '{"a": "```"}'


async def test_an_invalid_answer_is_repaired_once_with_its_error() -> None:
    rows: list[Call] = []
    model = role_model("critic", ["not json", GOOD], record=rows.append)
    answered = await model.ask(question())
    assert answered.parsed is not None
    assert [row.outcome for row in rows] == ["invalid", "repaired"]
    assert [row.id[-2:] for row in rows] == ["a0", "a1"]
    assert isinstance(model.chat, Scripted)
    second = model.chat.seen[1]
    assert second[2].text == "not json"
    assert rows[0].error is not None
    assert rows[0].error in second[3].text


async def test_an_answer_that_stays_invalid_is_a_typed_error_with_the_raw_text() -> None:
    rows: list[Call] = []
    with pytest.raises(InvalidAnswer, match="Diagnosis") as caught:
        await ask(["not json", '{"findings": []}'], rows)
    assert caught.value.raw == '{"findings": []}'
    assert [row.outcome for row in rows] == ["invalid", "invalid"]


async def test_semantic_problems_are_repaired_like_syntax() -> None:
    rows: list[Call] = []
    complaints = [["cites nothing that exists"], []]
    answered = await ask([GOOD, GOOD], rows, problems=lambda parsed: complaints.pop(0))
    assert answered.parsed is not None
    assert rows[0].error == "cites nothing that exists"


async def test_tool_calls_are_handed_back_and_the_turn_counts() -> None:
    rows: list[Call] = []
    call = AIMessage("", tool_calls=[{"name": "look", "args": {"what": "x"}, "id": "1", "type": "tool_call"}])
    answered = await ask([call], rows, tools=(look,))
    assert answered.parsed is None
    assert answered.message.tool_calls[0]["args"] == {"what": "x"}
    assert rows[0].outcome == "tool_call"
    conversation = (answered.message, ToolMessage("x", tool_call_id="1", name="look"))
    await ask([GOOD], rows, tools=(look,), conversation=conversation)
    assert rows[1].id == "p16-r1-critic-t1-a0"
    assert rows[1].messages[2]["tool_calls"] == [{"name": "look", "args": {"what": "x"}}]
    assert rows[1].messages[3]["tool"] == "look"


async def test_tool_calls_without_tools_are_an_invalid_answer() -> None:
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}])
    assert (await ask([call, GOOD])).parsed is not None


async def test_a_slow_provider_is_a_typed_error() -> None:
    rows: list[Call] = []
    model = role_model("critic", [30.0], record=rows.append, timeout_s=0.01)
    with pytest.raises(ProviderError, match="timeout_s"):
        await model.ask(question())
    assert [row.outcome for row in rows] == ["error"]


async def test_a_failing_provider_is_a_typed_error_that_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    rows: list[Call] = []
    config = ModelConfig(provider="scripted", model="s", api_key_env="MY_KEY")
    chat = Scripted(script=[RuntimeError("wrong key sk-very-secret")])
    model = RoleModel("critic", config, Door(LimitsConfig()), rows.append, chat=chat)
    with pytest.raises(ProviderError, match=r"wrong key \*\*\*"):
        await model.ask(question())
    assert "sk-very-secret" not in rows[0].model_dump_json()


async def test_the_budget_of_calls_is_hard_and_survives_a_resume() -> None:
    rows: list[Call] = []
    model = role_model("critic", [GOOD, GOOD], LimitsConfig(calls=1), rows.append)
    await model.ask(question())
    with pytest.raises(BudgetExhausted, match="calls"):
        await model.ask(question())
    assert [row.outcome for row in rows] == ["ok", "budget"]
    resumed = RoleModel("critic", ModelConfig(), Door(LimitsConfig(calls=5), calls=5), rows.append)
    with pytest.raises(BudgetExhausted, match="5 of 5"):
        await resumed.ask(question())


async def test_tokens_are_counted_and_estimated_where_a_provider_does_not_say() -> None:
    model = role_model("critic", [GOOD], LimitsConfig(tokens=20))
    await model.ask(question())
    # four characters a token: system 12, user 14, answer
    assert model.door.tokens == (12 + 14 + len(GOOD)) // 4
    with pytest.raises(BudgetExhausted, match="tokens"):
        await model.ask(question())


async def test_the_door_lets_only_so_many_through_at_once() -> None:
    door, inside, most = Door(LimitsConfig(concurrency=2)), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        async with door.passage(remote=True):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(6)))
    assert (most, door.calls) == (2, 6)


_JSONISH = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["findings", "failure", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(texts=st.tuples(*[st.text(max_size=60) | _JSONISH.map(json.dumps) | st.just(GOOD[:-9])] * 2))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_text_becomes_an_object_or_a_typed_error(texts: tuple[str, str]) -> None:
    rows: list[Call] = []
    with suppress(InvalidAnswer):
        assert isinstance(asyncio.run(ask(list(texts), rows)).parsed, Diagnosis)
    assert [row.outcome for row in rows] in (["ok"], ["invalid", "repaired"], ["invalid", "invalid"])


@pytest.mark.parametrize("text", ['{"findings": "\\ud800"}', "[" * 5_000, "NaN", ""])
async def test_nasty_texts_are_invalid_answers(text: str) -> None:
    with pytest.raises(InvalidAnswer):
        await ask([text, text])


def test_the_shown_schema_requires_the_tags_of_unions_and_has_no_titles() -> None:
    schema = json_schema(ProposalSet)
    assert schema["$defs"]["PotentialTerm"]["required"] == ["kind", "name", "expression"]
    assert "title" not in schema["$defs"]["Signal" if "Signal" in schema["$defs"] else "Exploration"]
    assert "title" in schema["$defs"]["Proposal"]["properties"]  # a field of that name stays

    class Plain(BaseModel):
        model_config = ConfigDict(title="Gone")
        x: int

    assert json_schema(Plain) == {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def test_models_are_built_late_and_checked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    door = Door(LimitsConfig())
    broken = LLMConfig(generator=ModelConfig(provider="openai", model="m", api_key_env="NO_SUCH_KEY"))
    build_models(broken, door, lambda call: None)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        check_models(broken)
    with pytest.raises(ConfigError, match="needs a model"):
        check_models(LLMConfig(default=ModelConfig(provider="openai")))
    with pytest.raises(ConfigError, match="no_such_provider"):
        check_models(LLMConfig(default=ModelConfig(provider="no_such_provider", model="m")))
    check_models(LLMConfig())
