"""Attributes of spans as OpenInference names them: https://arize-ai.github.io/openinference/spec/. Pure functions.

Texts are kept apart from the rest, so that spans can be had without them. Needs the extra `otel`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openinference.semconv.trace import (
    MessageAttributes,
    OpenInferenceMimeTypeValues,
    OpenInferenceSpanKindValues,
    SpanAttributes,
    ToolCallAttributes,
)

from ...agents.llm.ledger import Call
from ...runs.visits import ROLE_OF_NODE

Attributes = dict[str, str | int | float | bool]
KIND = SpanAttributes.OPENINFERENCE_SPAN_KIND
AGENT, CHAIN, LLM, TOOL = (
    str(kind.value)
    for kind in (
        OpenInferenceSpanKindValues.AGENT,
        OpenInferenceSpanKindValues.CHAIN,
        OpenInferenceSpanKindValues.LLM,
        OpenInferenceSpanKindValues.TOOL,
    )
)
JSON, TEXT = str(OpenInferenceMimeTypeValues.JSON.value), str(OpenInferenceMimeTypeValues.TEXT.value)
MESSAGE_ROLES = {"human": "user", "ai": "assistant"}  # LangChain's word → everybody's


def session_attributes(run_id: str) -> Attributes:
    """Return what all spans of a run have in common, over its sessions too."""
    return {SpanAttributes.SESSION_ID: run_id}


def run_attributes(run_id: str, settings: Mapping[str, Any]) -> Attributes:
    """Return the attributes of the root span; its input is the run's `settings`."""
    return {
        **session_attributes(run_id),
        KIND: AGENT,
        SpanAttributes.AGENT_NAME: "cosignal",
        SpanAttributes.INPUT_VALUE: _json(settings),
        SpanAttributes.INPUT_MIME_TYPE: JSON,
    }


def visit_attributes(node: str, before: str | None, state: Mapping[str, Any]) -> Attributes:
    """Return the attributes of a visit of `node`, but for what the node did.

    Args:
        node: the name of the node.
        before: the node that was left last, None at the first one.
        state: the state of the graph, of which adaptation point and round are taken.
    """
    role = ROLE_OF_NODE.get(node)
    attributes: Attributes = {KIND: AGENT if role else CHAIN, SpanAttributes.GRAPH_NODE_ID: node}
    if role:
        attributes[SpanAttributes.AGENT_NAME] = role
    if before is not None:
        attributes[SpanAttributes.GRAPH_NODE_PARENT_ID] = before
    place = {key: state[key] for key in ("point", "round") if state.get(key) is not None}
    return attributes | ({SpanAttributes.METADATA: _json(place)} if place else {})


def call_attributes(call: Call) -> Attributes:
    """Return everything about a model call but its texts. Tokens and dollars that are not known are left out."""
    counts = {
        SpanAttributes.LLM_TOKEN_COUNT_PROMPT: call.input_tokens,
        SpanAttributes.LLM_TOKEN_COUNT_COMPLETION: call.output_tokens,
        SpanAttributes.LLM_COST_TOTAL: call.cost_usd,
    }
    if call.input_tokens is not None and call.output_tokens is not None:
        counts[SpanAttributes.LLM_TOKEN_COUNT_TOTAL] = call.input_tokens + call.output_tokens
    # The row of the ledger under its own names, for what OpenInference has none.
    columns = (
        "id", "role", "point", "round", "attempt", "fallback", "outcome", "structured", "charged_tokens", "prompt_hash",
    )  # fmt: skip
    return {
        KIND: LLM,
        SpanAttributes.LLM_PROVIDER: call.provider,
        SpanAttributes.LLM_MODEL_NAME: call.model,
        SpanAttributes.PROMPT_ID: call.prompt_id,
        SpanAttributes.METADATA: _json({column: getattr(call, column) for column in columns}),
        **{name: value for name, value in counts.items() if value is not None},
    }


def call_text_attributes(call: Call) -> Attributes:
    """Return prompt and answer of a model call; no answer where none came."""
    attributes = _message_attributes(SpanAttributes.LLM_INPUT_MESSAGES, call.messages)
    attributes |= {
        SpanAttributes.INPUT_VALUE: _json({"messages": call.messages}),
        SpanAttributes.INPUT_MIME_TYPE: JSON,
    }
    # An answer that became a schema object is JSON; any other is shown as the text that it is.
    if call.raw:
        attributes |= _message_attributes(SpanAttributes.LLM_OUTPUT_MESSAGES, [{"role": "ai", "content": call.raw}])
        attributes |= text_output_attributes(call.raw)
        if call.parsed:
            attributes[SpanAttributes.OUTPUT_MIME_TYPE] = JSON
    return attributes


def tool_attributes(name: str, arguments: Mapping[str, Any] | None) -> Attributes:
    """Return the attributes of a call of a tool; without its `arguments` where those are None."""
    attributes: Attributes = {KIND: TOOL, SpanAttributes.TOOL_NAME: name}
    if arguments is not None:
        attributes |= {SpanAttributes.INPUT_VALUE: _json(arguments), SpanAttributes.INPUT_MIME_TYPE: JSON}
    return attributes


def json_output_attributes(value: Mapping[str, Any]) -> Attributes:
    """Return `value` as the output of any span."""
    return {SpanAttributes.OUTPUT_VALUE: _json(value), SpanAttributes.OUTPUT_MIME_TYPE: JSON}


def text_output_attributes(text: str) -> Attributes:
    """Return `text` as the output of any span."""
    return {SpanAttributes.OUTPUT_VALUE: text, SpanAttributes.OUTPUT_MIME_TYPE: TEXT}


def _message_attributes(prefix: str, messages: Sequence[Mapping[str, Any]]) -> Attributes:
    """Return messages of the ledger, tool calls included, as attributes that begin with `prefix` and their number."""
    attributes: Attributes = {}
    for i, message in enumerate(messages):
        at = f"{prefix}.{i}."
        role = str(message["role"])
        attributes[at + MessageAttributes.MESSAGE_ROLE] = MESSAGE_ROLES.get(role, role)
        attributes[at + MessageAttributes.MESSAGE_CONTENT] = message["content"]
        if "tool" in message:
            attributes[at + MessageAttributes.MESSAGE_NAME] = str(message["tool"])
        for k, tool_call in enumerate(message.get("tool_calls", ())):
            call_at = f"{at}{MessageAttributes.MESSAGE_TOOL_CALLS}.{k}."
            attributes[call_at + ToolCallAttributes.TOOL_CALL_FUNCTION_NAME] = tool_call["name"]
            attributes[call_at + ToolCallAttributes.TOOL_CALL_FUNCTION_ARGUMENTS_JSON] = _json(tool_call["args"])
    return attributes


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
