"""A chat model's connections belong to one event loop: another loop gets new ones, and a run closes its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asking import GOOD, parsed, question
from cosignal.agents.config import LimitsConfig, LLMConfig, ModelConfig
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import Models, build_models
from cosignal.agents.llm.openai_chat import with_own_client
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import ChatRequestHandler, says
from langchain_openai import AzureChatOpenAI, ChatOpenAI

pytestmark = pytest.mark.usefixtures("quick_and_keyed")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    """A server that keeps connections open, as those of models do."""
    monkeypatch.setattr(ChatRequestHandler, "protocol_version", "HTTP/1.1")
    with MisbehavingServer(says(GOOD)) as running:
        yield running


def models(server: MisbehavingServer, chat: ChatOpenAI | None = None, **changes: Any) -> Models:
    told = {"model": "tiny", "base_url": server.url, "api_key_env": "MY_KEY", "retries": 0} | changes
    config = LLMConfig(default=ModelConfig(provider="openai", **told))
    rows: list[Call] = []
    return build_models(config, CallBudget(LimitsConfig()), rows.append, {} if chat is None else {"critic": chat})


def own(server: MisbehavingServer, **fields: Any) -> ChatOpenAI:
    """A chat model that the caller of `start` has built, as LangChain's documentation does it."""
    return ChatOpenAI(model="tiny", base_url=server.url, api_key="k", max_retries=0, use_responses_api=False, **fields)


async def ask(built: Models) -> None:
    assert parsed(await built.critic.ask(question()))


async def ask_and_close(built: Models) -> None:
    try:
        await ask(built)
    finally:
        await built.aclose()


# ---------------------------------------------------------------- two loops


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the connections that nobody has closed
def test_langchains_own_client_fails_in_a_second_loop(server: MisbehavingServer) -> None:
    """Why the rest of this file is needed: chat models of one address share a client as long as the process lives."""
    asyncio.run(own(server).ainvoke("hello"))
    with pytest.raises((RuntimeError, openai.APIConnectionError)) as caught:
        asyncio.run(own(server).ainvoke("hello"))
    assert "Event loop is closed" in f"{caught.value} {caught.value.__cause__}"
    del caught  # its traceback holds the connection, which another test would be blamed for
    gc.collect()


def test_two_runs_in_one_process_ask_the_same_address(server: MisbehavingServer) -> None:
    for _ in range(2):
        asyncio.run(ask_and_close(models(server)))
    assert len(server.requests) == 2


def test_chat_models_of_the_caller_too(server: MisbehavingServer) -> None:
    chat = own(server)
    for _ in range(2):
        asyncio.run(ask_and_close(models(server, chat)))  # the same object
    for _ in range(2):
        asyncio.run(ask_and_close(models(server, own(server))))  # another one of the same address
    assert len(server.requests) == 4


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the connections that nobody has closed
def test_the_same_models_go_on_in_another_loop_whether_closed_or_not(server: MisbehavingServer) -> None:
    for built in (models(server), models(server, own(server))):
        asyncio.run(ask(built))
        asyncio.run(ask_and_close(built))
        asyncio.run(ask_and_close(built))
    assert len(server.requests) == 6
    del built
    gc.collect()


# ---------------------------------------------------------------- closing


async def test_closing_closes_what_was_built_here_and_it_is_built_again_when_asked(server: MisbehavingServer) -> None:
    for chat in (None, own(server)):
        built = models(server, chat)
        await ask(built)
        client: Any = built.critic.endpoints[0].chat
        await built.aclose()
        assert client.root_async_client.is_closed()
        await ask_and_close(built)


async def test_a_client_that_the_caller_has_made_is_used_and_left_open(server: MisbehavingServer) -> None:
    mine = openai.DefaultAsyncHttpxClient()
    built = models(server, own(server, http_async_client=mine))
    await ask_and_close(built)
    assert not mine.is_closed
    await mine.aclose()
    assert len(server.requests) == 1


async def test_closing_what_nobody_has_asked_and_what_has_no_client(server: MisbehavingServer) -> None:
    await models(server).aclose()
    rules = build_models(LLMConfig(), CallBudget(LimitsConfig()), [].append)
    await rules.critic.endpoints[0].ready()
    await rules.aclose()


# ---------------------------------------------------------------- as LangChain's


def test_a_client_of_ones_own_has_the_limits_the_timeout_and_the_proxy_of_langchains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def facts(chat: Any) -> tuple[Any, ...]:
        client = chat.root_async_client
        pool = client._client._transport._pool
        limits = (pool._max_connections, pool._max_keepalive_connections, pool._keepalive_expiry)
        return (limits, client.timeout, client.max_retries, client.api_key, client.base_url, client.organization)

    chat = ChatOpenAI(model="m", base_url="http://127.0.0.1:1/v1", api_key="k", timeout=7.5, max_retries=3)
    copy = with_own_client(chat)
    assert copy.root_async_client._client is not chat.root_async_client._client
    assert copy.async_client is copy.root_async_client.chat.completions
    assert facts(copy) == facts(chat)
    assert (copy.model_name, copy.root_client) == (chat.model_name, chat.root_client)

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    by_environment = with_own_client(ChatOpenAI(model="m", api_key="k"))
    by_argument = with_own_client(ChatOpenAI(model="m", api_key="k", openai_proxy="http://127.0.0.1:8"))
    for proxied, port in ((by_environment, 9), (by_argument, 8)):
        pools = {
            str(pattern.pattern): mount._pool for pattern, mount in proxied.root_async_client._client._mounts.items()
        }
        [pool] = [pool for scheme, pool in pools.items() if scheme in ("all://", "https://")][:1]
        assert pool._proxy_url.port == port


def test_azure_keeps_what_it_is() -> None:
    chat = AzureChatOpenAI(model="m", azure_endpoint="http://127.0.0.1:1", api_key="k", api_version="2024-06-01")
    copy: Any = with_own_client(chat)
    assert isinstance(copy.root_async_client, openai.AsyncAzureOpenAI)
    assert copy.root_async_client._client is not chat.root_async_client._client
    assert copy.root_async_client._api_version == chat.root_async_client._api_version
