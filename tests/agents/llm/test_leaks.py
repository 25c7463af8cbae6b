"""The key is nowhere: no file, no error with its chain, no log, and no other role's text."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from asking import GOOD, KEY, PROMPT, asked, config, look, question
from cosignal.agents.config import LimitsConfig, LLMConfig, ModelConfig
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.model_call import Question
from cosignal.agents.llm.models import RoleModel, build_models
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.schemas import Diagnosis
from cosignal.config.run_config import RunConfig
from cosignal.errors import InvalidAnswer, ModelAnswerError, ProviderError
from cosignal.graphs.session.run_log import RunLog
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import Behaviour, calls_tool, cuts, drops, echoes_key, hangs, refuses, says
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI

pytestmark = pytest.mark.usefixtures("quick_and_keyed")

LEAKS: list[list[Behaviour]] = [
    [says(GOOD)],
    [echoes_key(GOOD.replace("flat", "KEY"))],
    [echoes_key("KEY is no JSON")],
    [refuses(400)],
    [refuses(401)],
    [refuses(429, "0.001")],
    [refuses(500)],
    [cuts],
    [drops],
    [hangs],
    [echoes_key('{"findings": [{"KEY": 1}]}')],
]


def _everything(error: BaseException | None) -> str:
    """The error as any logger may print it, its whole chain included, also where Python would not show it."""
    seen, said = list[BaseException](), ""
    while error is not None and error not in seen:
        seen.append(error)
        said += "".join(traceback.format_exception(error)) + repr(error.__dict__)
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("variable", ["MY_KEY", "OPENAI_API_KEY"])
async def test_the_key_is_in_no_file_no_error_and_no_log(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-very-secret-key"
    monkeypatch.setenv(variable, key)
    monkeypatch.setenv("MY_KEY" if variable != "MY_KEY" else "OPENAI_API_KEY", "another")
    caplog.set_level(logging.DEBUG)
    log, rows, said, answers = RunLog(tmp_path / "log.jsonl"), list[Call](), "", list[str]()
    for number, script in enumerate(LEAKS):
        with MisbehavingServer(*script) as server:
            if variable == "OPENAI_API_KEY":
                monkeypatch.setenv("OPENAI_BASE_URL", server.url)
                told = ModelConfig(provider="openai", model="tiny", timeout_s=0.2, retries=1)
            else:
                told = config(server, timeout_s=0.2, retries=1)
            model = RoleModel("critic", told, CallBudget(LimitsConfig()), rows.append)
            try:
                answered = await model.ask(Question(Place(number), PROMPT, Diagnosis))
                answers.append(repr(answered))
            except ModelAnswerError as error:
                said += _everything(error)
                log.write("failed", error=repr(error))
            assert server.requests[0]["key"] == f"Bearer {key}"
    assert len(rows) > len(LEAKS)
    assert len(answers) == 2
    store = await LoopStore.open(tmp_path)
    await store.write(*rows)
    await store.close()
    log.close()
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"***" in files
    for text in (files.decode(errors="replace"), said, "".join(answers), caplog.text):
        assert key not in text


async def test_the_key_of_a_given_chat_model_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role's config says `rules`; what the server repeats is a key all the same."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    inline: list[dict[str, Any]] = [{}, {"api_key": "sk-given-inline"}]
    for given in inline:
        rows: list[Call] = []
        with MisbehavingServer(refuses(401)) as server:
            chat = ChatOpenAI(model="tiny", base_url=server.url, max_retries=0, **given)
            model = RoleModel("critic", ModelConfig(), CallBudget(LimitsConfig()), rows.append, chat=chat)
            with pytest.raises(ProviderError, match=r"\*\*\*") as caught:
                await model.ask(question())
        assert given.get("api_key", "sk-from-environment") not in _everything(caught.value) + repr(rows)


async def test_the_key_of_another_role_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-of-another-role")
    rows: list[Call] = []
    with MisbehavingServer(says("no JSON but sk-of-another-role")) as server:
        other = config(server).model_copy(update={"api_key_env": "OTHER_KEY"})
        told = LLMConfig(default=config(server), ranker=other)
        with pytest.raises(InvalidAnswer):
            await build_models(told, CallBudget(LimitsConfig()), rows.append).critic.ask(question())
    assert [row.raw for row in rows] == ["no JSON but ***"] * 2


async def test_a_key_in_the_arguments_of_a_tool_call_does_not_reach_the_graph() -> None:
    with MisbehavingServer(calls_tool("look", json.dumps({"what": f"say {KEY}"}))) as server:
        model = RoleModel("critic", config(server), CallBudget(LimitsConfig()), [].append)
        answered = await model.ask(question(tools=(look,)))
    assert isinstance(answered.message, AIMessage)
    assert answered.message.tool_calls[0]["args"] == {"what": "say ***"}
    assert KEY not in repr(answered.message)
    assert json.dumps(KEY)[1:-1] not in answered.message.model_dump_json()


def test_the_read_model_shows_the_rows_of_a_failure(tmp_path: Path) -> None:
    async def write() -> None:
        rows: list[Call] = []
        with MisbehavingServer(refuses(401)) as server:
            await asked(server, rows)
        store = await LoopStore.open(tmp_path)
        await store.write(*rows)
        assert await store.usage() == (1, 0, 0.0)
        await store.close()

    asyncio.run(write())
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.json").write_text(RunConfig().resolved_json())
    [row] = RunView(tmp_path).calls()
    assert (row.outcome, row.error_class, row.cost_usd) == ("error", "OpenAIAuthenticationError", None)
