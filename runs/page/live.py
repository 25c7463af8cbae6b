"""Telling a page that its run has changed: an event whenever a database was written or the lock changed hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from ...rl.locks import lock_is_held

LOOK_S = 1.0
WATCHED = ("trainer.db", "trainer.db-wal", "loop.db", "loop.db-wal", "replays")


def fingerprint(run_dir: Path) -> str:
    """Another one after every write and when the run begins, ends or is resumed."""
    stamps = []
    for name in WATCHED:
        path = run_dir / name
        stamps.append(f"{path.stat().st_mtime_ns}" if path.exists() else "-")
    return ",".join([*stamps, str(lock_is_held(run_dir / "loop.lock"))])


async def changes(run_dir: Path) -> AsyncIterator[bytes]:
    """Events `changed`, the first at once; a comment in between, so that a closed page is noticed. Ends with the
    directory."""
    known = ""
    while await asyncio.to_thread(run_dir.exists):
        now = await asyncio.to_thread(fingerprint, run_dir)
        if now != known:
            known = now
            yield b"event: changed\ndata: \n\n"
        else:
            yield b": still here\n\n"
        await asyncio.sleep(LOOK_S)
