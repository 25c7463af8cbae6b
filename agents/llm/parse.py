"""A model's reply becomes a schema object, tool calls, or `InvalidAnswer`. Every text is bounded.

The raw text is validated here, by pydantic, whatever the provider promises: features for structured output differ
between servers, bounds are not enforced by their grammars, and some clients complete truncated JSON silently.

Tool calls become what the graph can take: few, small, of plain values, each with an id of its own. Anything else would
end the run and not the question: LangGraph writes the message into its checkpoint (msgpack: no integer beyond 64 bits,
no deep nesting) and answers every call by its id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from ...errors import InvalidAnswer
from ...text import cut, printable
from .endings import end_reason
from .extract import MAX_ANSWER, Found, find_objects

T = TypeVar("T", bound=BaseModel)

MAX_RAW = 64_000  # characters of an answer that are kept in the ledger
MAX_ERROR = 4_000  # characters of an error that are kept
MAX_ECHO = 8_000  # characters of a wrong answer that its model is shown again
MAX_PROBLEMS = 20  # lines about one answer
MAX_CANDIDATES = 100  # objects of one answer that are held against the schema, the last ones
MAX_CALLS = 32  # tool calls of one message; the graph answers far fewer
MAX_DEPTH = 16  # lists and objects inside each other
MAX_INT = 2**63  # exclusive, of either sign
_BOUNDS = {"less_than_equal": "le", "greater_than_equal": "ge"}  # errors of numbers → where pydantic gives the bound
_HALF = 40  # characters of a place in an answer; models may invent keys of any length


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """An answer, and a line for each of its numbers that was out of bounds and was set to the nearest bound."""

    answer: T
    clipped: list[str]


def parse(raw: str, schema: type[T], problems: Callable[[T], list[str]] | None = None) -> T:
    """Return the answer of `parse_clipped` alone."""
    return parse_clipped(raw, schema, problems).answer


def parse_clipped(raw: str, schema: type[T], problems: Callable[[T], list[str]] | None = None) -> Parsed[T]:
    """Return the object of `schema` that `raw` holds: the last one in it, outside of its reasoning.

    A number beyond an inclusive bound (`beta`, a weight) is set to that bound where nothing else is wrong.

    Args:
        raw: the text of an answer, perhaps with thoughts, words, fences or drafts around it.
        schema: what it must be.
        problems: semantic checks of the parsed object, one line each.

    Raises:
        InvalidAnswer: longer than `MAX_ANSWER` (it is not parsed then), no JSON, not of the schema, or with problems.
            Its message is bounded and printable; `raw` is cut.
    """
    if len(raw) > MAX_ANSWER:
        raise InvalidAnswer(
            f"an answer has at most {MAX_ANSWER} characters, got {len(raw)}; shorten it", cut(raw, MAX_RAW)
        )
    found = find_objects(raw)
    whole = [candidate for candidate in found if candidate.is_whole and candidate.doubled is None]
    begin = ""
    for candidate in whole[: -MAX_CANDIDATES - 1 : -1]:
        try:
            parsed = _validate(raw[candidate.start : candidate.end], schema)
        except ValidationError:
            continue
        # Semantic checks do not choose: an answer with problems is told of them.
        lines = problems(parsed.answer) if problems else []
        if not lines:
            return parsed
        break
    else:
        begin = f"not a JSON object of schema {schema.__name__!r}: "
        lines = _why_none(raw, found, schema)
    if len(lines) > MAX_PROBLEMS:
        lines = [*lines[:MAX_PROBLEMS], "and more"]
    raise InvalidAnswer(printable(cut(begin + "; ".join(lines), MAX_ERROR)), cut(raw, MAX_RAW))


def _validate(text: str, schema: type[T]) -> Parsed[T]:
    """Return the object that `text` is, or the arguments of the tool call that it is. Raises ValidationError."""
    try:
        return _validate_clipped(text, schema)
    except ValidationError:
        arguments = _call_arguments(text)
        if arguments is None:
            raise
    return _validate_clipped(arguments, schema)


def _validate_clipped(text: str | bytes, schema: type[T]) -> Parsed[T]:
    """Validate, with numbers set to their bounds where nothing else is wrong. Raises ValidationError."""
    try:
        return Parsed(schema.model_validate_json(text), [])
    except ValidationError as error:
        beyond = error.errors(include_url=False)
        if len(beyond) > MAX_PROBLEMS or any(detail["type"] not in _BOUNDS for detail in beyond):
            raise
    data, lines = from_json(text), list[str]()
    for detail in beyond:
        bound = detail["ctx"][_BOUNDS[detail["type"]]]
        # The place of a number also names the tags of unions. Those are no keys of the data, or keys of a mere text: an
        # event term has an "event".
        place: list[Any] = list(detail["loc"])
        name, parent = place.pop(), data
        for part in place:
            if isinstance(parent, list) or isinstance(parent.get(part), (dict, list)):
                parent = parent[part]
        lines.append(f"{_place(detail)}: {cut(str(parent[name]), _HALF)} was set to {bound:g}")
        parent[name] = bound
    return Parsed(schema.model_validate_json(to_json(data)), lines)


def _call_arguments(text: str) -> str | bytes | None:
    """Return the arguments of a tool call that a model has written as text, as JSON; None where it is no call."""
    try:
        call = from_json(text)
    except ValueError:
        return None
    call = call.get("function", call)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters"))
    return arguments if isinstance(arguments, str) else to_json(arguments) if isinstance(arguments, dict) else None


def _why_none(raw: str, found: list[Found], schema: type[T]) -> list[str]:
    """Return what is wrong with the longest object in `raw`, a line a mistake."""
    if not found:
        return ["there is no JSON object in it, outside of what it thinks"]
    longest = max(found, key=lambda each: each.end - each.start)
    if longest.doubled is not None:
        return [f"key {cut(longest.doubled, _HALF)!r} is there twice in one object; write it once"]
    # Of a broken one everything behind it, so that the place at which it ends is named.
    try:
        _validate(raw[longest.start : longest.end if longest.is_whole else None], schema)
    except ValidationError as error:
        # Not pydantic's own text: that has a line for every wrong element of a list of any length.
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return [_problem_line(detail) for detail in details[: MAX_PROBLEMS + 1]]
    return [f"there are more than {MAX_CANDIDATES} objects behind it; write one"]


def _problem_line(detail: ErrorDetails) -> str:
    place = _place(detail)
    return f"{place}: {detail['msg']}" if place else detail["msg"]


def _place(detail: ErrorDetails) -> str:
    """Return the place of a mistake in an answer, as a path of bounded length."""
    place = ".".join(str(part) for part in detail["loc"][:12])
    return place if len(place) <= 3 * _HALF else f"{place[: 2 * _HALF]}…{place[-_HALF:]}"


def repair_text(error: str) -> str:
    """Return the message that asks a model to repair an invalid answer."""
    return (
        f"Your answer could not be used: {cut(error, 2_000)}\n"
        "Answer again: one JSON object of the schema above, corrected, with no other text."
    )


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema that a prompt shows.

    It has no titles, and the tags of unions (`kind`) are required, as they are when an answer is validated.
    """
    shown: dict[str, Any] = _without_titles(model.model_json_schema())
    return shown


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A schema's title is text; a property that is called "title" is a schema and stays.
    shown = {
        key: _without_titles(item) for key, item in schema.items() if not (key == "title" and isinstance(item, str))
    }
    # pydantic leaves a constant with a default optional, but a union is told apart by it.
    properties = shown.get("properties", {})
    tags = [name for name, item in properties.items() if isinstance(item, dict) and "const" in item]
    if tags:
        shown["required"] = [*tags, *shown.get("required", [])]
    return shown


# ---------------------------------------------------------------- texts


def encodable(text: str) -> str:
    """Return `text` as every database and encoder takes it: halves of surrogate pairs and NULs become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain data with every text in it changed, keys of dicts included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {map_texts(key, change): map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(item, change) for item in value]
    return value


# ---------------------------------------------------------------- tool calls


def normalize_tool_calls(message: AIMessage, turn: int) -> AIMessage:
    """Return `message` with calls that can be answered.

    Where something else in it cannot be kept, or ids are missing or double, a fresh message of its text and calls only;
    missing or double ids become `call_{turn}_{n}`.

    Raises:
        InvalidAnswer: more than `MAX_CALLS` calls, or arguments that are too long, too deep or no plain values.
    """
    calls = message.tool_calls
    if len(calls) > MAX_CALLS:
        raise InvalidAnswer(f"one message makes at most {MAX_CALLS} tool calls, got {len(calls)}; make fewer")
    for call in calls:
        if problem := _not_plain(call["args"]):
            name = printable(cut(repr(call["name"]), 80))
            raise InvalidAnswer(f"the arguments of tool {name} hold {problem}; call it with plain JSON values")
    # Now that every value is plain.
    size = len(json.dumps(calls))
    if size > MAX_ANSWER:
        raise InvalidAnswer(f"the tool calls have {size} characters, at most {MAX_ANSWER} are read; shorten them")
    have_ids = len({call["id"] for call in calls if call["id"]}) == len(calls)
    if have_ids and not _not_plain(message.model_dump()):
        return message.model_copy(update={"id": None})  # the graph replaces a message whose id it has already
    if not have_ids:
        calls = [{**call, "id": f"call_{turn}_{number}"} for number, call in enumerate(calls)]
    return AIMessage(message.text, tool_calls=calls)


def explain_empty_reply(message: AIMessage) -> str:
    """Return, for the model, what is wrong with a reply that has no text."""
    if message.invalid_tool_calls:
        names = ", ".join(repr(call["name"]) for call in message.invalid_tool_calls[:5])
        text = f"the arguments of the tool calls ({names}) are no JSON object; write them as one"
        return printable(cut(text, 400))
    if message.tool_calls:
        return "no tool call is left; answer with the JSON object"
    reason = end_reason(message) or "not given"
    return printable(cut(f"the answer is empty (finish_reason {reason!r:.80}); answer with the JSON object", 400))


def _not_plain(value: Any, depth: int = 0) -> str | None:
    """Return why `value` cannot be kept, None where it can."""
    if depth > MAX_DEPTH:
        return f"lists or objects more than {MAX_DEPTH} deep"
    # bool before int, of which it is a kind.
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, int):
        return None if -MAX_INT < value < MAX_INT else "an integer beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number that is not finite"
    items: Any
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        return f"a value of type {type(value).__name__!r}"
    return next((problem for item in items if (problem := _not_plain(item, depth + 1))), None)
