"""The real trainer process over real sockets: both clocks, compare-and-set, idempotent changes, kill -9 and replay."""

from __future__ import annotations

import asyncio
import json
import os
import signal as os_signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cosignal.errors import ProtocolError, SignalError, VersionConflict
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.ipc.client import TrainerClient
from cosignal.rl.ipc.launcher import attach_or_start
from cosignal.rl.ipc.messages import BranchJob, TrainerStatus
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.trainer.database import read_signals
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.line import TrainingLine
from training_lines import UPDATE, small_config

pytestmark = pytest.mark.integration
SHAPED = Signal.model_validate(
    {"scale": 2.0, "terms": [{"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}]}
)


def run_directory(path: Path, config: TrainingConfig | None = None) -> Path:
    path.mkdir()
    (path / "training.json").write_text((config or small_config()).model_dump_json())
    return path


@asynccontextmanager
async def trainer(run_dir: Path) -> AsyncIterator[TrainerClient]:
    process = await attach_or_start(run_dir, run_dir.name)
    try:
        yield process.client
    finally:
        await process.stop()


async def point(client: TrainerClient) -> TrainerStatus:
    """The next point, or the end."""
    while True:
        status = await client.status()
        if status.waiting_at is not None or status.state == "finished":
            return status
        await asyncio.sleep(0.01)


async def kill(run_dir: Path) -> None:
    pid = json.loads((run_dir / "trainer.json").read_text())["pid"]
    os.kill(pid, os_signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        await asyncio.sleep(0.01)


def metrics(run_dir: Path) -> list[tuple[int, str]]:
    import sqlite3

    connection = sqlite3.connect(run_dir / "trainer.db")
    rows = connection.execute("SELECT update_index, data FROM metrics ORDER BY update_index").fetchall()
    connection.close()
    return rows


async def test_points_promotion_and_the_log(tmp_path: Path) -> None:
    run_dir = run_directory(tmp_path / "run")
    async with trainer(run_dir) as client:
        assert (await client.hello()).spec.name == "two_switch"
        first = await point(client)
        assert (first.waiting_at, first.snapshot, first.steps_main) == (4, "checkpoints/update_000000004", 4 * UPDATE)
        with pytest.raises(VersionConflict, match="version 0 is in force, not 3"):
            await client.promote("late", 3, SHAPED)
        with pytest.raises(SignalError, match="dist_x"):
            await client.promote(
                "bad",
                0,
                SHAPED.model_copy(update={"terms": (SHAPED.terms[0].model_copy(update={"expression": "dist_x"}),)}),
            )
        reply = await client.promote("p4-r0-0:0", 0, SHAPED)
        assert (reply.version, reply.applied_at_update, reply.repeated) == (1, 4, False)
        assert [(e.version, e.key) for e in read_signals(run_dir / "trainer.db")] == [(0, "start"), (1, "p4-r0-0:0")]
        again = await client.promote("p4-r0-0:0", 0, SHAPED)
        assert (again.version, again.repeated) == (1, True)
        evidence = await client.evidence()
        assert evidence.signal.version == 1 and {f.name for f in evidence.features} >= {"dist_goal", "door_open"}
        curve = await client.query("metric_curve", points=5)
        assert curve["columns"][0] == "steps"
        await client.release(4)
        await client.release(4)  # said twice: a past point is ignored
        second = await point(client)
        assert (second.waiting_at, second.signal.version) == (8, 1)


async def drive(run_dir: Path, kills: set[int]) -> None:
    """Run to the end; promote at update 8 (a signal) and 12 (a branch's state); SIGKILL at the points in `kills`."""
    while True:
        async with trainer(run_dir) as client:
            while (status := await point(client)).state != "finished":
                at = status.waiting_at
                assert at is not None
                if at == 8:
                    await client.promote("eight", 0, SHAPED)
                if at == 12:
                    end = await asyncio.to_thread(branch, run_dir, status)
                    await client.promote("twelve", 1, SHAPED.model_copy(update={"beta": 0.7}), adopt=end)
                if at in kills:
                    kills.discard(at)
                    await kill(run_dir)
                    break
                await client.release(at)
            else:
                return


def branch(run_dir: Path, status: TrainerStatus) -> str:
    job = BranchJob(
        key="k", fork="checkpoints/update_000000012", start="checkpoints/update_000000012", arm="p",
        signal=SHAPED.model_copy(update={"beta": 0.7}), exploration=Exploration(kick=0.5), seed=1, horizon=3 * UPDATE,
        evaluation_seed=3, evaluation_episodes=4, end_state="branches/k",
    )  # fmt: skip
    return run_branch(TrainingLine(small_config()), run_dir, job).end_state


async def test_kill_nine_at_points_loses_and_repeats_nothing(tmp_path: Path) -> None:
    whole, killed = run_directory(tmp_path / "whole"), run_directory(tmp_path / "killed")
    await drive(whole, set())
    await drive(killed, {4, 8, 12, 19})
    assert metrics(killed) == metrics(whole)
    logs = [
        [(e.version, e.key, e.applied_update, e.adopt) for e in read_signals(d / "trainer.db")] for d in (whole, killed)
    ]
    assert logs[0] == logs[1] == [(0, "start", 0, None), (1, "eight", 8, None), (2, "twelve", 12, "branches/k")]
    updates = [u for u, _ in metrics(whole)]
    assert 15 in updates and 13 not in updates  # the adopted branch went from 12 to 15


async def until(client: TrainerClient, update: int) -> TrainerStatus:
    while (status := await client.status()).update < update:
        await asyncio.sleep(0.01)
    return status


async def test_under_the_overlap_clock_a_killed_trainer_loses_no_promotion_and_no_rollback(tmp_path: Path) -> None:
    """Nobody waits for anybody, so updates are as they come; what was acknowledged is there after each kill -9."""
    config = small_config(steps=4000 * UPDATE).model_copy(update={"clock": "overlap"})
    run_dir = run_directory(tmp_path / "run", config)
    async with trainer(run_dir) as client:
        await until(client, 3)
        look = await client.look()
        assert look.status.snapshot == f"checkpoints/update_{look.status.update:09d}"
        assert look.evidence.steps == look.status.steps_main == look.status.update * UPDATE
        assert (run_dir / look.status.snapshot / "state.safetensors").exists()
        promoted = await client.promote("one", 0, SHAPED)
        await kill(run_dir)
    async with trainer(run_dir) as client:
        assert await client.promote("one", 0, SHAPED) == promoted.model_copy(update={"repeated": True})
        status = await until(client, promoted.applied_at_update + 3)
        assert status.signal.version == 1
        undone = await client.rollback("undo", 1)
        assert undone.applied_at_update > promoted.applied_at_update
        await kill(run_dir)
    async with trainer(run_dir) as client:
        assert await client.rollback("undo", 1) == undone.model_copy(update={"repeated": True})
        status = await until(client, undone.applied_at_update + 2)
        assert (status.signal.version, status.signal.terms, status.waiting_at) == (2, (), None)
        with pytest.raises(ProtocolError, match="only a promotion can be undone, version 2"):
            await client.rollback("again", 2)
    log = read_signals(run_dir / "trainer.db")
    assert [(e.version, e.key, e.cause) for e in log] == [
        (0, "start", "start"), (1, "one", "promotion"), (2, "undo", "rollback"),
    ]  # fmt: skip
    rows = dict(metrics(run_dir))
    assert json.loads(rows[undone.applied_at_update + 1])["adopted"] is True
