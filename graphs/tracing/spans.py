"""Spans of a run: run → visit of a node → model call or tool, named by OpenInference's conventions.

A model call's span is made of its row in the ledger, where texts are cut and hold no key, and where every attempt has
one: those that failed, the repair turn, fallbacks, and the embedded rules.

Needs the extra `otel`; only `otel.open_spans` imports this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
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
from ...packages import installed_version
from .span_attributes import (
    Attributes,
    call_attributes,
    call_text_attributes,
    json_output_attributes,
    run_attributes,
    session_attributes,
    text_output_attributes,
    tool_attributes,
    visit_attributes,
)
from .visits import visited_node

SERVICE = "cosignal"
SUCCESSFUL = ("ok", "repaired", "tool_call")  # outcomes of a model call


class Spans:
    """The spans of one session of a run, all in one trace; sessions of a run share the `session.id`, its id.

    The graph runs one node at a time, so that calls and tools belong to the visit that is open.

    Args:
        provider: makes the spans.
        run_id: the name of the run.
        content: whether prompts, answers and what is made of them are in the spans; without it names, times, tokens,
            costs and outcomes are.
        secrets: environment variables whose values no span may hold.
    """

    def __init__(self, provider: TracerProvider, run_id: str, content: bool, secrets: Collection[str] = ()) -> None:
        self._tracer = provider.get_tracer(SERVICE, installed_version(SERVICE))
        self._session = run_id
        self._content = content
        self._redactor = Redactor(secrets)
        self._root: Span | None = None
        # Visits that are open, by the id of LangChain's run; the last one holds what happens now.
        self._visits: dict[UUID, Span] = {}
        self._last_node: str | None = None

    @property
    def handler(self) -> AsyncCallbackHandler:
        """A callback handler for the graph, which makes the spans of visits and tools."""
        return SpanRecorder(self)

    # ------------------------------------------------------------ the run

    def begin_run(self, settings: Mapping[str, Any]) -> None:
        """Open the root span. `settings` hold no content, and are sent in any case."""
        attributes = run_attributes(self._session, settings)
        self._root = self._tracer.start_span("cosignal run", Context(), attributes=self._redacted(attributes))

    def end_run(self, outcome: Mapping[str, Any], error: Exception | None = None) -> None:
        """End the root span and what is still open: a run that is stopped leaves nodes in the middle."""
        for run_id in list(self._visits):
            self.leave(run_id, None)
        assert self._root is not None
        self._root.set_attributes(self._redacted(json_output_attributes(outcome)))
        self._end(self._root, error)

    # ------------------------------------------------------------ nodes

    def enter(self, run_id: UUID, node: str, state: Mapping[str, Any]) -> None:
        """Open the span of a visit of `node`, which `state` was handed to."""
        self._visits[run_id] = self._start(node, visit_attributes(node, self._last_node, state))
        self._last_node = node

    def leave(self, run_id: UUID, note: Mapping[str, Any] | None, error: BaseException | None = None) -> None:
        """End the span of a visit, if one is open.

        Args:
            run_id: the id that the visit was entered with.
            note: what the node did; None where it was cut off or waits for a human, which has no status.
            error: what the node raised.
        """
        span = self._visits.pop(run_id, None)
        if span is None:
            return
        if note is not None and self._content:
            span.set_attributes(self._redacted(json_output_attributes(note)))
        # Cut off, or waiting for a human: neither done nor failed.
        if error is None and note is None:
            span.end()
        else:
            self._end(span, error)

    # ------------------------------------------------------------ calls and tools

    def call(self, call: Call) -> None:
        """Make the span of a model call that is over.

        It ends now and began `latency_s` before; the time in which the call waited for its turn is left out.
        """
        # The ledger knows how long an attempt took, and hands it over when it is over.
        end = time.time_ns()
        attributes = call_attributes(call) | (call_text_attributes(call) if self._content else {})
        span = self._start(f"chat {call.model}", attributes, end - round(call.latency_s * 1e9))
        error_class = None if call.outcome in SUCCESSFUL else call.error_class or call.outcome
        self._set_status(span, error_class, call.error or "")
        span.end(end)

    def start_tool(self, name: str, arguments: Mapping[str, Any]) -> Span:
        """Open the span of a call of a tool."""
        return self._start(name, tool_attributes(name, arguments if self._content else None))

    def end_tool(self, span: Span, output: Any, error: BaseException | None = None) -> None:
        """End the span of a call of a tool that has returned `output`, a message or a text, or raised `error`."""
        if error is None and self._content:
            span.set_attributes(self._redacted(text_output_attributes(str(getattr(output, "content", output)))))
        self._end(span, error)

    # ------------------------------------------------------------ any span

    def _start(self, name: str, attributes: Attributes, start_ns: int | None = None) -> Span:
        """Open a span below the visit that is open, or below the root."""
        parent = next(reversed(self._visits.values()), self._root)
        assert parent is not None
        return self._tracer.start_span(
            self._redactor.redact(name),
            set_span_in_context(parent, Context()),
            attributes=self._redacted(session_attributes(self._session) | attributes),
            start_time=start_ns,
        )

    def _end(self, span: Span, error: BaseException | None) -> None:
        self._set_status(span, None if error is None else type(error).__name__, str(error or ""))
        span.end()

    def _set_status(self, span: Span, error_class: str | None, message: str) -> None:
        if error_class is None:
            span.set_status(Status(StatusCode.OK))
            return
        # An error may quote an answer, which is content, or a key.
        text = self._redactor.redact(message) if self._content else ""
        span.add_event("exception", {"exception.type": error_class, "exception.message": text})
        span.set_status(Status(StatusCode.ERROR, f"{error_class}: {text}" if text else error_class))

    def _redacted(self, attributes: Attributes) -> Attributes:
        # The environment is read once for all attributes of a span.
        redact = self._redactor.function()
        return {name: redact(value) if isinstance(value, str) else value for name, value in attributes.items()}


class SpanRecorder(AsyncCallbackHandler):
    """Makes spans of what LangGraph does: nodes as `VisitRecorder` sees them, and tools inside them."""

    raise_error = True  # a defect of ours is not to be logged and forgotten; exporting never raises
    run_inline = True

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._tools: dict[UUID, Span] = {}  # calls that are open, by the id of LangChain's run

    async def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Open the span of a visit. `observe` is handed the last point, which is not the one that it looks for."""
        node = visited_node(kwargs)
        if node is not None:
            self._spans.enter(run_id, node, inputs if isinstance(inputs, dict) and node != "observe" else {})

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span of a visit."""
        self._spans.leave(run_id, outputs.get("note", {}) if isinstance(outputs, dict) else {})

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a visit. That a node waits for a human, or that the run is stopped, is no error."""
        interrupted = isinstance(error, GraphInterrupt | asyncio.CancelledError)
        self._spans.leave(run_id, None, None if interrupted else error)

    async def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Open the span of a call of a tool."""
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        self._tools[run_id] = self._spans.start_tool(name, kwargs.get("inputs") or {"input": input_str})

    async def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span of a call of a tool."""
        self._spans.end_tool(self._tools.pop(run_id), output)

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a call of a tool that failed."""
        self._spans.end_tool(self._tools.pop(run_id), None, error)


class CountingExporter:
    """OTLP over HTTP, counting the spans that did not arrive.

    OpenTelemetry only logs such spans, and where the program has no logging of its own, over the progress on the
    terminal. Here the run reports them once, by `lost`.
    """

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self.lost = 0
        # A logger with a handler does not fall back to printing on standard error.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post `spans`; they count as lost until the collector has them, also where posting raises."""
        self.lost += len(spans)
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.lost -= len(spans)
        return result

    def shutdown(self) -> None:
        """End the connection to the collector."""
        self._exporter.shutdown()


def otlp_provider() -> tuple[TracerProvider, CountingExporter]:
    """Make a provider of our own beside any global one, set up by OpenTelemetry's variables, and its exporter."""
    exporter = CountingExporter()
    # Names in OpenTelemetry's variables go before ours.
    names = {SERVICE_NAME: SERVICE, ResourceAttributes.PROJECT_NAME: SERVICE}
    resource = Resource.create(names | dict(OTELResourceDetector().detect().attributes))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter
