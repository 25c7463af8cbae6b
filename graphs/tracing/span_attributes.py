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
# The nodes in which a role is at work; the others only compute.
ROLES_AT = {"critic": "critic", "generator": "generator", "rank_proposals": "ranker", "rank_transitions": "ranker"}
MESSAGE_ROLES = {"human": "user", "ai": "assistant"}  # LangChain's word → everybody's


def of_session(run_id: str) -> Attributes:
    """What spans of a run have in common, over its sessions too."""
    return {SpanAttributes.SESSION_ID: run_id}


def of_run(run_id: str, given: Mapping[str, Any]) -> Attributes:
    return {
        **of_session(run_id),
        KIND: AGENT,
        SpanAttributes.AGENT_NAME: "cosignal",
        SpanAttributes.INPUT_VALUE: _json(given),
        SpanAttributes.INPUT_MIME_TYPE: JSON,
    }


def of_visit(node: str, before: str | None, place: Mapping[str, Any]) -> Attributes:
    """`before`: the node that was left last. `place`: the state, of which adaptation point and round are told."""
    role = ROLES_AT.get(node)
    found: Attributes = {KIND: AGENT if role else CHAIN, SpanAttributes.GRAPH_NODE_ID: node}
    if role:
        found[SpanAttributes.AGENT_NAME] = role
    if before is not None:
        found[SpanAttributes.GRAPH_NODE_PARENT_ID] = before
    where = {key: place[key] for key in ("point", "round") if place.get(key) is not None}
    return found | ({SpanAttributes.METADATA: _json(where)} if where else {})


def of_call(row: Call) -> Attributes:
    """Everything but texts. Tokens and dollars are left out where they are not known."""
    known = {
        SpanAttributes.LLM_TOKEN_COUNT_PROMPT: row.input_tokens,
        SpanAttributes.LLM_TOKEN_COUNT_COMPLETION: row.output_tokens,
        SpanAttributes.LLM_COST_TOTAL: row.cost_usd,
    }
    if row.input_tokens is not None and row.output_tokens is not None:
        known[SpanAttributes.LLM_TOKEN_COUNT_TOTAL] = row.input_tokens + row.output_tokens
    ledger = ("id", "role", "point", "round", "attempt", "fallback", "outcome", "structured", "charged_tokens")
    return {
        KIND: LLM,
        SpanAttributes.LLM_PROVIDER: row.provider,
        SpanAttributes.LLM_MODEL_NAME: row.model,
        SpanAttributes.PROMPT_ID: row.prompt_id,
        SpanAttributes.METADATA: _json({name: getattr(row, name) for name in (*ledger, "prompt_hash")}),
        **{name: value for name, value in known.items() if value is not None},
    }


def texts_of_call(row: Call) -> Attributes:
    """Prompt and answer; no answer where none came."""
    found = _messages(SpanAttributes.LLM_INPUT_MESSAGES, row.messages)
    found |= {
        SpanAttributes.INPUT_VALUE: _json({"messages": row.messages}),
        SpanAttributes.INPUT_MIME_TYPE: JSON,
    }
    if row.raw:
        found |= _messages(SpanAttributes.LLM_OUTPUT_MESSAGES, [{"role": "ai", "content": row.raw}])
        found |= text_output(row.raw) | ({SpanAttributes.OUTPUT_MIME_TYPE: JSON} if row.parsed else {})
    return found


def of_tool(name: str, arguments: Mapping[str, Any] | None) -> Attributes:
    found: Attributes = {KIND: TOOL, SpanAttributes.TOOL_NAME: name}
    if arguments is not None:
        found |= {SpanAttributes.INPUT_VALUE: _json(arguments), SpanAttributes.INPUT_MIME_TYPE: JSON}
    return found


def output(value: Mapping[str, Any]) -> Attributes:
    return {SpanAttributes.OUTPUT_VALUE: _json(value), SpanAttributes.OUTPUT_MIME_TYPE: JSON}


def text_output(text: str) -> Attributes:
    return {SpanAttributes.OUTPUT_VALUE: text, SpanAttributes.OUTPUT_MIME_TYPE: TEXT}


def _messages(prefix: str, messages: Sequence[Mapping[str, Any]]) -> Attributes:
    found: Attributes = {}
    for place, message in enumerate(messages):
        at = f"{prefix}.{place}."
        role = str(message["role"])
        found[at + MessageAttributes.MESSAGE_ROLE] = MESSAGE_ROLES.get(role, role)
        found[at + MessageAttributes.MESSAGE_CONTENT] = message["content"]
        if "tool" in message:
            found[at + MessageAttributes.MESSAGE_NAME] = str(message["tool"])
        for number, call in enumerate(message.get("tool_calls", ())):
            calls = f"{at}{MessageAttributes.MESSAGE_TOOL_CALLS}.{number}."
            found[calls + ToolCallAttributes.TOOL_CALL_FUNCTION_NAME] = call["name"]
            found[calls + ToolCallAttributes.TOOL_CALL_FUNCTION_ARGUMENTS_JSON] = _json(call["args"])
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
