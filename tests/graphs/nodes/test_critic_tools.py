"""The Critic's tools inside the graph: answered, bounded, counted and paid."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.graphs.nodes.critic_tools import ProbeRefusedError, launch_branches
from cosignal.runs.records import BranchRecord
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from cosignal.testing.answers import DIAGNOSIS
from langchain_core.messages import AIMessage
from loop_runs import POINT, goal_helps, leave_branch_steps, nodes, nothing_helps, queries, scripts, tables


async def test_a_tool_call_is_answered_and_forgotten_after_the_diagnosis(tmp_path: Path) -> None:
    ask = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "metric_curve"}, "id": "1"}])
    wrong = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "the weather"}, "id": "2"}])
    said = scripts()
    said["critic"] = [ask, wrong, DIAGNOSIS]
    trainer = FakeTrainer(tmp_path)
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), said)
    await session.run()
    assert nodes(session)[:6] == ["observe", "critic", "critic_tools", "critic", "critic_tools", "critic"]
    assert trainer.requests.count("query") == 1
    last = (await tables(tmp_path))["calls"][2]
    assert [message["role"] for message in last["messages"]] == ["system", "human", "ai", "tool", "ai", "tool"]
    assert "the weather" in last["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("said", "asked", "refused"),
    [
        ([queries("1", "2", "3", "4", "5")], 3, 2),
        ([queries("1", "2"), queries("3", "4")], 3, 1),
        ([queries("1"), queries("same", "same", "same")], 3, 1),  # they get ids of their own
        ([queries("1", "2"), queries("3")], 3, 0),
    ],
)
async def test_evidence_calls_bounds_calls_and_not_messages(
    tmp_path: Path, said: list[Any], asked: int, refused: int
) -> None:
    trainer = FakeTrainer(tmp_path)
    session = LoopSession(
        tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts() | {"critic": [*said, DIAGNOSIS]}
    )
    await session.run()
    assert trainer.requests.count("query") == asked
    last = (await tables(tmp_path))["calls"][len(said)]
    answers = [message["content"] for message in last["messages"] if message["role"] == "tool"]
    assert len(answers) == asked + refused
    assert sum("no tool call is left" in answer for answer in answers) == refused
    assert "No more tool calls" in last["messages"][0]["content"]


async def test_probes_that_run_beside_each_other_stay_within_the_share(tmp_path: Path) -> None:
    """Two probes fit alone and not together; each must see what the other has spent, the control's branch too."""
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps))
    await leave_branch_steps(tmp_path, session, 130_000)
    store = await LoopStore.open(tmp_path)
    ctx = await session.context(store, [])
    status = (await ctx.client.status()).model_dump(mode="json")
    runtime = SimpleNamespace(state={"status": status, "point": POINT, "round": 0}, context=ctx)

    async def probes(*kicks: float) -> list[Any]:
        probe = partial(launch_branches.coroutine, steps=50_000, runtime=runtime)  # type: ignore[attr-defined]
        return await asyncio.gather(*(probe(kick=kick) for kick in kicks), return_exceptions=True)

    assert [type(answer) for answer in await probes(0.05, 0.1)] == [str, ProbeRefusedError]
    assert [row.arm for row in await store.read(BranchRecord, phase="probe")] == ["control", "probe"]
    # after a crash the node runs again: what has run is paid
    assert [type(answer) for answer in await probes(0.05, 0.1)] == [str, ProbeRefusedError]
    await store.close()


async def test_a_probe_branch_is_run_and_counted(tmp_path: Path) -> None:
    args = {"steps": 20_000, "kick": 0.05}
    too_long = AIMessage("", tool_calls=[{"name": "launch_branches", "args": {"steps": 10**6}, "id": "1"}])
    probe = AIMessage("", tool_calls=[{"name": "launch_branches", "args": args, "id": "2"}])
    said = scripts()
    said["critic"] = [too_long, probe, DIAGNOSIS]
    pool = FakeBranchPool(tmp_path, lambda job: 0.0)
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), pool, {**said, "generator": ["x", "x"]})
    await session.run()
    kept = await tables(tmp_path)
    assert [(row["arm"], row["phase"], row["horizon"]) for row in kept["branches"]] == [
        ("control", "probe", 20_000),
        ("probe", "probe", 20_000),
    ]
    answers = [message for message in kept["calls"][2]["messages"] if message["role"] == "tool"]
    assert "50000" in answers[0]["content"]
    assert [row["arm"] for row in json.loads(answers[1]["content"])] == ["control", "probe"]
