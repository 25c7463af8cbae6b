"""What a visit of the evidence tools leaves in the books."""

from __future__ import annotations

from pathlib import Path

from cosignal.agents.llm.ledger import Call
from cosignal.graphs.tracing.visits import tool_call_records
from cosignal.runs.events import NodeLeft
from cosignal.runs.records import DecisionRecord, VisitRecord
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from cosignal.testing.answers import DIAGNOSIS
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from loop_runs import goal_helps, scripts


def test_each_answer_is_told_with_the_arguments_of_its_call() -> None:
    calls = [
        {"name": "query_trainer", "args": {"what": "episode"}, "id": "1"},
        {"name": "launch_branches", "args": {"steps": 9}, "id": "2"},
    ]
    answers = [
        ToolMessage("refused", name="launch_branches", tool_call_id="2", status="error"),
        ToolMessage("12345", name="query_trainer", tool_call_id="1"),
    ]
    told = tool_call_records([HumanMessage("x"), AIMessage("", tool_calls=calls)], answers)
    assert told == [
        {"name": "launch_branches", "args": {"steps": 9}, "status": "error", "chars": 7},
        {"name": "query_trainer", "args": {"what": "episode"}, "status": "success", "chars": 5},
    ]
    assert tool_call_records([], []) == []
    assert tool_call_records([HumanMessage("x")], [HumanMessage("y")]) == []


async def test_a_visit_of_the_tools_says_what_was_asked(tmp_path: Path) -> None:
    ask = AIMessage(
        "",
        tool_calls=[
            {"name": "query_trainer", "args": {"what": "metric_curve", "points": 5}, "id": "1"},
            {"name": "query_trainer", "args": {"what": "the weather"}, "id": "2"},
        ],
    )
    session = LoopSession(
        tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps), scripts() | {"critic": [ask, DIAGNOSIS]}
    )
    await session.run()
    store = await LoopStore.open(tmp_path)
    [visit] = await store.read(VisitRecord, node="critic_tools")
    await store.close()
    assert visit.detail is not None
    good, bad = visit.detail["calls"]
    answer = '{"what": "metric_curve", "rows": [0, 1, 2, 3, 4]}'
    asked = {"what": "metric_curve", "points": 5}
    assert good == {"name": "query_trainer", "args": asked, "status": "success", "chars": len(answer)}
    assert (bad["args"], bad["status"]) == ({"what": "the weather"}, "error")
    [left] = [event for event in session.events if isinstance(event, NodeLeft) and event.node == "critic_tools"]
    assert left.detail == visit.detail


async def test_where_training_goes_on_the_answer_says_when(tmp_path: Path) -> None:
    ask = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "episode", "points": 2}, "id": "1"}])
    trainer = FakeTrainer(tmp_path, clock="overlap", pace=1)
    # the Critic asks, and then finds nothing, so that nothing else happens
    nothing = '{"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "Too early."}]}'
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), {"critic": [ask, nothing]})
    session.config = session.config.model_copy(update={"clock": "overlap"})
    await session.run()
    store = await LoopStore.open(tmp_path)
    second = (await store.read(Call))[1]
    [decision] = await store.read(DecisionRecord)
    await store.close()
    content = second.messages[-1]["content"]
    assert content.startswith(f'{{"main_steps": {decision.created_steps + 2048}, "what": "episode"')
