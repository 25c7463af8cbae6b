"""Keys by name only, and texts without them."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from cosignal.agents.config import LLMConfig, ModelConfig
from cosignal.agents.llm.secrets import PROVIDER_VARIABLES, Redactor, key_variable_names


def test_children_are_kept_from_every_key_a_model_may_read() -> None:
    """Also a chat model that Python gives may have read any of them, whatever the config says."""
    groq = ModelConfig(provider="groq", model="m", api_key_env="G")
    chain = ModelConfig(provider="openai", model="m", api_key_env="B", fallback=(groq,))
    known = {name for names in PROVIDER_VARIABLES.values() for name in names}
    assert {"OPENAI_API_KEY", "GROQ_API_KEY", "ANTHROPIC_API_KEY"} <= known
    assert key_variable_names(LLMConfig(critic=chain)) == sorted({"B", "G", *known})
    assert key_variable_names(LLMConfig()) == sorted(known)


def test_a_key_is_found_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    key = 'se"cr\\et/1'
    monkeypatch.setenv("K", key)
    monkeypatch.setenv("SHORT", "dummy")
    monkeypatch.setenv("PADDED", " sk-padded-1\n")
    monkeypatch.setenv("LONGER", key + "2")
    redactor = Redactor(["K", "SHORT", "NOT_SET", "LONGER", "PADDED"], ["sk-given-1"])
    for written in (key, json.dumps(key), repr(key), quote(key, safe="")):
        assert "cr" not in redactor.redact(f"x {written} y")
    assert redactor.redact(f"{key}2 dummy") == "*** dummy"  # the longer one first, and what is too short stays
    assert redactor.redact("sk-padded-1 sk-given-1") == "*** ***"
