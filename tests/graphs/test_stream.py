"""What a node tells reaches LangGraph's stream mode `custom` as plain JSON, and the run's own events once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from cosignal.graphs.context import Context
from cosignal.graphs.graph import build_graph
from cosignal.graphs.tracing.visits import VisitRecorder
from cosignal.runs.events import Event, NodeEntered, NodeLeft, Warned, stream_chunk
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from langchain_core.runnables import RunnableLambda
from loop_runs import goal_helps, scripts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "langgraph.md"


def session(run_dir: Path) -> LoopSession:
    return LoopSession(run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, goal_helps), scripts())


async def streamed(run: LoopSession, modes: Sequence[Any]) -> list[tuple[str, Any]]:
    """The chunks of a graph that is streamed as LangGraph's own users stream it."""
    store = await LoopStore.open(run.run_dir)
    ctx = await run.context(store, [])
    callbacks = [VisitRecorder(store, ctx.tell)]
    graph = build_graph(run.config)
    stream = graph.astream({"done_point": -1}, {"callbacks": callbacks}, context=ctx, stream_mode=modes)
    chunks = [chunk async for chunk in stream]
    await store.close()
    return chunks


def of_nodes(events: Sequence[Event]) -> list[Event]:
    """The events that nodes tell, without those of their visits, which callbacks tell."""
    return [event for event in events if not isinstance(event, NodeEntered | NodeLeft)]


async def test_what_nodes_tell_is_in_the_mode_custom_as_json_between_the_updates(tmp_path: Path) -> None:
    run = session(tmp_path)
    chunks = await streamed(run, ["updates", "custom"])
    custom = [chunk for mode, chunk in chunks if mode == "custom"]
    assert custom == [stream_chunk(event) for event in of_nodes(run.events)]
    assert json.loads(json.dumps(custom)) == custom
    assert [chunk["type"] for chunk in custom if chunk["type"] != "branch_finished"] == [
        "diagnosed", *["proposal_made"] * 3, "decided", "promoted"
    ]  # fmt: skip
    # Before the update of the node that tells it.
    order = [chunk["type"] if mode == "custom" else next(iter(chunk)) for mode, chunk in chunks]
    assert order.index("diagnosed") + 1 == order.index("critic")
    assert order.index("branch_finished") < order.index("validate") == order.index("decided") - 1


async def test_a_run_tells_each_event_once_with_a_stream_and_without(tmp_path: Path) -> None:
    for name in ("streamed", "run"):
        (tmp_path / name).mkdir()
    one, other = session(tmp_path / "streamed"), session(tmp_path / "run")
    await streamed(one, ["updates", "custom"])
    await other.run()
    kinds = [event.kind for event in other.events]
    assert [event.kind for event in one.events] == kinds
    assert kinds.count("promoted") == kinds.count("diagnosed") == 1


async def test_who_does_not_ask_for_custom_gets_none_and_the_run_its_events(tmp_path: Path) -> None:
    run = session(tmp_path)
    assert {mode for mode, _ in await streamed(run, ["updates"])} == {"updates"}
    assert of_nodes(run.events)


@pytest.fixture
async def ctx(tmp_path: Path) -> Any:
    run = session(tmp_path)
    store = await LoopStore.open(tmp_path)
    ctx = await run.context(store, [])
    ctx.tell = run.events.append
    yield ctx, run.events
    await store.close()


async def test_where_no_graph_runs_events_are_told_all_the_same(ctx: tuple[Context, list[Event]]) -> None:
    context, events = ctx
    context.emit(Warned(message="outside"))
    # A runnable of LangChain's that is no node has a config, and no stream.
    await RunnableLambda(lambda _: context.emit(Warned(message="in a runnable"))).ainvoke(None)
    assert [event.message for event in events if isinstance(event, Warned)] == ["outside", "in a runnable"]


def test_the_page_lists_what_nodes_tell_with_its_fields() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {kind: re.findall(r"`(\w+)`", fields) for kind, fields in rows}
    events = {event.model_fields["kind"].default: event for event in get_args(get_args(Event)[0])}
    assert listed.keys() < events.keys()
    for kind, fields in listed.items():
        assert fields == [name for name in events[kind].model_fields if name != "kind"], kind
    outside = {"run_started", "progress", "run_finished", "spans_lost", "node_entered", "node_left"}
    assert events.keys() - listed.keys() == outside | {"approval_needed", "approval_given"}
