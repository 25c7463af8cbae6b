"""Variables that make a library post something are hidden from the processes that a run starts."""

from __future__ import annotations

import pytest
from cosignal.agents.config import LLMConfig
from cosignal.agents.llm.hosted_tracing import hidden_from_children, tracing_variables
from cosignal.rl.processes import child_environment


def test_keys_and_hosted_tracing_are_kept_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_ENDPOINT", "A", "B"):
        monkeypatch.setenv(name, "true")
    llm = {"default": {"provider": "openai", "model": "m", "api_key_env": "A"}, "critic": {"api_key_env": "B"}}
    environment = child_environment(hidden_from_children(LLMConfig.model_validate(llm)))
    assert not environment.keys() & {"LANGSMITH_TRACING", "LANGCHAIN_ENDPOINT", "A", "B", "OPENAI_API_KEY"}
    assert "PATH" in environment


def test_the_headers_of_a_collector_are_kept_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    assert "OTEL_EXPORTER_OTLP_HEADERS" in hidden_from_children(LLMConfig())


@pytest.mark.parametrize(("value", "asks"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_a_switch_asks_for_tracing_where_it_is_on(monkeypatch: pytest.MonkeyPatch, value: str, asks: bool) -> None:
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", value)
    assert ("LANGCHAIN_TRACING_V2" in tracing_variables()) == asks
