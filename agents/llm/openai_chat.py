"""LangChain's chat model for OpenAI's protocol, with every answer made readable first. Loads LangChain's package."""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from .completion import NoCompletion, readable_completion

MAX_BODY = 20_000_000  # bytes of an answer, decoded; the longest that is read as one has about a hundredth of that
KEEPS_POST = (307, 308)


class TolerantChatOpenAI(ChatOpenAI):
    """`ChatOpenAI` for servers that take liberties with the protocol.

    What LangChain leaves out is kept beside the message: a refusal, and the reasoning of a message that is nothing
    else. Where there is no completion, `completion.NoCompletion` is raised with what the server says.
    """

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        completion = readable_completion(_plain(response))
        result = super()._create_chat_result(completion, generation_info)
        # The one choice that is left, and the message that LangChain has made of it.
        said: dict[str, Any] = completion["choices"][0]["message"]
        message = result.generations[0].message
        message.additional_kwargs["refusal"] = said.get("refusal")
        reasoning = said.get("reasoning_content") or said.get("reasoning")
        if isinstance(message, AIMessage) and not message.text.strip() and isinstance(reasoning, str):
            message.additional_kwargs["reasoning_content"] = reasoning
        return result


def bounded_client(proxy: str | None = None) -> Any:
    """Return an HTTP client of OpenAI's for which an answer that never ends does, after `MAX_BODY` bytes."""
    return openai.DefaultAsyncHttpxClient(proxy=proxy, event_hooks={"response": [read_bounded]})


def with_own_client(chat: BaseChatOpenAI) -> BaseChatOpenAI:
    """Return the chat model with an HTTP client of its own in place of the one that LangChain has given it.

    LangChain keeps one client for each address as long as the process lives. Its connections belong to the event loop
    that has opened them and fail in the next one ("Event loop is closed"). The new client has the same limits, timeout
    and proxy; options of sockets are left out, since every request is bounded by a timeout of ours. A chat model that
    was built with an `http_async_client` is returned as it is.
    """
    # With a proxy of the chat model's own, LangChain has put its client into that field.
    if chat.http_async_client is not None and not chat.openai_proxy:
        return chat
    client = chat.root_async_client.copy(http_client=openai.DefaultAsyncHttpxClient(proxy=chat.openai_proxy or None))
    return chat.model_copy(update={"root_async_client": client, "async_client": client.chat.completions})


async def read_bounded(response: Any) -> None:
    """Read an HTTP response, of which nothing but the head has been read.

    Raises:
        NoCompletion: it has more than `MAX_BODY` bytes, or leads to another server or to an address that would be asked
            by GET; nothing is sent there.
    """
    if response.has_redirect_location:
        target = response.url.join(response.headers["location"])
        if response.status_code not in KEEPS_POST or target.host != response.url.host:
            base_url = str(target).removesuffix("/chat/completions")
            raise NoCompletion(
                f"the server redirects (HTTP {response.status_code}) to {str(target)!r:.500}; if that is where models "
                f"are asked, write base_url as {base_url!r:.500}"
            )
    parts, length = list[bytes](), 0
    async for part in response.aiter_bytes():
        length += len(part)
        if length > MAX_BODY:
            raise NoCompletion(f"the answer is longer than {MAX_BODY:,} bytes; check base_url")
        parts.append(part)
    response._content = b"".join(parts)  # where the response itself keeps what was read


def _plain(body: Any) -> Any:
    """Return the JSON that the client has made objects of."""
    if isinstance(body, list):
        return [_plain(item) for item in body]
    return body.model_dump(warnings=False) if isinstance(body, openai.BaseModel) else body
