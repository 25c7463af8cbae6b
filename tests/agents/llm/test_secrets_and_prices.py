"""Keys by name only; prices that are known or unknown, never zero."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from cosignal.agents.config import LLMConfig, ModelConfig, PriceConfig
from cosignal.agents.llm.ledger import cost_usd, unpriced
from cosignal.agents.llm.providers import build_chat_model
from cosignal.agents.llm.secrets import PROVIDER_VARIABLES, Redactor, key_variable_names
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.graphs.session.checks import check_before_start
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from pydantic import ValidationError

OPENAI = ModelConfig(provider="openai", model="big-1")

# ---------------------------------------------------------------- keys


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
        assert "cr" not in redactor.text(f"x {written} y")
    assert redactor.text(f"{key}2 dummy") == "*** dummy"  # the longer one first, and what is too short stays
    assert redactor.text("sk-padded-1 sk-given-1") == "*** ***"


def test_a_package_that_repeats_the_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(model: str, **settings: Any) -> Any:
        raise ValueError(f"bad key {settings['api_key']}")

    monkeypatch.setenv("K", "sk-very-secret")
    monkeypatch.setattr("langchain.chat_models.init_chat_model", careless)
    with pytest.raises(ConfigError, match=r"bad key \*\*\*") as caught:
        build_chat_model(ModelConfig(provider="openai", model="m", api_key_env="K"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_server_of_ones_own_does_not_get_the_providers_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    chat: Any = build_chat_model(ModelConfig(provider="openai", model="m", base_url="http://127.0.0.1:1/v1"))
    assert chat.openai_api_key.get_secret_value() == "unused"
    assert chat.max_retries == 0  # one layer retries, and it is ours
    assert chat.max_tokens == 16_000


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what settings chat models were to be built; none is."""
    settings: list[dict[str, Any]] = []

    def keep(model: str, **given: Any) -> FakeListChatModel:
        settings.append(given)
        return FakeListChatModel(responses=[])

    monkeypatch.setattr("langchain.chat_models.init_chat_model", keep)
    return settings


@pytest.mark.parametrize("provider", ["mistralai", "groq", "nvidia"])
def test_no_key_of_a_provider_goes_to_another_address(provider: str, built: list[dict[str, Any]]) -> None:
    build_chat_model(ModelConfig(provider=provider, model="m", base_url="http://127.0.0.1:1/v1"))
    assert built[0]["api_key"] == "unused"


def test_the_bound_of_an_answer_is_sent_where_the_provider_knows_it(built: list[dict[str, Any]]) -> None:
    for provider in ("mistralai", "made_up"):
        build_chat_model(ModelConfig(provider=provider, model="m", max_output_tokens=99))
    assert [given.get("max_tokens") for given in built] == [99, None]


@pytest.mark.parametrize("key", [" sk-secret-1", "sk-secret-1\n", "sk-secret-1 x", "sk-secret-1…", "\x1bsk-secret-1"])
@pytest.mark.parametrize("variable", ["K", "OPENAI_API_KEY"])
def test_a_key_that_no_header_takes_is_said_before_and_not_repeated(
    variable: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, key)
    named = variable if variable == "K" else None
    with pytest.raises(ConfigError, match=f"'{variable}' holds blanks, .*export it again") as caught:
        build_chat_model(ModelConfig(provider="openai", model="m", api_key_env=named))
    assert "secret" not in str(caught.value)


def test_what_a_package_says_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def wordy(model: str, **settings: Any) -> Any:
        raise ValueError("first\n  second\x1b")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", wordy)
    with pytest.raises(ConfigError, match=r"set up: first second\\x1b; check"):
        build_chat_model(ModelConfig(provider="made_up", model="m"))


class GivenChat(FakeListChatModel):
    max_retries: int | None = None


@pytest.mark.parametrize("retries", [None, 2])
def test_a_given_chat_model_must_not_retry_by_itself(retries: int | None, tmp_path: Path) -> None:
    chat = GivenChat(responses=[], max_retries=retries)
    with pytest.raises(ConfigError, match=rf"chat_models\['critic'\] retries by itself \(max_retries {retries}\).*=0"):
        check_before_start(RunConfig(run_dir=tmp_path), {"critic": chat})
    check_before_start(RunConfig(run_dir=tmp_path), {"critic": GivenChat(responses=[], max_retries=0)})
    check_before_start(RunConfig(run_dir=tmp_path), {"critic": FakeListChatModel(responses=[])})


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


# ---------------------------------------------------------------- prices


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
    assert unpriced(LLMConfig(critic=OPENAI, generator=unknown, ranker=fallback)) == ["generator", "ranker"]
    assert unpriced(LLMConfig()) == []
