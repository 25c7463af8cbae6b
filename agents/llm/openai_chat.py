"""LangChain's chat model for OpenAI's protocol, with every answer made readable first. Loads LangChain's package."""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from .completion import readable_completion


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


def _plain(body: Any) -> Any:
    """Return the JSON that the client has made objects of."""
    if isinstance(body, list):
        return [_plain(item) for item in body]
    return body.model_dump(warnings=False) if isinstance(body, openai.BaseModel) else body
