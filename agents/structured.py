"""How an answer's schema reaches the provider besides the prompt. What comes back is validated by `answers`.

=====================  ================================================================================================
`json_schema`          OpenAI's strict structured output: `response_format` with `strict_schema`
`function_calling`     a tool whose arguments are the answer, and which must be called
`json_mode`            `response_format: {"type": "json_object"}`
`prompt`               nothing: the schema is in the prompt
=====================  ================================================================================================

`auto` is `json_schema` for the provider `openai` and for every server that speaks its protocol (`base_url`). One that
refuses the request (400, 404, 422, 501, or a 500 that names `response_format`) is asked once more without, and where
that is answered it stays so for the run. Other providers are asked by prompt alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from .answers import json_schema
from .config import ModelConfig, Structured

ANSWER_TOOL = "answer"
# What OpenAI documents for strict schemas. Bounds of texts are not among it; all bounds are in the prompt and checked.
_KEPT = ("type", "enum", "items", "anyOf", "$ref", "description")


def first_method(config: ModelConfig) -> Structured:
    """What `structured` means for this model; never `auto`."""
    if config.provider == "rules":
        return "prompt"
    if config.structured != "auto":
        return config.structured
    return "json_schema" if config.provider == "openai" else "prompt"


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema in OpenAI's strict form: every property required, none additional, `oneOf` written as
    `anyOf`, constants as an `enum` of one, without titles, defaults and bounds.

    Source: OpenAI, "Structured model outputs", section "Supported schemas".
    """
    strict: dict[str, Any] = _strict(json_schema(model))
    return strict


def bind(
    chat: BaseChatModel, method: Structured, schema: type[BaseModel], tools: Sequence[BaseTool]
) -> Runnable[LanguageModelInput, AIMessage]:
    """`chat` with `tools` offered and the answer's schema sent by `method`."""
    if method == "function_calling":
        offered = [*(convert_to_openai_tool(tool) for tool in tools), _answer_tool(schema)]
        return chat.bind_tools(offered, tool_choice="any" if tools else ANSWER_TOOL)
    sent = _response_format(chat, method, schema)
    if tools:
        return chat.bind_tools(tools, **sent)
    return chat.bind(**sent) if sent else chat


def raw_text(reply: AIMessage, method: Structured) -> str:
    """The text of the answer: the arguments of the answer's tool, or else the reply's text."""
    if method == "function_calling":
        for call in reply.tool_calls:
            if call["name"] == ANSWER_TOOL:
                return json.dumps(call["args"], ensure_ascii=False)
        for broken in reply.invalid_tool_calls:
            if broken["name"] == ANSWER_TOOL:
                return broken["args"] or ""
    return reply.text


def asks_for_tools(reply: AIMessage) -> bool:
    """Whether the reply calls tools of ours and is no answer. Calls that cannot be read make it an invalid answer."""
    names = [call["name"] for call in reply.tool_calls]
    return bool(names) and ANSWER_TOOL not in names and not reply.invalid_tool_calls


def _response_format(chat: BaseChatModel, method: Structured, schema: type[BaseModel]) -> dict[str, Any]:
    if method == "json_schema":
        named = {"name": schema.__name__, "strict": True, "schema": strict_schema(schema)}
        format_: dict[str, Any] = {"type": "json_schema", "json_schema": named}
    elif method == "json_mode":
        format_ = {"type": "json_object"}
    else:
        return {}
    if "extra_body" in type(chat).model_fields:
        # As plain body: given by its own name, OpenAI's client parses the answer itself, raises where it is cut, and
        # refuses tools whose schemas are not strict.
        return {"extra_body": {"response_format": format_}}
    return {"response_format": format_}


def _answer_tool(schema: type[BaseModel]) -> dict[str, Any]:
    function = {"name": ANSWER_TOOL, "description": "Give your answer.", "parameters": json_schema(schema)}
    return {"type": "function", "function": function}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _strict(value) for key, value in schema.items() if key in _KEPT}
    if "oneOf" in schema:
        kept["anyOf"] = _strict(schema["oneOf"])
    if "const" in schema:
        kept["enum"] = [schema["const"]]
    if "properties" in schema:
        kept["properties"] = {name: _strict(item) for name, item in schema["properties"].items()}
        kept |= {"required": list(schema["properties"]), "additionalProperties": False}
    if "$defs" in schema:
        kept["$defs"] = {name: _strict(item) for name, item in schema["$defs"].items()}
    return kept
