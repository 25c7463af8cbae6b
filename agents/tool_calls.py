"""Tool calls of a model as the graph can take them: few, small, of plain values, each with an id of its own.

What is not of that kind would end the run and not the question: LangGraph writes the message into its checkpoint
(msgpack: no integer beyond 64 bits, no deep nesting) and answers every call by its id.
"""

from __future__ import annotations

import json
import math
from typing import Any

from langchain_core.messages import AIMessage, ToolCall

from ..errors import InvalidAnswer
from .answers import MAX_ANSWER, printable

MAX_CALLS = 32  # of one message; the graph answers far fewer
MAX_DEPTH = 16  # lists and objects inside each other
MAX_INT = 2**63  # exclusive, of either sign


def usable(message: AIMessage, turn: int) -> AIMessage:
    """`message` with calls that can be answered. Where something else in it cannot be kept, or ids are missing or
    double, a fresh message of its text and calls only; missing or double ids become `call_{turn}_{n}`.

    Raises:
        InvalidAnswer: more than `MAX_CALLS` calls, or arguments that are too long, too deep or no plain values.
    """
    calls = message.tool_calls
    if len(calls) > MAX_CALLS:
        raise InvalidAnswer(f"one message makes at most {MAX_CALLS} tool calls, got {len(calls)}; make fewer")
    for call in calls:
        if problem := _problem(call["args"]):
            name = printable(repr(call["name"]), 80)
            raise InvalidAnswer(f"the arguments of tool {name} hold {problem}; call it with plain JSON values")
    size = len(json.dumps(calls))
    if size > MAX_ANSWER:
        raise InvalidAnswer(f"the tool calls have {size} characters, at most {MAX_ANSWER} are read; shorten them")
    if _have_own_ids(calls) and not _problem(message.model_dump()):
        return message.model_copy(update={"id": None})  # the graph replaces a message whose id it has already
    return AIMessage(message.text, tool_calls=_with_ids(calls, turn))


def unreadable(message: AIMessage) -> str:
    """What is wrong with a reply that has no text, in words for the model."""
    if message.invalid_tool_calls:
        names = ", ".join(repr(call["name"]) for call in message.invalid_tool_calls[:5])
        return printable(f"the arguments of the tool calls ({names}) are no JSON object; write them as one", 400)
    if message.tool_calls:
        return "no tool call is left; answer with the JSON object"
    told = message.response_metadata
    reason = told.get("finish_reason") or told.get("stop_reason") or "not given"
    return printable(f"the answer is empty (finish_reason {reason!r:.80}); answer with the JSON object", 400)


def _have_own_ids(calls: list[ToolCall]) -> bool:
    return len({call["id"] for call in calls if call["id"]}) == len(calls)


def _with_ids(calls: list[ToolCall], turn: int) -> list[ToolCall]:
    if _have_own_ids(calls):
        return calls
    return [{**call, "id": f"call_{turn}_{number}"} for number, call in enumerate(calls)]


def _problem(value: Any, depth: int = 0) -> str | None:
    """Why `value` cannot be kept, None where it can."""
    if depth > MAX_DEPTH:
        return f"lists or objects more than {MAX_DEPTH} deep"
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, int):
        return None if -MAX_INT < value < MAX_INT else "an integer beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return _first_problem(value.values(), depth)
    if isinstance(value, list | tuple):
        return _first_problem(value, depth)
    return f"a value of type {type(value).__name__!r}"


def _first_problem(values: Any, depth: int) -> str | None:
    return next((found for value in values if (found := _problem(value, depth + 1))), None)
