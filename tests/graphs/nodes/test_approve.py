"""`approve: human`: a promotion waits for an answer, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from cosignal.graphs.history import quarantined, tried
from cosignal.runs.approvals import answer
from cosignal.runs.events import ApprovalGiven, ApprovalNeeded, Decided, Promoted
from cosignal.runs.records import ProposalRecord
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, proposals
from cosignal.testing.fake_run import Scripts
from kills import Counted, Fragile, dies_at
from loop_runs import POINT, comparable, goal_helps, nodes, nothing_helps, scripts, tables

KEY = f"p{POINT}-r0"


def session(
    run_dir: Path, trainer: FakeTrainer | None = None, pool: FakeBranchPool | None = None, said: Scripts | None = None
) -> LoopSession:
    """Of a run that asks a human; its directory is one that `RunView` reads."""
    (run_dir / "run.json").write_text("{}")
    found = LoopSession(
        run_dir, trainer or FakeTrainer(run_dir), pool or FakeBranchPool(run_dir, goal_helps), said or scripts()
    )
    found.config = fake_run_config(approve="human")
    (run_dir / "config.json").write_text(found.config.resolved_json())
    return found


async def asked(run: LoopSession, task: asyncio.Task[None]) -> ApprovalNeeded:
    """The question, once it is asked."""
    while True:
        questions = [event for event in run.events if isinstance(event, ApprovalNeeded)]
        if questions:
            return questions[0]
        assert not task.done(), task.exception()
        await asyncio.sleep(0.001)


async def answered(run: LoopSession, yes: bool, because: str = "") -> ApprovalNeeded:
    """Run to the end, the question answered as from another process."""
    task = asyncio.create_task(run.run())
    question = await asked(run, task)
    assert await asyncio.to_thread(answer, run.run_dir, question.id, yes, because)
    await task
    return question


async def killed_while_waiting(run: LoopSession) -> ApprovalNeeded:
    task = asyncio.create_task(run.run())
    question = await asked(run, task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return question


async def test_yes_promotes(tmp_path: Path) -> None:
    run = session(tmp_path)
    await answered(run, yes=True)
    tried = ["generator", "check", "rank_proposals", "validate", "decide"]
    assert nodes(run) == ["observe", "critic", *tried, "approve", "approve", "confirm", "promote", "observe"]
    assert [key for key, *_ in run.trainer.log] == [f"{KEY}-1:0"]
    assert [event.yes for event in run.events if isinstance(event, ApprovalGiven)] == [True]
    view = RunView(tmp_path)
    assert view.waiting_for() is None
    assert [visit.status for visit in view.visits() if visit.node == "approve"] == ["ok"]
    assert run.trainer.finished


async def test_the_question_has_all_that_an_answer_needs(tmp_path: Path) -> None:
    question = await answered(session(tmp_path), yes=True)
    gate = "p128-r0-1: gain +1.700 over 5 seeds"
    assert question.gate.startswith(gate)
    assert question.model_copy(update={"gate": gate}) == ApprovalNeeded(
        id=KEY,
        proposal=f"{KEY}-1",
        title="goal",
        reason="it may help",
        terms=["potential phi: -dist_goal / 17 (weight 1)"],
        gate=gate,
        diff=[
            "~ scale 1 → 2",
            "+ exploration kick: actor head × 0.05",
            "+ potential phi: -dist_goal / 17 (weight 1)",
        ],
        replaces=0,
        adopted="state",
    )


async def test_while_it_waits_status_says_so_and_the_trainer_stands_still(tmp_path: Path) -> None:
    run = session(tmp_path)
    task = asyncio.create_task(run.run())
    question = await asked(run, task)
    waits = RunView(tmp_path).waiting_for()
    assert waits == question.model_dump(mode="json")
    assert RunView(tmp_path, lenient=True).status()["waiting_for"] == KEY  # a fake trainer writes no trainer.db
    assert RunView(tmp_path).visits()[-1].status == "waiting"
    releases = run.trainer.requests.count("release")
    await asyncio.sleep(0.02)  # a hundred polls
    assert (run.trainer.point, run.trainer.requests.count("release"), task.done()) == (POINT, releases, False)
    assert len([event for event in run.events if isinstance(event, ApprovalNeeded)]) == 1
    answer(tmp_path, KEY, True)
    await task


async def test_no_declines_and_the_signal_never_comes_again(tmp_path: Path) -> None:
    run = session(tmp_path)
    await answered(run, yes=False)
    assert run.trainer.log == []
    assert run.trainer.finished
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["winner"], decision["version"]) == ("declined", f"{KEY}-1", None)
    assert decision["detail"]["reason"].startswith(
        "declined by the human who was asked; the gate had accepted: p128-r0"
    )
    assert [event.verdict for event in run.events if isinstance(event, Decided)] == ["accept", "declined"]
    store = await LoopStore.open(tmp_path)
    rows = {row.id: row.signal for row in await store.read(ProposalRecord)}
    assert await quarantined(store) == {rows[f"{KEY}-1"].shape_hash()}
    assert {entry.proposal_id: entry.verdict for entry in await tried(store)}[f"{KEY}-1"] == "declined"
    await store.close()


async def test_why_it_was_declined_is_recorded_and_stands_in_the_next_prompts(tmp_path: Path) -> None:
    because = "Nobody should be paid for the goal alone."
    said = {"critic": [DIAGNOSIS] * 2, "generator": [proposals(GOAL), proposals(DOOR)]}
    run = session(tmp_path, said=said)
    run.config = fake_run_config(approve="human", patience=60_000, max_share=0.95)
    question = await answered(run, yes=False, because=because)
    assert [event.because for event in run.events if isinstance(event, ApprovalGiven)] == [because]
    kept = await tables(tmp_path)
    assert (kept["decisions"][0]["id"], kept["decisions"][0]["verdict"]) == (question.id, "declined")
    assert kept["decisions"][0]["detail"]["declined_because"] == because
    # Whoever is asked at the next intervention is shown it, beside the proposal that it is about; so the ledger has it.
    told = []
    for row in kept["calls"]:
        [block] = re.findall(r"```json\n(.*?)\n```", row["messages"][1]["content"], re.DOTALL)
        told.append((row["role"], [entry.get("declined_because") for entry in json.loads(block)["history"]]))
    assert told[:4] == [("critic", []), ("generator", []), ("critic", [because]), ("generator", [because])]


async def test_killed_while_it_waits_it_asks_the_same_again(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    first = await killed_while_waiting(session(tmp_path, trainer))
    assert RunView(tmp_path).waiting_for() == first.model_dump(mode="json")
    trainer.restart(points_back=2)
    again = session(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps))
    assert await answered(again, yes=True) == first
    assert [(key, point) for key, point, *_ in trainer.log] == [(f"{KEY}-1:0", POINT)]
    assert nodes(again)[:4] == ["approve", "approve", "confirm", "promote"]


@pytest.mark.parametrize("yes", [True, False])
async def test_an_answer_given_while_no_loop_runs_is_used(tmp_path: Path, yes: bool) -> None:
    trainer = FakeTrainer(tmp_path)
    question = await killed_while_waiting(session(tmp_path, trainer))
    assert answer(tmp_path, question.id, yes)
    again = session(tmp_path, trainer)
    await again.run()
    assert not [event for event in again.events if isinstance(event, ApprovalNeeded)]
    assert [event.yes for event in again.events if isinstance(event, ApprovalGiven)] == [yes]
    assert len(trainer.log) == yes


async def test_with_auto_nobody_is_asked(tmp_path: Path) -> None:
    run = session(tmp_path)
    run.config = fake_run_config()
    await run.run()
    assert not [event for event in run.events if isinstance(event, ApprovalNeeded | ApprovalGiven)]
    assert len(run.trainer.log) == 1


async def test_the_kick_alone_is_asked_about_too(tmp_path: Path) -> None:
    pool = FakeBranchPool(tmp_path, nothing_helps, kick_revives=True)
    run = session(tmp_path, pool=pool)
    question = await answered(run, yes=True)
    assert (question.proposal, question.title, question.terms) == ("control", "the exploration kick alone", [])
    assert [event.proposal for event in run.events if isinstance(event, Promoted)] == ["control"]


async def test_without_the_gate_the_human_is_the_only_one_who_decides(tmp_path: Path) -> None:
    run = session(tmp_path)
    run.config = fake_run_config(approve="human", gated=False)
    question = await answered(run, yes=False)
    assert (question.proposal, question.gate, question.adopted) == (f"{KEY}-1", "the gate is off", "signal")
    assert run.trainer.log == []


async def test_overlap_training_goes_on_and_a_question_that_outlives_it_is_stale(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, clock="overlap")
    run = session(tmp_path, trainer)
    run.config = run.config.model_copy(update={"clock": "overlap"})
    task = asyncio.create_task(run.run())
    question = await asked(run, task)
    seen = trainer.point
    await task
    assert trainer.finished
    assert trainer.point > seen
    assert trainer.log == []
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["id"], decision["verdict"]) == (question.id, "stale")
    assert decision["detail"]["reason"].startswith("training was over before anybody answered")
    assert [event.yes for event in run.events if isinstance(event, ApprovalGiven)] == [None]
    assert RunView(tmp_path).waiting_for() is None


@pytest.mark.parametrize("yes", [True, False])
async def test_killed_at_any_effect_it_ends_as_if_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes: bool
) -> None:
    """It dies at every seventh write or request from the decision on; the answer is there before the question."""
    reference = prepared(tmp_path / "reference", yes)
    reference.events = counted = Counted()
    assert not await dies_at(reference, counted.fragile, monkeypatch)
    expected, at, died = comparable(await tables(reference.run_dir)), counted.when["decided"], True
    while died:
        run = prepared(tmp_path / f"killed-{at}", yes)
        died = await dies_at(run, Fragile(at, after=bool(at % 2)), monkeypatch)
        if died:
            run.trainer.restart(points_back=at % 2)
            await prepared(run.run_dir, yes, run.trainer).run()
        assert run.trainer.changes == reference.trainer.changes, at
        assert comparable(await tables(run.run_dir)) == expected, at
        at += 7
    assert at > counted.when["decided"] + 9


def prepared(run_dir: Path, yes: bool, trainer: FakeTrainer | None = None) -> LoopSession:
    (run_dir / "approvals").mkdir(parents=True, exist_ok=True)
    (run_dir / "approvals" / f"{KEY}.json").write_text(json.dumps({"yes": yes}))
    return session(run_dir, trainer)
