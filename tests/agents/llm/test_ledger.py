"""Prices that are known or unknown, never zero."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.agents.config import LLMConfig, ModelConfig, PriceConfig
from cosignal.agents.llm.ledger import cost_usd, unpriced_roles

OPENAI = ModelConfig(provider="openai", model="big-1")


def test_the_configs_price_comes_first() -> None:
    priced = OPENAI.model_copy(update={"price": PriceConfig(input=2, output=10)})
    assert cost_usd(priced, "big-1", 1_000_000, 500_000) == 7.0
    assert cost_usd(ModelConfig(), "rules", 5, 5) == 0.0


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the package genai-prices that knows one model of one provider."""
    asked: list[dict[str, Any]] = []

    def calc_price(usage: SimpleNamespace, model: str, **by: str) -> SimpleNamespace:
        asked.append({"model": model, **by})
        if model != "big-1" or by != {"provider_id": "openai"}:
            raise LookupError(model)
        return SimpleNamespace(total_price=usage.input_tokens + 2 * usage.output_tokens)

    fake = SimpleNamespace(calc_price=calc_price, Usage=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "genai_prices", fake)
    return asked


def test_then_the_table_for_the_model_that_answered_or_the_one_that_was_asked(table: list[dict[str, Any]]) -> None:
    assert cost_usd(OPENAI, "big-1-2026-01-01", 1, 2) == 5.0
    assert [entry["model"] for entry in table] == ["big-1-2026-01-01", "big-1"]


def test_what_is_not_in_the_table_is_unknown_and_never_zero(table: list[dict[str, Any]]) -> None:
    assert cost_usd(OPENAI.model_copy(update={"model": "new"}), "new", 1, 2) is None
    assert cost_usd(OPENAI.model_copy(update={"base_url": "http://127.0.0.1:1/v1"}), "big-1", 1, 2) is None
    assert table[-1]["provider_api_url"] == "http://127.0.0.1:1/v1"


def test_without_the_table_the_price_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert cost_usd(OPENAI, "big-1", 1, 2) is None


def test_roles_without_a_price_are_told(table: list[dict[str, Any]]) -> None:
    unknown = ModelConfig(provider="openai", model="new")
    fallback = ModelConfig(fallback=(unknown,))
    assert unpriced_roles(LLMConfig(critic=OPENAI, generator=unknown, ranker=fallback)) == ["generator", "ranker"]
    assert unpriced_roles(LLMConfig()) == []
