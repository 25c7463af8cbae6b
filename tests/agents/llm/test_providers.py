"""The real path: `init_chat_model` against a loopback server that speaks chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.critic import diagnose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.providers import build_chat_model
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis, Failure
from cosignal.errors import ConfigError
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import stuck_evidence
from langchain_core.language_models.fake_chat_models import FakeListChatModel

GOOD = {"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}], "advice": "go on"}


class _Server(ThreadingHTTPServer):
    replies: list[str]
    requests: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        message = {"role": "assistant", "content": self.server.replies.pop(0)}
        answer = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "tiny-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        }  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server uses
        """Quiet."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.replies, running.requests = ["{ this is not JSON", json.dumps(GOOD)], []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


async def test_an_openai_compatible_server_is_asked_and_its_answer_repaired(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-local")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    rows: list[Call] = []
    config = ModelConfig(
        provider="openai",
        model="tiny",
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        api_key_env="MY_KEY",
        temperature=0.0,
    )
    model = RoleModel("critic", config, CallBudget(LimitsConfig()), rows.append)
    diagnosis = await diagnose(model, Place(3), build_payload(Evidence.model_validate(stuck_evidence())))
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.findings[0].failure is Failure.PLATEAU
    assert [row.outcome for row in rows] == ["invalid", "repaired"]
    assert [(row.model, row.input_tokens, row.output_tokens) for row in rows] == [("tiny-1", 11, 3)] * 2
    assert [request["path"] for request in server.requests] == ["/v1/chat/completions"] * 2
    assert server.requests[0]["key"] == "Bearer sk-local"
    assert "sk-local" not in "".join(row.model_dump_json() for row in rows)
    assert "not a JSON object" in server.requests[1]["messages"][-1]["content"]


# ---------------------------------------------------------------- keys and settings


def test_a_package_that_repeats_the_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(model: str, **settings: Any) -> Any:
        raise ValueError(f"bad key {settings['api_key']}")

    monkeypatch.setenv("K", "sk-very-secret")
    monkeypatch.setattr("langchain.chat_models.init_chat_model", careless)
    with pytest.raises(ConfigError, match=r"bad key \*\*\*") as caught:
        build_chat_model(ModelConfig(provider="groq", model="m", api_key_env="K"))
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


def test_a_key_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="that llm api_key_env names is not set; name one that is") as caught:
        build_chat_model(ModelConfig(provider="openai", model="m", api_key_env="AIzaSySecret12345"))
    assert "Secret" not in str(caught.value)


def test_what_a_package_says_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def wordy(model: str, **settings: Any) -> Any:
        raise ValueError("first\n  second\x1b")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", wordy)
    with pytest.raises(ConfigError, match=r"set up: first second\\x1b; check"):
        build_chat_model(ModelConfig(provider="made_up", model="m"))
