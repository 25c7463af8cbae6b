"""A library of signals in a whole loop: the Generator alone is shown examples, beside what a human refused and why."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from cosignal.config.identity import task_identity
from cosignal.config.run_config import RunConfig
from cosignal.graphs.library import library_examples
from cosignal.graphs.replay.recorded_calls import RunTables
from cosignal.graphs.replay.replay import replay_role
from cosignal.runs.approvals import answer
from cosignal.runs.events import ApprovalNeeded, Warned
from cosignal.runs.run_view import RunView
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, proposals
from loop_runs import goal_helps, nothing_helps, tables
from replays import recorded_run

BECAUSE = "Nobody should be paid for the goal alone."


def entry(title: str, expression: str, **origin: Any) -> dict[str, Any]:
    task = task_identity(fake_run_config().task)
    known = {"task": task.name, "task_digest": task.digest, "run": "r", "seed": 7, "proposal": "p80-r0-0",
             "claim": "policy", "gain": 0.8, "over_kick": 0.5, "steps": 1000}  # fmt: skip
    term = {"name": "t", "kind": "potential", "expression": expression}
    return {"title": title, "signal": {"stage": "emerging", "terms": [term]}, "origin": known | origin}


LIBRARY = [
    entry("Both behind the door", "door_open * (1 - dist_goal / 17)"),
    entry("The same, later", "door_open*(1 - dist_goal/17)", gain=0.1),
    entry("To the moon", "-dist_moon / 3"),
]


def block_of(row: dict[str, Any]) -> dict[str, Any]:
    [block] = re.findall(r"```json\n(.*?)\n```", row["messages"][1]["content"], re.DOTALL)
    return json.loads(block)  # type: ignore[no-any-return]


async def test_examples_and_the_reason_of_a_refusal_are_in_the_next_generators_prompt(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    said = {"critic": [DIAGNOSIS] * 2, "generator": [proposals(GOAL), proposals(DOOR)]}
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps), said)
    session.config = fake_run_config(approve="human", patience=60_000, max_share=0.95, library=LIBRARY)
    (tmp_path / "config.json").write_text(session.config.resolved_json())
    task = asyncio.create_task(session.run())
    while not (questions := [event for event in session.events if isinstance(event, ApprovalNeeded)]):
        assert not task.done(), task.exception()
        await asyncio.sleep(0.001)
    assert await asyncio.to_thread(answer, tmp_path, questions[0].id, False, BECAUSE)
    await task

    calls = (await tables(tmp_path))["calls"]
    critic, generator = [row for row in calls if row["point"] != calls[0]["point"]][:2]
    assert (critic["role"], generator["role"]) == ("critic", "generator")
    block = block_of(generator)
    assert [entry["declined_because"] for entry in block["history"]] == [BECAUSE]
    [shown] = block["examples"]  # of equal terms the first
    assert (shown["title"], shown["task"], shown["same_task"]) == ("Both behind the door", "two_switch", True)
    assert (shown["seed"], shown["proven"], shown["gain"], shown["gain_over_kick"]) == (7, "policy", 0.8, 0.5)
    assert (shown["stage"], shown["terms"][0]["expression"]) == ("emerging", "door_open * (1 - dist_goal / 17)")
    assert block["left_out"] == {"examples_of_other_names": 1}
    assert "### Examples" in generator["messages"][0]["content"]
    assert "examples" not in block_of(critic) and "### Examples" not in critic["messages"][0]["content"]
    # The user is told of the one that is not shown, once.
    [warning] = [event.message for event in session.events if isinstance(event, Warned)]
    assert "got 1 that do not" in warning


async def test_the_rules_answer_as_without_examples_and_a_replay_asks_the_same_question(tmp_path: Path) -> None:
    answers = []
    for name, library in (("with", LIBRARY[:1]), ("without", [])):
        path = tmp_path / name
        path.mkdir()
        await recorded_run(path, gain=nothing_helps, config=fake_run_config(library=library))
        calls = (await tables(path))["calls"]
        answers.append([row["parsed"] for row in calls if row["role"] != "critic"])
        found = await replay_role(path, "generator")
        assert found.replays and all(replay.rebuilt.same for replay in found.replays)
        config = RunConfig.load(path / "config.json")
        recorded = RunTables(RunView(path), config).questions("ranker")[0]
        assert recorded and all("examples" not in question.payload for question in recorded)
    assert answers[0] == answers[1]


def test_where_a_signal_comes_from_is_never_claimed_to_be_this_task_without_its_digest() -> None:
    bare = {name: value for name, value in entry("bare", "-dist_mate").items() if name != "origin"}
    library = [
        entry("this", "-dist_goal"), entry("other", "-dist_door", task="relay"),
        entry("settings", "-x", task_digest="0" * 16), bare,
    ]  # fmt: skip
    found = library_examples(fake_run_config(library=library, library_of_other_tasks=True))
    told = [(one.title, one.task, one.same_task, one.proven) for one in found]
    assert told == [
        ("this", "two_switch", True, "policy"),
        ("other", "relay", False, "policy"),
        ("settings", "two_switch", False, "policy"),
        ("bare", None, False, None),
    ]
