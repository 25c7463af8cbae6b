"""Nothing leaves the machine unless the config says so, whatever the environment asks for: runs in real processes.

Every Python process of a run writes down each connection that it opens and each name that it looks up, by an audit
hook (`sys.addaudithook`) in a `sitecustomize` of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from short_runs import short_config, start_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WATCH = """
import json, os, sys

def tell(event, address):
    with open({path!r}, "a") as file:
        file.write(json.dumps([os.getpid(), event, repr(address)]) + "\\n")

def watch(event, arguments):
    if event == "socket.getaddrinfo":
        tell(event, arguments[0])
    elif event == "import" and arguments[0].startswith(("opentelemetry.exporter", "openinference")):
        tell(event, arguments[0])
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and not isinstance(arguments[1], (str, bytes)):
        tell(event, arguments[1])

tell("started", 0)
sys.addaudithook(watch)
"""


class TracingService(ThreadingHTTPServer):
    """Counts requests and takes what is posted to it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: TracingService

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(202)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PATCH = do_GET  # noqa: N815 (what http.server looks for)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracingService]:
    """A hosted tracing service, which here is on loopback, and an environment that asks for it in every way; the
    address of a collector of spans is its own."""
    with TracingService() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
            monkeypatch.setenv(name, "true")
        for name in ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        for name in ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the processes that are started write down, a line of JSON each: pid, event, address."""
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH.format(path=str(folder / "told")))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "told"


def ran(tmp_path: Path, *options: str) -> str:
    """What a short run printed; it adapts, so that models are asked."""
    process = start_run(short_config(tmp_path / "run"), "--set", "trainer.steps=2_560", *options)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "diagnosis" in output
    return output


def test_a_run_contacts_nobody_and_says_that_tracing_is_off(
    tmp_path: Path, service: TracingService, watched: Path
) -> None:
    output = ran(tmp_path)
    told = [json.loads(line) for line in watched.read_text().splitlines()]
    processes = {pid for pid, event, _ in told if event == "started"}
    assert len(processes) >= 3, "loop, trainer and worker are watched"
    assert [line for line in told if line[1] != "started"] == []
    assert service.requests == []
    assert "off, though LANGSMITH_TRACING, LANGCHAIN_TRACING_V2 asks for it" in output


def test_with_llm_tracing_it_does_and_says_so(tmp_path: Path, service: TracingService, watched: Path) -> None:
    """The same run, so that the test above is known to see what it looks for."""
    output = ran(tmp_path, "--set", "llm.tracing=true")
    told = [json.loads(line) for line in watched.read_text().splitlines()]
    assert any(event == "socket.connect" for _, event, _ in told)
    assert service.requests
    assert "on: prompts go to the hosted service" in output


def test_with_otel_spans_are_sent_from_the_loop_alone(tmp_path: Path, service: TracingService, watched: Path) -> None:
    output = ran(tmp_path, "--set", "otel.enabled=true")
    told = [json.loads(line) for line in watched.read_text().splitlines()]
    assert any(event == "import" for _, event, _ in told)
    assert len({pid for pid, event, _ in told if event != "started"}) == 1
    assert set(service.requests) == {"/v1/traces"}
    assert f"spans go to http://127.0.0.1:{service.server_port}/v1/traces, with prompts and answers" in output
