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
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis, Failure
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import stuck_evidence

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
