"""The approval interrupt has the shape that reviewing interfaces show, and their answers are understood."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cosignal.errors import ApprovalError
from cosignal.graphs.context import Context
from cosignal.graphs.graph import build_graph
from cosignal.graphs.human_review import answer_in, question_in, review_request
from cosignal.runs.approvals import Answer
from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.records import DecisionRecord
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from langchain.agents.middleware.human_in_the_loop import HITLRequest, HITLResponse
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from loop_runs import goal_helps, scripts
from pydantic import TypeAdapter

QUESTION = ApprovalNeeded(
    id="p128-r0",
    proposal="p128-r0-1",
    title="goal",
    reason="it may help",
    terms=["potential phi: -dist_goal / 17 (weight 1)"],
    gate="gain +1.700",
    diff=["+ a term"],
    replaces=0,
    adopted="state",
)
THREAD = {"configurable": {"thread_id": "one"}}
APPROVE, REJECT = {"type": "approve"}, {"type": "reject", "message": "too dear"}


# ---------------------------------------------------------------- shapes


def test_the_question_is_langchains_request_of_one_action_that_is_approved_or_rejected() -> None:
    request = review_request(QUESTION)
    # A validated TypedDict has lost what its type does not know.
    assert TypeAdapter(HITLRequest).validate_python(json.loads(json.dumps(request)), strict=True) == request
    [action], [config] = request["action_requests"], request["review_configs"]
    assert config == {"action_name": action["name"], "allowed_decisions": ["approve", "reject"]}
    assert action["args"]["diff"] == ["+ a term"]
    for part in ("goal", "it may help", "gain +1.700", "+ a term"):
        assert part in action["description"]


def test_the_question_is_read_back_also_from_a_checkpoint_of_an_earlier_version() -> None:
    for value in (review_request(QUESTION), QUESTION.model_dump(mode="json")):
        assert question_in(json.loads(json.dumps(value))) == QUESTION


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"decisions": [APPROVE]}, Answer(yes=True)),
        ({"decisions": [REJECT]}, Answer(yes=False, because="too dear")),
        ({"decisions": [{"type": "reject"}]}, Answer(yes=False)),
        ({"decisions": [{"type": "respond", "message": "later"}]}, Answer(yes=False, because="later")),
        (APPROVE, Answer(yes=True)),
        (REJECT, Answer(yes=False, because="too dear")),
        ({"type": "accept", "args": None}, Answer(yes=True)),
        ([{"type": "accept", "args": None}], Answer(yes=True)),
        ([{"type": "ignore", "args": None}], Answer(yes=False)),
        ([{"type": "response", "args": "not now"}], Answer(yes=False, because="not now")),
        ({"yes": True}, Answer(yes=True)),
        ({"yes": False, "because": "no"}, Answer(yes=False, because="no")),
        ({"yes": None}, Answer(yes=None)),
    ],
)
def test_every_shape_of_an_answer_is_understood(answer: Any, expected: Answer) -> None:
    assert answer_in(json.loads(json.dumps(answer))) == expected


@pytest.mark.parametrize("decision", [APPROVE, REJECT, {"type": "reject"}])
def test_what_langchain_calls_a_response_is_one_here(decision: dict[str, Any]) -> None:
    response = TypeAdapter(HITLResponse).validate_python({"decisions": [decision]})
    assert answer_in(response) == answer_in(decision)


@pytest.mark.parametrize(
    "answer",
    [
        {"decisions": []},
        {"decisions": [APPROVE, APPROVE]},
        {"decisions": [{"type": "edit", "edited_action": {"name": "promote", "args": {}}}]},
        {"type": "edit", "args": {"action": "promote", "args": {}}},
        {"yes": "of course"},
        {"type": ["accept"]},
        {},
        "yes",
        None,
    ],
)
def test_what_is_no_answer_is_refused_with_one_that_is(answer: Any) -> None:
    with pytest.raises(ApprovalError, match=r"'decisions': \[\{'type': 'approve'\}\]"):
        answer_in(answer)


# ---------------------------------------------------------------- the graph


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[tuple[Any, Context, FakeTrainer]]:
    """A graph that is driven by a caller of its own and has stopped at the question."""
    trainer = FakeTrainer(tmp_path)
    run = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts())
    run.config = fake_run_config(approve="human")
    store = await LoopStore.open(tmp_path)
    ctx = await run.context(store, [])
    graph = build_graph(run.config, InMemorySaver())
    await graph.ainvoke({"done_point": -1}, THREAD, context=ctx)
    yield graph, ctx, trainer
    await store.close()


async def asked(graph: Any) -> Any:
    [interrupt] = (await graph.aget_state(THREAD)).interrupts
    return interrupt.value


async def test_an_approval_promotes(waiting: tuple[Any, Context, FakeTrainer]) -> None:
    graph, ctx, trainer = waiting
    assert question_in(await asked(graph)).proposal == "p128-r0-1"
    await graph.ainvoke(Command(resume={"decisions": [APPROVE]}), THREAD, context=ctx)
    assert [key for key, *_ in trainer.log] == ["p128-r0-1:0"]


async def test_a_rejection_declines_and_what_was_said_is_passed_on(
    waiting: tuple[Any, Context, FakeTrainer],
) -> None:
    graph, ctx, trainer = waiting
    command: Command[Any] = Command(resume=[{"type": "response", "args": "too dear"}])
    updates = [update async for update in graph.astream(command, THREAD, context=ctx, stream_mode="updates")]
    assert updates[0]["approve"]["approved"] is False
    [decision] = [row for row in await ctx.store.read(DecisionRecord) if row.verdict == "declined"]
    assert decision.detail.declined_because == "too dear"
    assert trainer.log == []


async def test_an_answer_that_cannot_be_read_asks_again_and_says_why(
    waiting: tuple[Any, Context, FakeTrainer],
) -> None:
    graph, ctx, trainer = waiting
    before = await asked(graph)
    for wrong in ({"type": "edit", "args": {}}, "sure"):
        await graph.ainvoke(Command(resume=wrong), THREAD, context=ctx)
        again = await asked(graph)
        assert question_in(again) == question_in(before)
        assert again["action_requests"][0]["description"].startswith("the answer must approve or reject")
    await graph.ainvoke(Command(resume={"decisions": [APPROVE]}), THREAD, context=ctx)
    assert len(trainer.log) == 1
