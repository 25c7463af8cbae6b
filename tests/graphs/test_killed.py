"""Checkpoints, and loops that are killed at any instant and resumed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.agents.config import LimitsConfig, LLMConfig
from cosignal.agents.llm.ledger import Place
from cosignal.graphs.session.graph_runner import KEEP_CHECKPOINTS, open_checkpoints
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession, fake_run_config
from kills import Fragile, dies_at, undisturbed
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from loop_runs import comparable, first_helps, nodes, nothing_helps, scripts, tables


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


async def test_a_run_that_is_done_goes_on_when_the_trainer_has_steps_left(tmp_path: Path) -> None:
    short, longer = FakeTrainer(tmp_path, steps_budget=260_000), FakeTrainer(tmp_path)
    await LoopSession(tmp_path, short, FakeBranchPool(tmp_path, nothing_helps)).run()
    again = LoopSession(tmp_path, short, FakeBranchPool(tmp_path, nothing_helps))
    await again.run()
    assert nodes(again) == []  # it is over
    longer.point = short.point
    session = LoopSession(tmp_path, longer, FakeBranchPool(tmp_path, nothing_helps))
    await session.run()
    assert nodes(session)[0] == "observe"
    assert longer.finished


async def test_adaptation_that_ended_for_want_of_calls_begins_again_when_there_may_be_more(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, steps_budget=330_000)
    eager = fake_run_config(patience=10_000)
    poor_config = eager.model_copy(update={"llm": LLMConfig(limits=LimitsConfig(calls=1))})
    poor = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, first_helps), scripts())
    poor.config = poor_config
    await poor.run()
    assert trainer.log == []
    longer = FakeTrainer(tmp_path)
    longer.point = trainer.point
    same, rich = (LoopSession(tmp_path, longer, FakeBranchPool(tmp_path, first_helps)) for _ in range(2))
    same.config, rich.config = poor_config, eager
    await same.run()
    assert "generator" not in nodes(same)
    longer.steps_budget = 900_000
    for point in range(longer.point, 440, 16):
        longer._snapshot(point)
    await rich.run()
    assert "generator" in nodes(rich)
