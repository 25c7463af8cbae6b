"""Checkpoints, and loops that are killed at any instant and resumed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.agents.llm.ledger import Place
from cosignal.graphs.session.graph_runner import KEEP_CHECKPOINTS, open_checkpoints
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession
from kills import Fragile, dies_at, undisturbed
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from loop_runs import comparable, first_helps, tables


async def test_a_checkpoint_revives_listed_types_only(tmp_path: Path) -> None:
    place = Place(point=1, round=2)
    async with open_checkpoints(tmp_path) as checkpoints:
        kept = checkpoints.serde.dumps_typed({"blocked": place, "listed": AIMessage("hi")})
        back = checkpoints.serde.loads_typed(kept)
    assert back == {"blocked": {"point": 1, "round": 2, "part": ""}, "listed": AIMessage("hi")}
    assert JsonPlusSerializer().loads_typed(kept)["blocked"] == place  # what the list is there for


async def test_checkpoints_stay_few_and_plain(tmp_path: Path) -> None:
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, first_helps)).run()
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database:
        [(count, largest)] = database.execute("SELECT COUNT(*), MAX(LENGTH(checkpoint)) FROM checkpoints")
    assert count <= KEEP_CHECKPOINTS + 1
    assert largest < 40_000


@pytest.mark.parametrize("kill_at", [0, 1, 7, 11, 17])
@pytest.mark.parametrize("points_back", [0, 2])
async def test_killed_in_validate_and_resumed_is_as_never_killed(
    tmp_path: Path, kill_at: int, points_back: int
) -> None:
    reference, expected = await undisturbed(tmp_path / "reference")
    run_dir = tmp_path / "killed"
    run_dir.mkdir()
    trainer = FakeTrainer(run_dir)
    first, second = FakeBranchPool(run_dir, first_helps, kill_at), FakeBranchPool(run_dir, first_helps)
    with pytest.raises(Killed):
        await LoopSession(run_dir, trainer, first).run()
    trainer.restart(points_back)
    await LoopSession(run_dir, trainer, second).run()

    assert trainer.log == reference.log
    assert comparable(await tables(run_dir)) == expected
    done = [job.key for job in first.jobs + second.jobs]
    assert len(done) == len(set(done))  # no branch is run twice


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_and_resumed_is_as_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It dies at every ninth write or request of a run with a promotion."""
    reference, expected = await undisturbed(tmp_path / "reference")
    at, died = 0, True
    while died:
        run_dir = tmp_path / f"killed-{at}"
        run_dir.mkdir()
        trainer = FakeTrainer(run_dir)
        session = LoopSession(run_dir, trainer, FakeBranchPool(run_dir, first_helps))
        died = await dies_at(session, Fragile(at, after), monkeypatch)
        if died:
            trainer.restart(points_back=at % 2)
            await LoopSession(run_dir, trainer, FakeBranchPool(run_dir, first_helps)).run()
        assert trainer.log == reference.log, at
        assert comparable(await tables(run_dir)) == expected, at
        at += 9
    assert at > 50
