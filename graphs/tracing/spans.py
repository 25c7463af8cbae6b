"""Spans of a run: run → visit of a node → model call or tool, named by OpenInference's conventions.

A model call's span is made of its row in the ledger, where texts are cut and hold no key, and where every attempt has
one: those that failed, the repair turn, fallbacks, and the embedded rules.

Needs the extra `otel`; only `otel.spans_of` imports this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.errors import GraphInterrupt
from openinference.semconv.resource import ResourceAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from ...agents.llm.ledger import Call
from ...agents.llm.secrets import Redactor
from . import span_attributes as attributes
from .visits import visited_node

SERVICE = "cosignal"
GOOD = ("ok", "repaired", "tool_call")


class Spans:
    """The spans of one session of a run, all in one trace; sessions of a run share the `session.id`, its id.

    The graph runs one node at a time, so that calls and tools belong to the visit that is open. `content`: prompts,
    answers and what is made of them are in the spans; without it names, times, tokens, costs and outcomes are.
    `secrets`: environment variables whose values no span may hold.
    """

    def __init__(self, provider: TracerProvider, run_id: str, content: bool, secrets: Collection[str] = ()) -> None:
        self._tracer = provider.get_tracer(SERVICE, _version())
        self._session = run_id
        self._content = content
        self._redactor = Redactor(secrets)
        self._root: Span | None = None
        self._visits: dict[UUID, Span] = {}
        self._last_node: str | None = None

    @property
    def handler(self) -> AsyncCallbackHandler:
        """For the callbacks of the graph: spans of visits and tools."""
        return SpanRecorder(self)

    # ------------------------------------------------------------ the run

    def begin_run(self, given: Mapping[str, Any]) -> None:
        """`given`: what was asked for; no content, and sent in any case."""
        found = attributes.of_run(self._session, given)
        self._root = self._tracer.start_span("cosignal run", Context(), attributes=self._clean(found))

    def end_run(self, outcome: Mapping[str, Any], error: Exception | None = None) -> None:
        """Ends what is still open, too: a run that is stopped leaves nodes in the middle."""
        for run_id in list(self._visits):
            self.leave(run_id, None)
        assert self._root is not None
        self._root.set_attributes(self._clean(attributes.output(outcome)))
        self._set_status(self._root, None if error is None else type(error).__name__, str(error or ""))
        self._root.end()

    # ------------------------------------------------------------ nodes

    def enter(self, run_id: UUID, node: str, place: Mapping[str, Any]) -> None:
        found = attributes.of_visit(node, self._last_node, place)
        self._visits[run_id] = self._start(node, found)
        self._last_node = node

    def leave(self, run_id: UUID, note: Mapping[str, Any] | None, error: BaseException | None = None) -> None:
        """`note`: what the node did, None where it was cut off or waits for a human."""
        span = self._visits.pop(run_id, None)
        if span is None:
            return
        if note is not None and self._content:
            span.set_attributes(self._clean(attributes.output(note)))
        if error is not None or note is not None:
            self._set_status(span, None if error is None else type(error).__name__, str(error or ""))
        span.end()

    # ------------------------------------------------------------ calls and tools

    def call(self, row: Call) -> None:
        """A model call that is over: its span ends now and began `latency_s` before, waiting for its turn left out."""
        end = time.time_ns()
        found = attributes.of_call(row) | (attributes.texts_of_call(row) if self._content else {})
        span = self._start(f"chat {row.model}", found, end - round(row.latency_s * 1e9))
        self._set_status(span, None if row.outcome in GOOD else row.error_class or row.outcome, row.error or "")
        span.end(end)

    def start_tool(self, name: str, arguments: Mapping[str, Any]) -> Span:
        return self._start(name, attributes.of_tool(name, arguments if self._content else None))

    def end_tool(self, span: Span, output: Any, error: BaseException | None = None) -> None:
        if error is None and self._content:
            span.set_attributes(self._clean(attributes.text_output(str(getattr(output, "content", output)))))
        self._set_status(span, None if error is None else type(error).__name__, str(error or ""))
        span.end()

    # ------------------------------------------------------------ all of them

    def _start(self, name: str, found: attributes.Attributes, start: int | None = None) -> Span:
        parent = next(reversed(self._visits.values()), self._root)
        assert parent is not None
        found = attributes.of_session(self._session) | found
        return self._tracer.start_span(
            self._redactor.text(name), set_span_in_context(parent, Context()), attributes=self._clean(found),
            start_time=start,
        )  # fmt: skip

    def _set_status(self, span: Span, error_class: str | None, words: str) -> None:
        if error_class is None:
            span.set_status(Status(StatusCode.OK))
            return
        told = self._redactor.text(words) if self._content else ""  # an error may quote an answer
        span.add_event("exception", {"exception.type": error_class, "exception.message": told})
        span.set_status(Status(StatusCode.ERROR, f"{error_class}: {told}" if told else error_class))

    def _clean(self, found: attributes.Attributes) -> attributes.Attributes:
        redact = self._redactor.now()
        return {name: redact(value) if isinstance(value, str) else value for name, value in found.items()}


class SpanRecorder(AsyncCallbackHandler):
    """Tells the spans what LangGraph does: nodes as `VisitRecorder` sees them, and tools inside them."""

    raise_error = True  # a defect of ours is not to be logged and forgotten; exporting never raises
    run_inline = True

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._tools: dict[UUID, Span] = {}

    async def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        node = visited_node(kwargs)
        if node is not None:
            self._spans.enter(run_id, node, inputs if isinstance(inputs, dict) and node != "observe" else {})

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        self._spans.leave(run_id, outputs.get("note", {}) if isinstance(outputs, dict) else {})

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        # It waits for a human, or the run is stopped: neither is an error.
        interrupted = isinstance(error, GraphInterrupt | asyncio.CancelledError)
        self._spans.leave(run_id, None, None if interrupted else error)

    async def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        self._tools[run_id] = self._spans.start_tool(name, kwargs.get("inputs") or {"input": input_str})

    async def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._spans.end_tool(self._tools.pop(run_id), output)

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._spans.end_tool(self._tools.pop(run_id), None, error)


class CountingExporter:
    """OTLP over HTTP, counting the spans that did not arrive. OpenTelemetry only logs them, and where the program has
    no logging of its own, over the progress on the terminal: here they are told once, by the run."""

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self.lost = 0
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.lost += len(spans)
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.lost -= len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def otlp_provider() -> tuple[TracerProvider, CountingExporter]:
    """A provider of our own beside any global one, set up by OpenTelemetry's variables, and its exporter."""
    exporter = CountingExporter()
    own = {SERVICE_NAME: SERVICE, ResourceAttributes.PROJECT_NAME: SERVICE}
    resource = Resource.create(own | dict(OTELResourceDetector().detect().attributes))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


def _version() -> str | None:
    try:
        return version(SERVICE)
    except PackageNotFoundError:
        return None
