"""What nodes wait with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from loop_runs import goal_helps


@pytest.mark.parametrize("turns", range(6))
async def test_who_stops_a_run_in_the_instant_of_a_wake_up_stops_it(tmp_path: Path, turns: int) -> None:
    """`turns` of the event loop after the wake-up; a node that lost its cancellation would wait for ever."""
    store = await LoopStore.open(tmp_path)
    ctx = await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps)).context(store, [])
    ctx.wake.set()
    task = asyncio.create_task(ctx.pause())
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.close()
