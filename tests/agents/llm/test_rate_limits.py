"""Budgets and pace: hard under concurrency, kept over a resume."""

from __future__ import annotations

import asyncio

import pytest
from cosignal.agents.config import LimitsConfig
from cosignal.agents.llm import rate_limits
from cosignal.agents.llm.rate_limits import CallBudget, Reservation, Spend, TokenWindow
from cosignal.errors import BudgetExhausted
from hypothesis import given, settings
from hypothesis import strategies as st


async def visit(budget: CallBudget, estimate: Spend, taken: Spend) -> bool:
    """One call that takes its time; False where the budget refused it."""
    reservation = Reservation(estimate)
    try:
        async with budget.slot(True, reservation):
            await asyncio.sleep(0)
            reservation.taken = taken
    except BudgetExhausted:
        return False
    return True


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=30),
    st.integers(1, 200), st.integers(1, 12), st.integers(1, 8),
)  # fmt: skip
@settings(deadline=None, derandomize=True, max_examples=60)
def test_calls_beside_each_other_keep_the_budget(
    spends: list[tuple[int, int]], tokens: int, calls: int, concurrency: int
) -> None:
    """Each call reserves an estimate and takes up to 30 tokens more: what is over the limit is that surprise of the
    calls in flight and nothing else."""

    async def run() -> None:
        budget = CallBudget(LimitsConfig(tokens=tokens, calls=calls, concurrency=concurrency, requests_per_minute=1000))
        visits = [visit(budget, Spend(estimate), Spend(estimate + more)) for estimate, more in spends]
        let_in = await asyncio.gather(*visits)
        surprise = max((more for _, more in spends), default=0)
        assert budget.calls == sum(let_in) <= calls
        assert budget.tokens == sum(e + more for (e, more), ok in zip(spends, let_in, strict=True) if ok)
        assert budget.tokens <= tokens + concurrency * surprise

    asyncio.run(run())


async def test_what_a_call_did_not_need_is_free_again() -> None:
    budget = CallBudget(LimitsConfig(tokens=100, usd=1.0))
    for _ in range(9):
        assert await visit(budget, Spend(20, 0.2), Spend(10, 0.05))
    assert (budget.tokens, budget.calls) == (90, 9)
    assert budget.usd == pytest.approx(0.45)
    assert not await visit(budget, Spend(20), Spend(10))
    assert budget.calls == 9


async def test_a_call_that_fails_gives_back_what_it_reserved() -> None:
    budget = CallBudget(LimitsConfig(tokens=100))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with budget.slot(True, Reservation(Spend(80))):
                1 / 0  # noqa: B018
    assert (budget.tokens, budget.calls) == (0, 3)
    assert await visit(budget, Spend(100), Spend(100))


async def test_money_beside_each_other() -> None:
    budget = CallBudget(LimitsConfig(usd=1.0, concurrency=10))
    let_in = await asyncio.gather(*(visit(budget, Spend(1, 0.3), Spend(1, 0.3)) for _ in range(10)))
    assert sum(let_in) == 3
    assert budget.usd == pytest.approx(0.9)


async def test_only_so_many_calls_run_at_once() -> None:
    budget, inside, most = CallBudget(LimitsConfig(concurrency=2)), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        async with budget.slot(remote=True):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(6)))
    assert (most, budget.calls) == (2, 6)


async def test_rules_wait_for_nothing_and_count_as_calls() -> None:
    budget = CallBudget(LimitsConfig(calls=2, requests_per_minute=1, concurrency=1))
    for _ in range(2):
        async with budget.slot(remote=False):
            pass
    with pytest.raises(BudgetExhausted, match="2 of 2"):
        async with budget.slot(remote=False):
            pass


async def soon(task: asyncio.Task[list[float]]) -> bool:
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


async def test_tokens_per_minute_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "POLL_S", 0)
    now = 0.0
    window = TokenWindow(100, clock=lambda: now)
    first = await window.enter(60)
    second = asyncio.create_task(window.enter(60))
    third = asyncio.create_task(window.enter(1))
    assert not await soon(second)
    assert not await soon(third)  # first come, first served
    window.leave(first, 30)  # it took less than it had reserved
    assert await soon(second)
    assert await soon(third)
    assert window.used() == 91
    now = 59.9
    large = asyncio.create_task(window.enter(5_000))  # more than the limit: alone in its minute
    assert not await soon(large)
    now = 60.0
    assert await soon(large)
    assert window.used() == 5_000
    await large


async def test_tokens_per_minute_hold_calls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "POLL_S", 0)
    budget = CallBudget(LimitsConfig(tokens_per_minute=100))
    assert await visit(budget, Spend(80), Spend(20))  # of which 20 count
    assert await visit(budget, Spend(80), Spend(80))
    waiting = asyncio.create_task(visit(budget, Spend(1), Spend(1)))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert budget.calls == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.calls == 2
