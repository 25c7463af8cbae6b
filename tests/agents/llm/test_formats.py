"""Response formats and tools, over real HTTP: what is sent, and what is done where a server refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from asking import GOOD, asked, config, look, parsed, question
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.llm.extract import MAX_ANSWER
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.errors import InvalidAnswer, ProviderError
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import calls_tool, refuses, refuses_format, says
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import ToolMessage

pytestmark = pytest.mark.usefixtures("quick_and_keyed")


async def test_a_server_that_refuses_the_format_is_asked_without_and_remembered() -> None:
    rows: list[Call] = []
    with MisbehavingServer(refuses_format(GOOD)) as server:
        model = RoleModel("critic", config(server, retries=0), CallBudget(LimitsConfig()), rows.append)
        for _ in range(2):
            assert (await model.ask(question())).parsed is not None
    assert [(row.outcome, row.structured) for row in rows] == [
        ("error", "json_schema"), ("ok", "prompt"), ("ok", "prompt")
    ]  # fmt: skip
    assert ["response_format" in request for request in server.requests] == [True, False, False]


@pytest.mark.parametrize(("structured", "named"), [("auto", True), ("auto", False), ("json_schema", True)])
async def test_a_500_refuses_the_format_only_where_it_names_it_and_auto_chose_it(structured: str, named: bool) -> None:
    """llama-cpp-python's server answers so to a format of which it does not know the type."""
    said = "1 validation error: ('body', 'response_format', 'type')" if named else "out of memory"

    def act(handler: Any) -> None:
        has_format = "response_format" in handler.server.requests[-1]
        (refuses(500, message=said) if has_format else says(GOOD))(handler)

    rows: list[Call] = []
    with MisbehavingServer(act) as server:
        told = config(server, retries=0, structured=structured)
        model = RoleModel("critic", told, CallBudget(LimitsConfig()), rows.append)
        if (structured, named) == ("auto", True):
            assert (await model.ask(question())).parsed is not None
        else:
            with pytest.raises(ProviderError, match="500"):
                await model.ask(question())
    expected = ["json_schema", "prompt"] if (structured, named) == ("auto", True) else ["json_schema"]
    assert [row.structured for row in rows] == expected


async def test_a_server_that_refuses_everything_is_not_taken_for_one_that_refuses_the_format() -> None:
    rows: list[Call] = []
    with MisbehavingServer(refuses(400)) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), rows.append)
        for _ in range(2):
            with pytest.raises(ProviderError, match="400"):
                await model.ask(question())
    assert [row.structured for row in rows] == ["json_schema", "prompt"] * 2


@pytest.mark.parametrize("status", [400, 404, 422, 501])
async def test_a_server_that_takes_no_tools_is_asked_without_and_remembered(status: int) -> None:
    def act(handler: Any) -> None:
        (refuses(status) if "tools" in handler.server.requests[-1] else says(GOOD))(handler)

    rows: list[Call] = []
    with MisbehavingServer(act) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), rows.append)
        for _ in range(2):
            assert (await model.ask(question(tools=(look,)))).parsed is not None
    assert [(row.outcome, row.structured) for row in rows] == [
        ("error", "json_schema"), ("error", "prompt"), ("ok", "prompt"), ("ok", "prompt")
    ]  # fmt: skip
    assert ["tools" in request for request in server.requests] == [True, True, False, False]


async def test_a_server_that_refuses_with_and_without_tools_is_asked_three_times() -> None:
    with MisbehavingServer(refuses(400)) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), [].append)
        for _ in range(2):
            with pytest.raises(ProviderError, match="400"):
                await model.ask(question(tools=(look,)))
    assert ["tools" in request for request in server.requests] == [True, True, False] * 2


async def test_a_chat_model_without_tools_is_asked_without() -> None:
    rows: list[Call] = []
    chat = FakeListChatModel(responses=[GOOD])
    model = RoleModel("critic", ModelConfig(), CallBudget(LimitsConfig()), rows.append, chat=chat)
    for _ in range(2):
        assert (await model.ask(question(tools=(look,)))).parsed is not None
    assert [row.outcome for row in rows] == ["ok", "ok"]


