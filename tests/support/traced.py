"""A session of the fake loop whose spans stay in memory, and the tree that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import Models, build_models
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.graphs.context import Context
from cosignal.graphs.tracing.spans import Spans
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, ScriptedChatModel
from cosignal.testing.fake_run import Gain, Scripts
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Memory:
    """`spans`: to be told; `ended`: what they became, in the order in which they ended."""

    def __init__(self, content: bool = True, secrets: Sequence[str] = ()) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider, "the-run", content, secrets)

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @contextmanager
    def run(self) -> Iterator[Spans]:
        self.spans.begin_run({"task": "two_switch"})
        yield self.spans
        self.spans.end_run({"state": "done"})

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    def of_kind(self, kind: str) -> list[ReadableSpan]:
        return [span for span in self.ended if value(span, "openinference.span.kind") == kind]

    def parent(self, span: ReadableSpan) -> str | None:
        if span.parent is None:
            return None
        [found] = [other.name for other in self.ended if other.context.span_id == span.parent.span_id]
        return found


def value(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


class TracedSession(LoopSession):
    """`scripts`: None for the embedded rules."""

    def __init__(self, run_dir: Path, gain: Gain, scripts: Scripts | None, memory: Memory) -> None:
        super().__init__(run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, gain), scripts)
        self.memory = memory

    async def context(self, store: LoopStore, calls: list[Call]) -> Context:
        ctx = await super().context(store, calls)
        ctx.callbacks = [self.memory.spans.handler]
        return ctx

    def models(self, door: CallBudget, calls: list[Call]) -> Models:
        def record(call: Call) -> None:
            calls.append(call)
            self.memory.spans.call(call)

        chats = (
            {}
            if self.scripts is None
            else {role: ScriptedChatModel(script=list(said)) for role, said in self.scripts.items()}
        )
        return build_models(self.config.llm, door, record, chats)  # type: ignore[arg-type]

    async def traced(self) -> Memory:
        with self.memory.run():
            await self.run()
        return self.memory
