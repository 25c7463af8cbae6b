"""From a model's raw text to a schema object or `InvalidAnswer`, and nothing else. Every text is bounded.

The raw text is validated here, by pydantic, whatever the provider promises: features for structured output differ
between servers, bounds are not enforced by their grammars, and some clients complete truncated JSON silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, ToolCall
from pydantic import BaseModel, ValidationError

from ...errors import InvalidAnswer

# ---------------------------------------------------------------- MERGED agents.answers

T = TypeVar("T", bound=BaseModel)

MAX_ANSWER = 200_000  # characters; the largest answer that the schemas allow has about a quarter of that
MAX_RAW = 64_000  # characters of an answer that are kept in the ledger
MAX_ERROR = 4_000  # characters of an error that are kept
MAX_ECHO = 8_000  # characters of a wrong answer that its model is shown again
MAX_PROBLEMS = 20  # lines about one answer
_HALF = 40  # characters of a place in an answer; models may invent keys of any length


def parse(raw: str, schema: type[T], problems: Callable[[T], list[str]] | None = None) -> T:
    """The object of `schema` that `raw` is.

    `problems`: semantic checks on the parsed object, one line each.

    Raises:
        InvalidAnswer: longer than `MAX_ANSWER` (it is not parsed then), no JSON, not of the schema, or with problems.
            Its message is bounded and printable; `raw` is cut.
    """
    if len(raw) > MAX_ANSWER:
        raise InvalidAnswer(f"an answer has at most {MAX_ANSWER} characters, got {len(raw)}; shorten it", cut(raw))
    try:
        parsed = schema.model_validate_json(strip_fence(raw))
    except ValidationError as error:
        lines, begin = _lines(error), f"not a JSON object of schema {schema.__name__!r}: "
    else:
        lines, begin = problems(parsed) if problems else [], ""
        if not lines:
            return parsed
    raise InvalidAnswer(printable(begin + "; ".join(_first(lines))), cut(raw))


def repair_text(error: str) -> str:
    """What the model is told after an invalid answer."""
    return (
        f"Your answer could not be used: {cut(error, 2_000)}\n"
        "Answer again: one JSON object of the schema above, corrected, with no other text."
    )


def strip_fence(text: str) -> str:
    """Without what many models add to JSON: thoughts before it (`<think>…</think>`), and a Markdown fence around it or,
    where the text does not begin as JSON does, around the one block in it."""
    text = _after_thoughts(text.strip())
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    if text.count("```") == 2 and not text.startswith(("{", "[")):
        return text.split("```")[1].partition("\n")[2].strip()
    return text


def _after_thoughts(text: str) -> str:
    thoughts, end, answer = text.partition("</think>")
    return answer.strip() if end and thoughts.startswith("<think>") else text


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema that a prompt shows: no titles, and the tags of unions (`kind`) required, as validation does."""
    shown: dict[str, Any] = _shown(model.model_json_schema())
    return shown


# ---------------------------------------------------------------- texts of others


def clean(text: str) -> str:
    """`text` that every database and encoder takes: halves of surrogate pairs and NULs become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data with every text in it changed, keys of dicts included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {map_texts(key, change): map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(item, change) for item in value]
    return value


def cut(text: str, most: int = MAX_RAW) -> str:
    """At most `most` characters of `text` and a mark that says how many there were."""
    return text if len(text) <= most else f"{text[:most]} … (cut, {len(text)} characters)"


def printable(text: str, most: int = MAX_ERROR) -> str:
    """`text`, cut, with an escape such as `\\x1b` for what a terminal would obey; line ends stay."""
    letters = (letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in cut(text, most))
    return "".join(letters)


# ---------------------------------------------------------------- in parts


def _lines(error: ValidationError) -> list[str]:
    """One line a mistake. Not pydantic's own text: that has one for every wrong element of a list of any length."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{_place(detail['loc'])}{detail['msg']}" for detail in found[: MAX_PROBLEMS + 1]]


def _place(location: tuple[int | str, ...]) -> str:
    place = ".".join(str(part) for part in location[:12])
    return f"{_middle_out(place)}: " if place else ""


def _middle_out(text: str) -> str:
    return text if len(text) <= 3 * _HALF else f"{text[: 2 * _HALF]}…{text[-_HALF:]}"


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MAX_PROBLEMS else [*lines[:MAX_PROBLEMS], "and more"]


def _shown(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_shown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _shown(item) for key, item in schema.items() if not (key == "title" and isinstance(item, str))}
    properties = kept.get("properties", {})
    tags = [name for name, item in properties.items() if isinstance(item, dict) and "const" in item]
    if tags:
        kept["required"] = [*tags, *kept.get("required", [])]
    return kept


# ---------------------------------------------------------------- MERGED agents.tool_calls
# DOC """Tool calls of a model as the graph can take them: few, small, of plain values, each with an id of its own.
# DOC
# DOC What is not of that kind would end the run and not the question: LangGraph writes the message into its checkpoint
# DOC (msgpack: no integer beyond 64 bits, no deep nesting) and answers every call by its id.
# DOC """

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
