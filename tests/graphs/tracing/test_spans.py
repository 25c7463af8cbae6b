"""Spans of a run, in memory: the tree, what each one says, and what none of them may say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest
from asking import GOOD, KEY, asked
from cosignal.agents.llm.ledger import Call
from cosignal.config.run_config import RunConfig
from cosignal.graphs.tracing import spans as spans_module
from cosignal.graphs.tracing.otel import RunFacts, open_spans
from cosignal.runs.events import Event, SpansLost
from cosignal.testing import MisbehavingServer
from cosignal.testing.answers import DIAGNOSIS
from cosignal.testing.server import echoes_key, refuses, says
from langchain_core.messages import AIMessage
from langgraph.errors import GraphInterrupt
from loop_runs import first_helps, goal_helps, scripts
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import StatusCode
from traced import Memory, TracedSession, value

TOOL_CALL = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "episode", "points": 2}, "id": "1"}])


def everything(memory: Memory) -> str:
    return "\n".join(span.to_json() for span in memory.ended)


async def test_one_tree_a_run_from_the_run_over_nodes_to_calls_and_tools(tmp_path: Path) -> None:
    """The Critic looks at an episode, is misunderstood once, and repairs its answer."""
    script = scripts() | {"critic": [TOOL_CALL, "no JSON", DIAGNOSIS]}
    memory = await TracedSession(tmp_path, goal_helps, script, Memory()).traced()
    root = memory.one("cosignal run")
    assert memory.parent(root) is None
    assert {span.context.trace_id for span in memory.ended} == {root.context.trace_id}
    assert {value(span, "session.id") for span in memory.ended} == {"the-run"}
    nodes = [span for span in memory.ended if span.parent and memory.parent(span) == "cosignal run"]
    assert {"observe", "critic", "critic_tools", "generator", "rank_proposals", "validate", "promote"} <= {
        span.name for span in nodes
    }
    assert memory.parent(memory.one("query_trainer")) == "critic_tools"
    assert {memory.parent(span) for span in memory.of_kind("LLM")} == {"critic", "generator", "rank_proposals"}
    assert {span.name for span in memory.of_kind("AGENT")} == {"cosignal run", "critic", "generator", "rank_proposals"}
    assert {"observe", "validate", "decide", "promote"} <= {span.name for span in memory.of_kind("CHAIN")}
    outcomes = [json.loads(value(span, "metadata"))["outcome"] for span in memory.of_kind("LLM")]
    assert outcomes == ["tool_call", "invalid", "repaired", "ok", "ok"]


async def test_nodes_say_what_they_did_and_whom_they_follow(tmp_path: Path) -> None:
    memory = await TracedSession(tmp_path, goal_helps, scripts(), Memory()).traced()
    [generator] = memory.named("generator")
    assert len(json.loads(value(generator, "output.value"))["proposals"]) == 3
    assert json.loads(value(generator, "metadata"))["round"] == 0
    assert (value(generator, "graph.node.id"), value(generator, "graph.node.parent_id")) == ("generator", "critic")
    assert value(generator, "agent.name") == "generator"
    assert {span.status.status_code for span in memory.ended} == {StatusCode.OK}


async def test_calls_of_the_embedded_rules_are_there_and_named_as_none_of_a_model(tmp_path: Path) -> None:
    memory = await TracedSession(tmp_path, first_helps, None, Memory()).traced()
    found = memory.of_kind("LLM")
    assert {value(span, "llm.provider") for span in found} == {"rules"}
    assert {value(span, "llm.model_name") for span in found} == {"rules (no language model)"}
    assert {value(span, "llm.cost.total") for span in found} == {0.0}
    assert all("llm.token_count.prompt" not in (span.attributes or {}) for span in found)
    assert memory.of_kind("TOOL")


# ---------------------------------------------------------------- one call


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


async def told(memory: Memory, *behaviour: object, **changes: object) -> list[ReadableSpan]:
    """The spans of one question's calls, over real HTTP."""
    rows: list[Call] = []
    with MisbehavingServer(*behaviour) as server:  # type: ignore[arg-type]
        await asked(server, rows, **changes)
    with memory.run():
        for row in rows:
            memory.spans.call(row)
    return memory.of_kind("LLM")


async def test_a_call_has_its_prompt_its_answer_its_tokens_and_its_cost(keyed: None) -> None:
    [span] = await told(Memory(), says(GOOD), price={"input": 1.0, "output": 2.0})
    attributes = dict(span.attributes or {})
    assert span.name == "chat tiny-1"
    assert (attributes["llm.provider"], attributes["llm.model_name"]) == ("openai", "tiny-1")
    assert attributes["llm.input_messages.0.message.role"] == "system"
    assert attributes["llm.input_messages.1.message.role"] == "user"
    assert attributes["llm.input_messages.1.message.content"] == "What is wrong?"
    assert attributes["llm.output_messages.0.message.role"] == "assistant"
    assert attributes["llm.output_messages.0.message.content"] == attributes["output.value"] == GOOD
    assert attributes["output.mime_type"] == "application/json"
    prompt, completion = attributes["llm.token_count.prompt"], attributes["llm.token_count.completion"]
    assert attributes["llm.token_count.total"] == prompt + completion > 0  # type: ignore[operator]
    assert attributes["llm.cost.total"] == pytest.approx((prompt + 2 * completion) / 1e6)  # type: ignore[operator]
    assert attributes["prompt.id"] == "critic/v1"
    assert span.start_time is not None and span.end_time is not None and span.start_time < span.end_time


async def test_what_is_not_known_is_left_out_and_not_zero(keyed: None) -> None:
    [span] = await told(Memory(), says(GOOD, usage=None))
    assert not [name for name in span.attributes or {} if name.startswith(("llm.token_count", "llm.cost"))]


