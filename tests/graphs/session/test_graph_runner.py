"""What runs beside the graph ends it with an error of its own, and is over with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from cosignal.errors import TrainerGone
from cosignal.graphs.session.graph_runner import run_guarded, watch_trainer


class Tracked:
    """Coroutines that note how they end."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}

    async def forever(self, name: str, last: BaseException | None = None) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.ends[name] = "cancelled"
            if last is not None:
                raise last from None
            raise

    async def returns(self, name: str) -> None:
        await asyncio.sleep(0)
        self.ends[name] = "returned"

    async def raises(self, name: str, error: Exception) -> None:
        await asyncio.sleep(0)
        self.ends[name] = "raised"
        raise error


async def test_the_guards_are_over_when_the_main_coroutine_is() -> None:
    tracked = Tracked()
    await run_guarded(tracked.returns("main"), tracked.forever("a"), tracked.forever("b"))
    assert tracked.ends == {"main": "returned", "a": "cancelled", "b": "cancelled"}


async def test_a_guard_that_raises_ends_the_main_coroutine_with_its_own_error() -> None:
    tracked = Tracked()
    with pytest.raises(TrainerGone, match="^out of memory$"):
        await run_guarded(tracked.forever("main"), tracked.raises("guard", TrainerGone("out of memory")))
    assert tracked.ends == {"main": "cancelled", "guard": "raised"}


async def test_where_both_fail_the_guard_says_why() -> None:
    tracked = Tracked()
    with pytest.raises(TrainerGone):
        await run_guarded(tracked.raises("main", TimeoutError()), tracked.raises("guard", TrainerGone("gone")))


async def test_what_a_cancelled_guard_raises_does_not_hide_the_main_error() -> None:
    tracked = Tracked()
    with pytest.raises(ZeroDivisionError):
        await run_guarded(tracked.raises("main", ZeroDivisionError()), tracked.forever("guard", OSError("closed")))


async def test_a_cancellation_from_outside_ends_all_and_stays_one() -> None:
    tracked = Tracked()
    task = asyncio.create_task(run_guarded(tracked.forever("main"), tracked.forever("guard")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracked.ends == {"main": "cancelled", "guard": "cancelled"}


async def test_a_trainer_that_ends_is_gone_with_what_it_says_of_its_end() -> None:
    async def gone() -> None:
        await asyncio.sleep(0)

    trainer = SimpleNamespace(gone=gone, end=lambda: TrainerGone("killed by the kernel"))
    with pytest.raises(TrainerGone, match="killed by the kernel$"):
        await watch_trainer(trainer)  # type: ignore[arg-type]
