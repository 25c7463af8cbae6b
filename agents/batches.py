"""Many requests to one model beside each other, whose answers are taken as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from ..errors import BudgetExhausted, ModelAnswerError

MAX_FAILURES = 5  # failed requests, none answered so far, after which the rest is not made

T = TypeVar("T")


async def in_batches(
    requests: Sequence[Callable[[], Awaitable[T]]], concurrency: int, is_answered: bool = False
) -> AsyncGenerator[T, None]:
    """Yield the answers in the order in which they come; a request that fails is passed over.

    Args:
        requests: each asks once.
        concurrency: how many run at a time: a question's deadline begins when it is put, so that hundreds put at once
            would run out of time in the queue.
        is_answered: whether some were answered before, so that failures are not those of a model which never answers.

    Raises:
        BudgetExhausted: calls, tokens or money are used up. What was answered, and what was under way, was yielded.
        ModelAnswerError: no request was answered, and all were made or `MAX_FAILURES` of them; it is what the last one
            failed of.
    """
    ahead, running = deque(requests), set[asyncio.Task[T | ModelAnswerError]]()
    failed, failure = 0, None
    try:
        while ahead or running:
            # As many as may run; the rest waits here and not for a slot.
            while ahead and len(running) < concurrency:
                running.add(asyncio.create_task(_outcome(ahead.popleft())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                outcome = task.result()
                if not isinstance(outcome, ModelAnswerError):
                    is_answered = True
                    yield outcome
                    continue
                failed += 1
                # A budget that is used up outranks other failures, which may pass.
                if not isinstance(failure, BudgetExhausted):
                    failure = outcome
                if isinstance(failure, BudgetExhausted) or (failed >= MAX_FAILURES and not is_answered):
                    ahead.clear()  # what is under way is waited for: it is paid for
    finally:
        # The consumer has stopped early: what is under way is cut off and recorded as such.
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if isinstance(failure, BudgetExhausted) or (failure and not is_answered):
        raise failure


async def _outcome(request: Callable[[], Awaitable[T]]) -> T | ModelAnswerError:
    try:
        return await request()
    except ModelAnswerError as error:
        return error
