"""From a model's raw text to a schema object or `InvalidAnswer`, and nothing else. Every text is bounded.

The raw text is validated here, by pydantic, whatever the provider promises: features for structured output differ
between servers, bounds are not enforced by their grammars, and some clients complete truncated JSON silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import InvalidAnswer

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
