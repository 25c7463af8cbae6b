"""The loop's tables and their one writer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from cosignal.config.run_config import RunConfig
from cosignal.errors import NotARunError, StorageError
from cosignal.rl.signals.preview import SignalPreview
from cosignal.runs.records import (
    BranchRecord,
    DecisionDetail,
    DecisionRecord,
    Outcome,
    ProposalRecord,
    RankingRecord,
    VisitRecord,
)
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LATER_COLUMNS, LoopStore
from records import branch, call, decision, proposal, rows


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LoopStore]:
    opened = await LoopStore.open(tmp_path)
    yield opened
    await opened.close()


async def test_a_write_said_twice_is_one_row(store: LoopStore) -> None:
    record = proposal(1, 0, 0)
    await store.write(record)
    await store.write(record)
    await store.write(record.model_copy(update={"problems": ["no"], "rank": 2}))
    [found] = await store.read(ProposalRecord, point=1, round=0)
    assert found == record.model_copy(update={"problems": ["no"], "rank": 2})
    assert await store.read(ProposalRecord, point=2) == []
    await store.write()  # nothing is nothing


async def test_records_come_in_the_order_of_the_run(store: LoopStore) -> None:
    await store.write(*(decision(f"p{point}-r{number}", point, number) for point, number in ((9, 0), (8, 1), (8, 0))))
    assert [row.id for row in await store.read(DecisionRecord)] == ["p8-r0", "p8-r1", "p9-r0"]


async def test_a_decision_has_only_the_keys_that_are_known_of_it(store: LoopStore, tmp_path: Path) -> None:
    outcome = Outcome(verdict="accept", winner="p8-r0-0", judgements=[], screened=[], problems=["the gate is off"])
    promoted = outcome.model_copy(update={"reason": "why", "adopt": None, "seed": 3})
    await store.write(decision("p8-r0", 8, detail=DecisionDetail(reason="too early", judgements=[], screened=[])))
    await store.write(decision("p8-r1", 8, 1, detail=promoted))
    first, second = rows(tmp_path, "decisions")
    assert first["detail"] == {"reason": "too early", "judgements": [], "screened": []}
    assert second["detail"] == {
        "verdict": "accept", "winner": "p8-r0-0", "judgements": [], "screened": [], "problems": ["the gate is off"],
        "reason": "why", "adopt": None, "seed": 3,
    }  # fmt: skip
    [_, again] = await store.read(DecisionRecord)
    await store.write(again)  # what is read and written again is the same
    assert rows(tmp_path, "decisions")[1] == second


async def test_a_proposal_keeps_its_numbers_and_one_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    preview = SignalPreview(phi_start=0.5, distances=[("p1-r0-0", 0.25)])
    columns = [name for name in ProposalRecord.model_fields if name not in LATER_COLUMNS["proposals"]]
    older = proposal().model_dump(mode="json", include=set(columns))
    values = [json.dumps(older[name]) if isinstance(older[name], list | dict) else older[name] for name in columns]
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database, database:
        database.execute(f"CREATE TABLE proposals({', '.join(columns)}, UNIQUE(id))")
        database.execute(f"INSERT INTO proposals VALUES ({', '.join('?' * len(columns))})", values)
    opened = await LoopStore.open(tmp_path)
    assert await opened.read(ProposalRecord) == [proposal()]
    await opened.write(proposal(position=1, preview=preview))
    assert [row.preview for row in await opened.read(ProposalRecord)] == [None, preview]
    await opened.close()
    assert rows(tmp_path, "proposals")[1]["preview"] == {
        "phi_start": 0.5, "phi_after": [], "distances": [["p1-r0-0", 0.25]],
    }  # fmt: skip


async def test_extra_steps_are_branches_with_their_evaluation_and_play_for_the_ranker(store: LoopStore) -> None:
    assert await store.extra_steps() == (0, 0)
    probe = branch("a", 8, 0, 100, phase="probe", arm="probe")
    await store.write(probe, branch("b", 8, 0, 200), branch("c", 8, 1, 400))
    await store.write(RankingRecord(point=8, ranker="r", steps=50))
    assert await store.extra_steps() == (730, 50)
    # the Critic's probe and the Ranker's play come before the round's branches
    assert await store.extra_steps(before=(8, 0)) == (110, 50)
    assert await store.extra_steps(before=(8, 1)) == (320, 50)
    assert await store.extra_steps(before=(4, 0)) == (0, 0)


async def test_usage_counts_what_was_asked_and_not_what_was_refused(store: LoopStore) -> None:
    calls = [("a", "ok", 10, 5, 15, 0.25), ("b", "invalid", None, None, 7, None), ("c", "budget", None, None, 0, None)]
    for key, outcome, sent, got, charged, cost in calls:
        tokens = {"input_tokens": sent, "output_tokens": got, "charged_tokens": charged, "cost_usd": cost}
        await store.write(call(key, outcome=outcome, **tokens))
    assert await store.usage() == (2, 22, 0.25)


async def test_a_run_of_an_earlier_version_opens_and_keeps_what_it_has_spent(tmp_path: Path) -> None:
    """Its table `calls` has fewer columns."""
    kept = call("a", input_tokens=10, output_tokens=5).model_dump(mode="json", exclude=set(LATER_COLUMNS["calls"]))
    values = [json.dumps(value) if isinstance(value, list) else value for value in kept.values()]
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database, database:
        database.execute(f"CREATE TABLE calls({', '.join(kept)}, UNIQUE(id))")
        database.execute(f"INSERT INTO calls VALUES ({', '.join('?' * len(kept))})", values)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.json").write_text(RunConfig().resolved_json())
    [read] = RunView(tmp_path).calls()  # also before the loop opens it
    assert (read.input_tokens, read.cost_usd, read.charged_tokens, read.fallback) == (10, None, 0, 0)
    for _ in range(2):
        opened = await LoopStore.open(tmp_path)
        assert await opened.usage() == (1, 15, 0.0)
        await opened.close()


async def test_named_values_are_json(store: LoopStore) -> None:
    await store.set(state="running", wall_s=1.5)
    await store.set(state="done")
    assert (await store.get("state"), await store.get("wall_s"), await store.get("error", "none")) == (
        "done",
        1.5,
        "none",
    )


async def test_visits_of_a_killed_process_are_closed(store: LoopStore) -> None:
    visit = VisitRecord(
        task_id="t", node="validate", point=1, round=0, started=5.0, ended=None, status="running", detail=None
    )
    await store.write(visit)
    await store.close_visits()
    [closed] = await store.read(VisitRecord)
    assert (closed.status, closed.ended, closed.detail) == ("killed", 5.0, None)


async def test_old_checkpoints_are_pruned(store: LoopStore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database, database:
        database.execute("CREATE TABLE checkpoints(thread_id, checkpoint_ns, checkpoint_id)")
        database.execute("CREATE TABLE writes(thread_id, checkpoint_ns, checkpoint_id)")
        for table in ("checkpoints", "writes"):
            rows = [(thread, "", f"{i:03d}") for thread in ("a", "b") for i in range(9)]
            database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    await store.prune_checkpoints("a", keep=2)
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database:
        for table in ("checkpoints", "writes"):
            kept = database.execute(f"SELECT checkpoint_id FROM {table} WHERE thread_id = 'a'").fetchall()
            assert kept == [("007",), ("008",)]
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (11,)


async def test_a_full_disk_is_named(store: LoopStore, tmp_path: Path) -> None:
    [[pages]] = await store._connection.execute_fetchall("PRAGMA page_count")
    await store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(
        StorageError, match=r"loop\.db' must be written, but cannot be \(database or disk is full\); make"
    ):
        await store.set(error="x" * 100_000)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"x" * 4096, "file is not a database.*restore it from a copy"), (None, "Is a directory.*move away")],
)
async def test_a_damaged_database_or_a_folder_in_its_place_is_named(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is None:
        (tmp_path / "loop.db").mkdir()
    else:
        (tmp_path / "loop.db").write_bytes(content)
    with pytest.raises(StorageError, match=rf"loop\.db' must be written, but cannot be .*({words})"):
        await LoopStore.open(tmp_path)


async def test_a_row_that_is_no_json_is_named(store: LoopStore, tmp_path: Path) -> None:
    await store.write(decision("p8-r0", 8))
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database, database:
        database.execute("UPDATE decisions SET detail = '{'")
    with pytest.raises(
        NotARunError, match=r"'decisions' of .*loop\.db' must hold rows of this version.*restore the file"
    ):
        await store.read(DecisionRecord)


async def test_nothing_blocks_the_event_loop(tmp_path: Path) -> None:
    with blockbuster_ctx():
        opened = await LoopStore.open(tmp_path)
        await opened.set(a=1)
        await opened.write(branch("a"))
        await opened.read(BranchRecord)
        await opened.close()
