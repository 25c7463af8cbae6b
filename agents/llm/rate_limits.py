"""The limits that all roles of a run share: pace, concurrency, and hard budgets of calls, tokens and money.

A call takes a slot of the `CallBudget`. It waits there for the pace and reserves the most that it may cost; when it
leaves, the reservation is replaced by what it did cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from asyncio_throttle.throttler import Throttler

from ...errors import BudgetExhausted
from ..config import LimitsConfig

PERIOD_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True)
class Spend:
    """Tokens and US dollars. Dollars are 0 where a price is unknown, since only known costs are counted."""

    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.tokens + other.tokens, self.usd + other.usd)


@dataclass
class Reservation:
    """The share of the budget that one call holds while it is under way.

    Attributes:
        reserved: the most that the call may take, as far as that is known.
        taken: what it took, set before its slot is left; otherwise it took nothing but a call.
    """

    reserved: Spend = Spend()
    taken: Spend = Spend()


class CallBudget:
    """Hard budgets of calls, tokens and US dollars, and the pace and concurrency of calls.

    Calls that run beside each other keep the budgets too, because what they may still take is reserved.

    Args:
        limits: the limits of the run.
        calls, tokens, usd: what the run has spent before this process (the ledger's sums), so that a resumed run keeps
            its limits.
    """

    def __init__(self, limits: LimitsConfig, calls: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        self.limits = limits
        self.calls = calls
        self.spent = Spend(tokens, usd)
        # What calls under way may still take.
        self._reserved = Spend()
        self._throttle = Throttler(rate_limit=limits.requests_per_minute, period=PERIOD_S)
        self._window = TokenWindow(limits.tokens_per_minute) if limits.tokens_per_minute else None
        self._slots = asyncio.Semaphore(limits.concurrency)

    @property
    def tokens(self) -> int:
        return self.spent.tokens

    @property
    def usd(self) -> float:
        return self.spent.usd

    @asynccontextmanager
    async def slot(self, remote: bool, reservation: Reservation | None = None) -> AsyncIterator[None]:
        """Wait until one call may be made, and count it.

        Args:
            remote: whether a provider is called. The embedded rules count as calls and wait for nothing.
            reservation: what the call may take; the caller sets in it what was taken.

        Raises:
            BudgetExhausted: what is left of the run's calls, tokens or money does not pay for the call.
        """
        reservation = reservation or Reservation()
        async with AsyncExitStack() as stack:
            if remote:
                await stack.enter_async_context(self._slots)
                self._check(reservation.reserved)  # before the wait: what cannot be paid need not wait
                await stack.enter_async_context(self._throttle)
                if self._window is not None:
                    await stack.enter_async_context(self._window.room_for(reservation))
            # No await between check and reservation, so that no two calls take the same rest.
            self._check(reservation.reserved)
            self.calls += 1
            self._reserved += reservation.reserved
            try:
                yield
            finally:
                self._reserved += Spend(-reservation.reserved.tokens, -reservation.reserved.usd)
                self.spent += reservation.taken

    def _check(self, more: Spend) -> None:
        taken, limits = self.spent + self._reserved, self.limits
        # Dollars are rounded, since sums of small costs are not exact in binary.
        for name, used, wanted, limit in (
            ("calls", self.calls, 1, limits.calls),
            ("tokens", taken.tokens, more.tokens, limits.tokens),
            ("usd", round(taken.usd, 6), more.usd, limits.usd),
        ):
            if used >= limit:
                raise BudgetExhausted(f"llm.limits.{name} is reached: {used!r} of {limit!r}; raise it to adapt further")
            if used + wanted > limit:
                raise BudgetExhausted(
                    f"llm.limits.{name} has no room for a call of up to {wanted!r}: {used!r} of {limit!r}; "
                    "raise it to adapt further, or lower max_output_tokens"
                )


class TokenWindow:
    """A sliding window over the tokens of the last minute.

    A call reserves what it may take, waits until that fits beside the others', and gives back or adds the difference
    when it is known. A call that is larger than the limit goes when the window is empty.

    Args:
        limit: tokens in `PERIOD_S` seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._entries: deque[list[float]] = deque()  # [when, tokens], oldest first
        self._queue = asyncio.Lock()  # first come, first served: a large call is not overtaken for ever

    @asynccontextmanager
    async def room_for(self, reservation: Reservation) -> AsyncIterator[None]:
        """Hold room for the reserved tokens, and in the end for those that were taken."""
        entry = await self.enter(reservation.reserved.tokens)
        try:
            yield
        finally:
            self.leave(entry, reservation.taken.tokens)

    async def enter(self, tokens: int) -> list[float]:
        """Wait for room and take it. Return the entry that `leave` expects."""
        async with self._queue:
            while (used := self.used()) and used + tokens > self.limit:  # noqa: ASYNC110 - time makes room
                await asyncio.sleep(POLL_S)
            # It counts from the moment at which it is let in.
            entry = [self._clock(), float(tokens)]
            self._entries.append(entry)
            return entry

    def leave(self, entry: list[float], tokens: int) -> None:
        """Correct the entry of `enter` to the tokens that were taken."""
        entry[1] = float(tokens)

    def used(self) -> float:
        """Return the tokens of the last `PERIOD_S` seconds, reserved ones included."""
        # Entries that are older than the window.
        while self._entries and self._clock() - self._entries[0][0] >= PERIOD_S:
            self._entries.popleft()
        return sum(tokens for _, tokens in self._entries)
