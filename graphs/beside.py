"""What runs beside the graph, and what ends it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from ..errors import TrainerGone
from ..rl.ipc.process import TrainerProcess, tail


async def first_of(main: Coroutine[Any, Any, None], *guards: Coroutine[Any, Any, None]) -> None:
    """Wait for `main`; a guard that raises ends it, with the guard's error. All are over when this returns."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in (main, *guards)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in sorted(done, key=tasks.index, reverse=True):  # a guard knows better why
        task.result()


async def dies(trainer: TrainerProcess, output: Path) -> None:
    """Returns never: raises TrainerGone when the trainer's process ends."""
    await trainer.gone()
    words = await asyncio.to_thread(tail, output)
    raise TrainerGone(f"the trainer ended before the run did; use --resume to continue; its last words: {words}")
