"""A whole run in real processes, and what a collector on loopback receives of it by OTLP over HTTP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from short_runs import short_config, start_run, the_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


class Collector(ThreadingHTTPServer):
    """Takes what is posted. `received`: path, key of the sender, spans of one resource."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str | None, ResourceSpans]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def spans(self) -> list[Span]:
        return [span for _, _, found in self.received for scope in found.scope_spans for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        self.server.received += [(self.path, self.headers.get("api-key"), found) for found in request.resource_spans]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=collectors-own-key")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        yield server
        server.shutdown()


def attributes(span: Span) -> dict[str, str]:
    return {item.key: item.value.string_value for item in span.attributes}


def test_a_collector_gets_the_whole_tree(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key-of-nobody")
    config = short_config(tmp_path / "run")
    process = start_run(config, "--set", "trainer.steps=2_560", "--set", "otel.enabled=true")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "did not reach" not in output
    assert {(path, key) for path, key, _ in collector.received} == {("/v1/traces", "collectors-own-key")}
    resource = {item.key: item.value.string_value for item in collector.received[0][2].resource.attributes}
    assert resource["service.name"] == resource["openinference.project.name"] == "cosignal"

    spans = {span.span_id: span for span in collector.spans}
    [root] = [span for span in spans.values() if not span.parent_span_id]
    assert root.name == "cosignal run"
    assert {attributes(span)["session.id"] for span in spans.values()} == {the_run(config).name}
    assert {spans[span.parent_span_id].name for span in spans.values() if span is not root} >= {
        "cosignal run",
        "critic",
    }
    kinds = {attributes(span)["openinference.span.kind"] for span in spans.values()}
    assert kinds == {"AGENT", "CHAIN", "LLM", "TOOL"}
    asked = [span for span in spans.values() if attributes(span).get("llm.provider") == "rules"]
    assert {spans[span.parent_span_id].name for span in asked} >= {"critic", "generator", "rank_proposals"}
    posted = b"".join(found.SerializeToString() for _, _, found in collector.received)
    assert b"sk-key-of-nobody" not in posted
    assert b"collectors-own-key" not in posted
