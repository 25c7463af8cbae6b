"""The section `llm` of a config: addresses without keys, one chain a role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.config import ModelConfig
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from pydantic import ValidationError


@pytest.mark.parametrize("url", ["http://me:pass-word@host/v1", "http://me@host/v1", "me:pass-word@host:80/v1"])
def test_an_address_holds_no_password(url: str) -> None:
    with pytest.raises(ValidationError, match="must hold no user or password") as caught:
        ModelConfig(provider="openai", model="m", base_url=url)
    assert "pass-word" not in caught.value.errors()[0]["msg"]
    with pytest.raises(ValidationError, match="http://"):
        ModelConfig(provider="openai", model="m", base_url="host:80")


def test_an_address_holds_no_query() -> None:
    with pytest.raises(ValidationError, match="must hold no query") as caught:
        ModelConfig(provider="openai", model="m", base_url="http://host/v1?key=sk-secret-1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key_env", "sk-secret-1"), ("api_key", "sk-secret-1"), ("api_key_env", ["sk-secret-1"]),
        ("base_url", "http://me:sk-secret-1@host"), ("base_url", "me:sk-secret-1@host"),
        ("base_url", "http://host?k=sk-secret-1"),
    ],
)  # fmt: skip
def test_a_key_written_in_the_wrong_place_is_not_repeated(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"llm": {"default": {key: value}}}))
    with pytest.raises(ConfigError, match=rf"llm\.default\.{key}") as caught:
        RunConfig.load(tmp_path / "c.json")
    assert "secret" not in str(caught.value)
    (tmp_path / "c.json").write_text(json.dumps({"llm": {"default": {"timeout_s": "soon"}}}))
    with pytest.raises(ConfigError, match="got 'soon'"):  # other values are shown
        RunConfig.load(tmp_path / "c.json")


def test_a_chain_is_one_list() -> None:
    inner = ModelConfig(provider="openai", model="b", fallback=(ModelConfig(),))
    with pytest.raises(ValidationError, match=r"must be one list, got \['rules'\] below entry 1"):
        ModelConfig(provider="openai", model="a", fallback=(ModelConfig(), inner))


def test_the_new_keys_are_read_from_a_file(tmp_path: Any) -> None:
    (tmp_path / "c.yaml").write_text(
        "llm:\n"
        "  default: {provider: rules}\n"
        "  generator:\n"
        "    provider: openai\n    model: m\n    base_url: http://127.0.0.1:8000/v1\n    api_key_env: MY_KEY\n"
        "    price: {input: 1, output: 2}\n    fallback: [{provider: rules}]\n    structured: json_mode\n"
        "  limits: {calls: 200, tokens: 500_000, usd: 5.0, requests_per_minute: 60, concurrency: 4}\n"
        "  prompts: {critic: my.md}\n"
    )
    config = RunConfig.load(tmp_path / "c.yaml")
    assert [link.provider for link in config.llm.chain("generator")] == ["openai", "rules"]
    assert str(config.llm.prompt_path("critic")) == "my.md"
    assert RunConfig.model_validate_json(config.resolved_json()) == config
