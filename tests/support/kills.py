"""Loops that die at a chosen effect on the world outside the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession
from loop_runs import comparable, first_helps, tables


async def undisturbed(run_dir: Path) -> tuple[FakeTrainer, dict[str, Any]]:
    run_dir.mkdir()
    trainer = FakeTrainer(run_dir)
    await LoopSession(run_dir, trainer, FakeBranchPool(run_dir, first_helps)).run()
    return trainer, comparable(await tables(run_dir))


class Fragile:
    """Raises Killed instead of, or right after, effect number `at` on the world outside the graph."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def before_effect(self) -> None:
        if self.count >= self.at + self.after:
            raise Killed("nothing happens any more")

    def after_effect(self) -> None:
        self.count += 1
        if self.count > self.at:
            raise Killed("right after")


class Counted(list[Any]):
    """Events of a run that counts its effects: `when[kind]` is how many there were at the first event of a kind."""

    def __init__(self) -> None:
        self.fragile = Fragile(10**9, after=False)
        self.when: dict[str, int] = {}

    def append(self, event: Any) -> None:
        self.when.setdefault(event.kind, self.fragile.count)
        super().append(event)


async def dies_at(session: LoopSession, fragile: Fragile, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the session; whether it died."""
    write, handle = LoopStore._upsert, session.trainer.handle

    async def fragile_write(self: LoopStore, *args: Any) -> None:
        fragile.before_effect()
        await write(self, *args)
        fragile.after_effect()

    def fragile_handle(request: Any) -> Any:
        fragile.before_effect()
        reply = handle(request)
        fragile.after_effect()
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(LoopStore, "_upsert", fragile_write)
        patch.setattr(session.trainer, "handle", fragile_handle)
        try:
            await session.run()
        except Killed:
            return True
    return False
