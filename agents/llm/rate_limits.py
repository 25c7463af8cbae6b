"""The way to a provider, shared by a run's roles: pace, concurrency, and hard budgets of calls, tokens and money."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from asyncio_throttle.throttler import Throttler

from ...errors import BudgetExhausted
from ..config import LimitsConfig

PERIOD_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True)
class Spend:
    """Tokens and US dollars; dollars are 0 where a price is unknown, since only known costs are counted."""

    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.tokens + other.tokens, self.usd + other.usd)


@dataclass
class Reservation:
    """One call at the door. `reserved`: what it takes at most, as far as that is known. `taken`: what it took, set
    before it leaves; without that it took nothing but a call."""

    reserved: Spend = Spend()
    taken: Spend = Spend()


class TokenWindow:
    """Tokens of the last minute. A call reserves what it may take, waits until that fits beside the others', and gives
    back or adds the difference when it is known. A call that is larger than the limit goes when the window is empty.

    `clock`: seconds, monotonic.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._entries: deque[list[float]] = deque()  # [when, tokens], oldest first
        self._line = asyncio.Lock()  # first come, first served: a large call is not overtaken for ever

    def used(self) -> float:
        """Tokens of the last `PERIOD_S` seconds, reserved ones included."""
        while self._entries and self._clock() - self._entries[0][0] >= PERIOD_S:
            self._entries.popleft()
        return sum(tokens for _, tokens in self._entries)

    async def enter(self, tokens: int) -> list[float]:
        """Wait for room and take it; the entry is what `leave` wants."""
        async with self._line:
            while (used := self.used()) and used + tokens > self.limit:  # noqa: ASYNC110 - time makes room
                await asyncio.sleep(POLL_S)
            entry = [self._clock(), float(tokens)]
            self._entries.append(entry)
            return entry

    def leave(self, entry: list[float], tokens: int) -> None:
        entry[1] = float(tokens)


class CallBudget:
    """`calls`, `tokens`, `usd`: what the run has spent, before this process too (the ledger's sums), so that a resumed
    run keeps its limits. What calls in flight may take is reserved, so that calls beside each other keep them too."""

    def __init__(self, limits: LimitsConfig, calls: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        self.limits = limits
        self.calls = calls
        self.spent = Spend(tokens, usd)
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
    async def passage(self, remote: bool, ticket: Reservation | None = None) -> AsyncIterator[None]:
        """One call's way through: entering may wait. Local rules (`remote=False`) count as calls and wait for nothing.

        Raises:
            BudgetExhausted: what is left of the run's calls, tokens or money does not pay for the call.
        """
        ticket = ticket or Reservation()
        if not remote:
            async with self._taken(ticket):
                yield
            return
        async with self._slots:
            self._check(ticket.reserved)  # before the wait: who cannot go need not stand in line
            async with self._throttle, self._paced(ticket), self._taken(ticket):
                yield

    @asynccontextmanager
    async def _paced(self, ticket: Reservation) -> AsyncIterator[None]:
        if self._window is None:
            yield
            return
        entry = await self._window.enter(ticket.reserved.tokens)
        try:
            yield
        finally:
            self._window.leave(entry, ticket.taken.tokens)

    @asynccontextmanager
    async def _taken(self, ticket: Reservation) -> AsyncIterator[None]:
        """Check and take without a pause between them, so that no two calls take the same rest."""
        self._check(ticket.reserved)
        self.calls += 1
        self._reserved += ticket.reserved
        try:
            yield
        finally:
            self._reserved += Spend(-ticket.reserved.tokens, -ticket.reserved.usd)
            self.spent += ticket.taken

    def _check(self, more: Spend) -> None:
        taken, limits = self.spent + self._reserved, self.limits
        self._require("calls", self.calls, 1, limits.calls)
        self._require("tokens", taken.tokens, more.tokens, limits.tokens)
        self._require("usd", round(taken.usd, 6), more.usd, limits.usd)

    def _require(self, name: str, taken: float, more: float, limit: float) -> None:
        if taken >= limit:
            raise BudgetExhausted(f"llm.limits.{name} is reached: {taken!r} of {limit!r}; raise it to adapt further")
        if taken + more > limit:
            raise BudgetExhausted(
                f"llm.limits.{name} has no room for a call of up to {more!r}: {taken!r} of {limit!r}; "
                "raise it to adapt further, or lower max_output_tokens"
            )
