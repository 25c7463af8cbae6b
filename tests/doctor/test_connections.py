"""Whom a run would talk to: models, their addresses, hosted tracing and the collector of spans."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cosignal.doctor import Check, addresses
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import says
from examined import found, looked_at, one
from langchain_openai import ChatOpenAI

pytestmark = pytest.mark.usefixtures("plain_environment")


# ---------------------------------------------------------------- models


def test_a_missing_key_is_named_once_for_all_roles_and_its_value_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    model = "llm.default={provider: openai, model: m, api_key_env: MY_SECRET, price: {input: 1, output: 2}}"
    monkeypatch.delenv("MY_SECRET", raising=False)
    missing = one(looked_at(model), "llm.critic, generator, ranker")
    assert missing.state == "problem"
    assert "'MY_SECRET'" in missing.message
    monkeypatch.setenv("MY_SECRET", "sk-do-not-show")
    examination = looked_at(model)
    assert one(examination, "llm.critic, generator, ranker").message.startswith("openai m, key from MY_SECRET")
    assert examination.ok
    assert "sk-do-not-show" not in json.dumps(examination.as_dict())


def test_a_package_that_is_not_installed_and_a_model_that_is_not_named() -> None:
    check = one(looked_at("llm.critic={provider: mistralai, model: m}"), "llm.critic")
    assert (check.state, check.remedy) == ("problem", "install it with: pip install langchain-mistralai")
    assert one(looked_at("llm.critic={provider: openai}"), "llm.critic").state == "problem"


def test_an_unknown_price_is_a_warning() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    unknown = one(looked_at(f"llm.critic={{provider: openai, model: mine, base_url: '{url}'}}"), "llm.price")
    assert (unknown.state, "unknown for critic: llm.limits.usd 5 cannot hold" in unknown.message) == ("warning", True)
    priced = f"llm.critic={{provider: openai, model: mine, base_url: '{url}', price: {{input: 0, output: 0}}}}"
    assert one(looked_at(priced), "llm.price").state == "ok"
    assert found(looked_at(), "llm.price") == [], "the embedded rules cost nothing"


def test_a_broken_prompt_template_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("no front matter")
    check = one(looked_at("llm.prompts.ranker=mine.md"), "llm.ranker")
    assert check.state == "problem"
    assert "mine.md" in check.message


def test_hosted_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(looked_at(), "llm.tracing").message == "off: prompts go to the models alone"
    on = one(looked_at("llm.tracing=true"), "llm.tracing")
    assert (on.state, "sent to https://api.smith.langchain.com" in on.message) == ("warning", True)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:9")
    assert one(looked_at(), "llm.tracing").message == "off: LANGSMITH_TRACING is ignored"
    assert "sent to http://127.0.0.1:9" in one(looked_at("llm.tracing=true"), "llm.tracing").message


# ---------------------------------------------------------------- addresses


def at(url: str, *more: str) -> str:
    return f"{{provider: openai, model: m, base_url: '{url}', price: {{input: 0, output: 0}}{''.join(more)}}}"


def test_a_server_is_asked_once_for_its_models_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "sk-do-not-send")
    with MisbehavingServer(says("x")) as server:
        examination = looked_at(f"llm.default={at(server.url, ', api_key_env: MY_SECRET')}")
    assert examination.ok
    assert one(examination, "network") == Check(
        "network", "ok", f"GET {server.url}/models is answered 200 (sent without key or prompt)"
    )
    assert server.requests == [{"path": "/v1/models", "key": None}]  # three roles, one request


def test_a_server_of_another_protocol_is_connected_to_and_told_nothing(server: socket.socket) -> None:
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    other = f"llm.default={{provider: anthropic, model: m, base_url: '{url}', price: {{input: 0, output: 0}}}}"
    assert "connected, nothing was sent" in one(looked_at(other), "network").message
    server.settimeout(5)
    connection, _ = server.accept()
    with connection:
        assert connection.recv(100) == b"", "a byte was sent"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return int(gone.getsockname()[1])


def test_a_server_that_does_not_answer_is_a_problem_and_as_a_fallback_a_warning() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    check = one(looked_at(f"llm.default={at(url)}"), "network")
    assert (check.state, url in check.message, "refused" in check.message) == ("problem", True, True)
    fallback = f"llm.critic={{provider: rules, fallback: [{at(url)}]}}"
    assert one(looked_at(fallback), "network").state == "warning"


def test_only_online_tries_a_hosted_provider(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    asked: list[str] = []

    def connect(url: str, host: str, port: int) -> socket.socket:
        asked.append(f"{url} {host} {port}")
        return socket.create_connection(server.getsockname())

    monkeypatch.setattr(addresses, "_connected", connect)
    model = "llm.default={provider: openai, model: m}"
    assert "nobody was contacted; --online tries" in one(looked_at(model), "network").message
    assert asked == []
    assert one(looked_at(model, online=True), "network").state == "ok"
    assert asked == ["https://api.openai.com api.openai.com 443"]
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.test:8443/v1")
    looked_at(model, online=True)
    assert asked[1:] == ["https://elsewhere.test:8443/v1 elsewhere.test 8443"]


@pytest.mark.parametrize(
    ("variables", "asked_at"),
    [
        ({"LANGSMITH_GATEWAY": "true"}, "https://gateway.smith.langchain.com/openai/v1, as LANGSMITH_GATEWAY says"),
        ({"LANGSMITH_GATEWAY": "https://ours.test/"}, "https://ours.test/openai/v1, as LANGSMITH_GATEWAY says"),
        ({"LANGSMITH_GATEWAY": "no"}, None),
        (
            {"LANGSMITH_GATEWAY": "true", "OPENAI_API_BASE": "https://elsewhere.test/v1"},
            "https://elsewhere.test/v1, as OPENAI_API_BASE says",
        ),
        (
            {"LANGSMITH_GATEWAY": "true", "OPENAI_BASE_URL": "https://elsewhere.test/v1"},
            "https://gateway.smith.langchain.com/openai/v1, as LANGSMITH_GATEWAY says",
        ),
    ],
    ids=["LangChain's", "one's own", "off", "before it", "after it"],
)
def test_who_is_led_elsewhere_by_the_environment_is_told_where(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], asked_at: str | None
) -> None:
    """As the package itself does it, and nowhere else than the config says."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = one(looked_at("llm.default={provider: openai, model: m}"), "llm.critic, generator, ranker").message
    chat: Any = ChatOpenAI(model="m")
    if asked_at is None:
        assert " at " not in told
        assert chat.openai_api_base is None
    else:
        assert f"openai m at {asked_at}" in told
        assert chat.openai_api_base == asked_at.partition(",")[0]
    given = one(looked_at(f"llm.default={at('https://models.test/v1')}"), "llm.critic, generator, ranker").message
    assert "at https://models.test/v1" in given and "as " not in given


def test_a_proxy_of_the_environment_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    host, port = server.getsockname()
    monkeypatch.setattr(addresses, "getproxies", lambda: {"https": f"http://{host}:{port}"})
    monkeypatch.setattr(addresses, "proxy_bypass", lambda name: name == "inside.test")
    check = one(looked_at(f"llm.default={at('https://models.test/v1')}"), "network")
    assert (check.state, "(a proxy)" in check.message) == ("ok", True)
    assert addresses._route("https://inside.test") == ("inside.test", 443, "")


# ---------------------------------------------------------------- spans


def test_spans_are_off_whatever_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(looked_at(), "otel") == Check("otel", "ok", "off: no spans are sent")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert one(looked_at(), "otel").message.endswith("OTEL_EXPORTER_OTLP_ENDPOINT is ignored")


def test_a_collector_is_connected_to_and_one_that_is_away_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    port = server.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    there = one(looked_at("otel.enabled=true"), "otel")
    assert (there.state, there.message.split(" ")[0]) == ("ok", f"127.0.0.1:{port}")
    server.close()
    assert one(looked_at("otel.enabled=true"), "otel").state == "warning"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert one(looked_at("otel.enabled=true"), "otel").state == "problem"