async def test_calls_that_fail_are_errors_with_their_class_and_words(keyed: None) -> None:
    first, second = await told(Memory(), refuses(500), says(GOOD), retries=1)
    assert first.status.status_code is StatusCode.ERROR
    assert "500" in (first.status.description or "")
    [event] = first.events
    assert event.name == "exception"
    assert value(first, "output.value") is None
    assert second.status.status_code is StatusCode.OK


async def test_an_answer_that_had_to_be_repaired_is_an_error_and_then_none(keyed: None) -> None:
    first, second = await told(Memory(), says("no JSON"), says(GOOD))
    assert (first.status.description or "").startswith("InvalidAnswer: ")
    assert value(first, "output.value") == "no JSON"
    assert second.status.status_code is StatusCode.OK
    assert value(second, "llm.input_messages.2.message.content") == "no JSON"


# ---------------------------------------------------------------- what stays here


async def test_without_content_no_text_is_sent(tmp_path: Path, keyed: None) -> None:
    memory = Memory(content=False)
    script = scripts() | {"critic": [TOOL_CALL, "no JSON", DIAGNOSIS]}
    await TracedSession(tmp_path, goal_helps, script, memory).traced()
    nodes = [span for span in memory.ended if span.parent]
    assert len(memory.of_kind("LLM")) == 5
    assert not [span.name for span in nodes if value(span, "input.value") or value(span, "output.value")]
    for text in ("You are", "The goal is far", "no JSON", "rows", "message.content"):
        assert text not in everything(memory)


async def test_no_key_is_in_any_span(keyed: None) -> None:
    memory = Memory(secrets=["MY_KEY"])
    await told(memory, echoes_key("KEY is no JSON"), refuses(401))
    assert "***" in everything(memory)
    assert KEY not in everything(memory)
    assert json.dumps(KEY)[1:-1] not in everything(memory)


async def test_a_key_in_what_a_tool_or_a_node_says_is_taken_out(keyed: None) -> None:
    """They are no rows of the ledger, where that is done already."""
    memory = Memory(secrets=["MY_KEY"])
    with memory.run() as spans:
        handler = spans.handler
        for number in range(2):
            run_id = uuid4()
            await handler.on_tool_start({"name": "look"}, "", run_id=run_id, inputs={"what": KEY})
            if number:
                await handler.on_tool_error(ValueError(KEY), run_id=run_id)
            else:
                await handler.on_tool_end(KEY, run_id=run_id)
    assert len(memory.named("look")) == 2
    assert memory.named("look")[1].status.status_code is StatusCode.ERROR
    assert KEY not in everything(memory)
    assert json.dumps(KEY)[1:-1] not in everything(memory)


# ---------------------------------------------------------------- how it ends


class Ended:
    """A provider and exporter in memory in place of OTLP's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lost: int = 0) -> None:
        self.memory = Memory()
        self.lost = lost
        provider = TracerProvider(shutdown_on_exit=False)
        monkeypatch.setattr(spans_module, "otlp_provider", lambda: (provider, self))
        monkeypatch.setattr(spans_module, "Spans", lambda *_: self.memory.spans)


FACTS = RunFacts("the-run", "rules", False, lambda: {"promotions": 2})
WANTED = RunConfig.model_validate({"otel": {"enabled": True}})


@pytest.mark.parametrize(
    ("raised", "state", "code"),
    [
        (None, "done", StatusCode.OK),
        (asyncio.CancelledError(), "stopped", StatusCode.OK),
        (RuntimeError("no"), "failed", StatusCode.ERROR),
    ],
)
async def test_the_root_says_how_the_run_ended(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, state: str, code: StatusCode
) -> None:
    ended, events = Ended(monkeypatch), list[Event]()

    async def run() -> None:
        async with open_spans(WANTED, "http://127.0.0.1:1/v1/traces", FACTS, events.append) as spans:
            assert spans is ended.memory.spans
            if raised is not None:
                raise raised

    [end] = await asyncio.gather(run(), return_exceptions=True)
    assert type(end) is type(raised)
    root = ended.memory.one("cosignal run")
    assert json.loads(value(root, "output.value")) == {"state": state, "promotions": 2}
    assert json.loads(value(root, "input.value"))["task"] == "two_switch"
    assert root.status.status_code is code
    assert events == []


async def test_spans_that_did_not_arrive_are_told_and_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Ended(monkeypatch, lost=7)
    events: list[Event] = []
    async with open_spans(WANTED, "http://127.0.0.1:1/v1/traces", FACTS, events.append):
        pass
    assert events == [SpansLost(spans=7, address="http://127.0.0.1:1/v1/traces")]


ENDS: list[tuple[str, BaseException | None]] = [
    ("approve", GraphInterrupt()),
    ("validate", asyncio.CancelledError()),
    ("confirm", None),
    ("decide", RuntimeError("no")),
]


async def test_a_node_that_waits_for_a_human_or_is_cut_off_is_no_error(tmp_path: Path) -> None:
    memory = Memory()
    with memory.run() as spans:
        for name, error in ENDS:
            run_id, metadata = uuid4(), {"langgraph_node": name}
            await spans.handler.on_chain_start({}, {"point": 3}, run_id=run_id, name=name, metadata=metadata)
            if error is not None:
                await spans.handler.on_chain_error(error, run_id=run_id)
    codes = {span.name: span.status.status_code for span in memory.ended}
    assert {name for name, code in codes.items() if code is StatusCode.UNSET} == {"approve", "validate", "confirm"}
    assert codes["decide"] is StatusCode.ERROR