class Unbindable(FakeListChatModel):
    def bind_tools(self, tools: Any, **settings: Any) -> Any:
        raise TypeError("these tools are not to my taste")


async def test_a_chat_model_that_cannot_be_bound_is_a_typed_error_with_a_row() -> None:
    for chat, told in (
        (Unbindable(responses=[GOOD]), ModelConfig()),
        (FakeListChatModel(responses=[GOOD]), ModelConfig(provider="made_up", structured="function_calling")),
    ):
        rows: list[Call] = []
        model = RoleModel("critic", told, CallBudget(LimitsConfig()), rows.append, chat=chat)
        with pytest.raises(ProviderError):
            await model.ask(question(tools=(look,)))
        assert [row.outcome for row in rows] == ["error"]


async def test_what_the_config_demands_is_not_taken_back() -> None:
    rows: list[Call] = []
    with MisbehavingServer(refuses_format(GOOD)) as server:
        assert isinstance(await asked(server, rows, structured="json_schema"), ProviderError)
    assert len(rows) == 1


async def test_the_schema_is_sent_in_its_strict_form_also_beside_tools() -> None:
    rows: list[Call] = []
    with MisbehavingServer(calls_tool("look", '{"what": "x"}'), says(GOOD)) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), rows.append)
        first = await model.ask(question(tools=(look,)))
        assert first.parsed is None
        conversation = (first.message, ToolMessage("x", tool_call_id="call_1", name="look"))
        assert (await model.ask(question(tools=(look,), conversation=conversation))).parsed is not None
    assert [row.outcome for row in rows] == ["tool_call", "ok"]
    for request in server.requests:
        sent = request["response_format"]["json_schema"]
        assert (sent["name"], sent["strict"]) == ("Diagnosis", True)
        assert sent["schema"]["required"] == ["findings", "went_wrong_at", "went_wrong_because", "advice"]
        assert [offered["function"]["name"] for offered in request["tools"]] == ["look"]


async def test_function_calling_reads_the_arguments_as_the_raw_text() -> None:
    rows: list[Call] = []
    broken = calls_tool("answer", GOOD[:-9])
    with MisbehavingServer(broken, calls_tool("answer", GOOD)) as server:
        assert parsed(await asked(server, rows, structured="function_calling"))
    assert rows[0].raw == GOOD[:-9]
    assert [row.outcome for row in rows] == ["invalid", "repaired"]
    assert server.requests[0]["tool_choice"]["function"]["name"] == "answer"


async def test_function_calling_beside_tools_lets_the_model_choose() -> None:
    with MisbehavingServer(calls_tool("look", '{"what": "x"}'), calls_tool("answer", GOOD)) as server:
        model = RoleModel(
            "critic", config(server, structured="function_calling"), CallBudget(LimitsConfig()), [].append
        )
        assert (await model.ask(question(tools=(look,)))).message.tool_calls[0]["name"] == "look"
        assert (await model.ask(question(tools=(look,)))).parsed is not None
    assert server.requests[0]["tool_choice"] == "required"
    assert [offered["function"]["name"] for offered in server.requests[0]["tools"]] == ["look", "answer"]


async def test_json_mode_and_prompt() -> None:
    with MisbehavingServer(says(GOOD)) as server:
        assert parsed(await asked(server, [], structured="json_mode"))
        assert parsed(await asked(server, [], structured="prompt"))
    assert server.requests[0]["response_format"] == {"type": "json_object"}
    assert "response_format" not in server.requests[1]


async def test_tool_calls_that_cannot_be_read_are_an_invalid_answer() -> None:
    rows: list[Call] = []
    with MisbehavingServer(
        calls_tool("look", '{"what": '), calls_tool("look", '{"what": "' + "x" * MAX_ANSWER + '"}')
    ) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), rows.append)
        with pytest.raises(InvalidAnswer, match="tool calls"):
            await model.ask(question(tools=(look,)))
    assert [row.outcome for row in rows] == ["invalid", "invalid"]
