"""Schemas as OpenAI's strict mode takes them, and which method `auto` is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from cosignal.agents.config import ModelConfig, Structured
from cosignal.agents.llm.endpoint import answer_text, asks_for_tools, schema_method, strict_schema
from cosignal.agents.llm.parse import json_schema
from cosignal.agents.schemas import Diagnosis, ProposalRanking, ProposalSet
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            yield from named(value) if key in ("properties", "$defs") else parts(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from parts(item)


def named(schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for schema in schemas.values():
        yield from parts(schema)


@pytest.mark.parametrize("model", [Diagnosis, ProposalSet, ProposalRanking])
def test_every_object_is_closed_and_complete_and_nothing_else_is_left(model: type[BaseModel]) -> None:
    kept = {"type", "enum", "items", "anyOf", "$ref", "description"}
    allowed = kept | {"properties", "required", "additionalProperties"}
    schema = strict_schema(json_schema(model))
    assert schema["type"] == "object"
    objects = 0
    for part in parts(schema):
        assert set(part) - {"$defs"} <= allowed
        if part.get("type") == "object":
            objects += 1
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])
        for reference in [part["$ref"]] if "$ref" in part else []:
            assert reference.removeprefix("#/$defs/") in schema["$defs"]
    assert objects >= 1


def test_a_schema_by_hand() -> None:
    class Inner(BaseModel):
        kind: Literal["a"] = "a"
        title: str | None = Field(default=None, max_length=9)

    class Outer(BaseModel):
        inner: Inner = Inner()
        numbers: list[float] = Field(default_factory=list, max_length=3)

    inner = {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["a"]},
            "title": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["kind", "title"],
        "additionalProperties": False,
    }
    assert strict_schema(json_schema(Outer)) == {
        "type": "object",
        "properties": {
            "inner": {"$ref": "#/$defs/Inner"},
            "numbers": {"type": "array", "items": {"type": "number"}},
        },
        "required": ["inner", "numbers"],
        "additionalProperties": False,
        "$defs": {"Inner": inner},
    }


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (ModelConfig(), "prompt"),
        (ModelConfig(provider="openai", model="m"), "json_schema"),
        (ModelConfig(provider="openai", model="m", base_url="http://127.0.0.1:1/v1"), "json_schema"),
        (ModelConfig(provider="anthropic", model="m"), "prompt"),
        (ModelConfig(provider="anthropic", model="m", structured="function_calling"), "function_calling"),
        (ModelConfig(structured="json_schema"), "prompt"),  # rules need no schema
    ],
)
def test_auto(config: ModelConfig, method: Structured) -> None:
    assert schema_method(config) == method


def test_the_answer_of_a_forced_tool_is_its_arguments() -> None:
    call = {"name": "answer", "args": {"γ": 1}, "id": "1", "type": "tool_call"}
    other = {"name": "look", "args": {}, "id": "2", "type": "tool_call"}
    reply = AIMessage("words", tool_calls=[other, call])
    assert answer_text(reply, "function_calling") == '{"γ": 1}'
    assert answer_text(reply, "prompt") == "words"
    assert not asks_for_tools(reply)
    assert asks_for_tools(AIMessage("", tool_calls=[other]))
    assert answer_text(AIMessage("words"), "function_calling") == "words"
    broken = {"name": "answer", "args": '{"a', "id": "1", "error": "cut", "type": "invalid_tool_call"}
    assert answer_text(AIMessage("", invalid_tool_calls=[broken]), "function_calling") == '{"a'
    assert not asks_for_tools(AIMessage("", tool_calls=[other], invalid_tool_calls=[broken]))
