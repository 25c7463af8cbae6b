"""One question on its way through a chain of models: attempts, waits, the repair turn, fallbacks, a deadline over all.

Every await is bounded by the deadline: the way through the door, the request, the wait before a retry.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from ..errors import BudgetExhausted, InvalidAnswer, ModelAnswerError, ProviderError
from .answers import MAX_ANSWER, MAX_ECHO, clean, cut, parse, repair_text
from .config import Role, Structured
from .door import Door, Spend, Ticket
from .ledger import Call, Outcome
from .link import Link, Reply
from .question import Answered, Question, T
from .retry import AttemptFailed, Failure, retrying
from .structured import asks_for_tools

Record = Callable[[Call], None]


class Inquiry(Generic[T]):
    """Made for one question; `run` once. `rows`: the ledger rows of its attempts so far."""

    def __init__(self, role: Role, question: Question[T], links: Sequence[Link], door: Door, record: Record) -> None:
        self.role: Role = role
        self.question = question
        self.links = links
        self.door = door
        self.record = record
        self.rows: list[Call] = []

    async def run(self) -> Answered[T]:
        """Raises like `RoleModel.ask`."""
        end = _now() + self.links[0].config.deadline_s
        for link in self.links:
            try:
                return await self._ask(link, min(end, _now() + link.config.deadline_s))
            except (ProviderError, InvalidAnswer) as error:
                failure = error
            if _now() >= end:
                break
        raise failure

    # ------------------------------------------------------------ one model

    async def _ask(self, link: Link, end: float) -> Answered[T]:
        """The original question and, after an invalid answer, one turn to repair it."""
        await link.ready()
        messages = self.question.messages()
        for repairs in (False, True):
            reply, row = await self._reply(link, messages, end)
            try:
                return self._judged(reply, row, "repaired" if repairs else "ok")
            except InvalidAnswer as error:
                self._finish(row, "invalid", str(error), "InvalidAnswer")
                failure = error
                said = AIMessage(cut(reply.text, MAX_ECHO) or "(empty)")
                messages = [*messages, said, HumanMessage(repair_text(str(error)))]
        raise failure

    def _judged(self, reply: Reply, row: Call, good: Outcome) -> Answered[T]:
        if self.question.tools and asks_for_tools(reply.message):
            _require_short(reply.message)
            self._finish(row, "tool_call")
            return Answered(None, reply.message, tuple(self.rows))
        parsed = parse(reply.text, self.question.schema, self.question.problems)
        self._finish(row.model_copy(update={"parsed": parsed.model_dump(mode="json")}), good)
        return Answered(parsed, reply.message, tuple(self.rows))

    async def _reply(self, link: Link, messages: list[BaseMessage], end: float) -> tuple[Reply, Call]:
        """A reply after retries. A server that refuses the response format is asked once more without."""
        try:
            return await self._tried(link, messages, link.method, end)
        except AttemptFailed as error:
            failure = error.failure
        if link.refuses_format(failure):
            try:
                reply = await self._tried(link, messages, "prompt", end)
            except AttemptFailed as error:
                failure = error.failure
            else:
                link.method = "prompt"  # for the rest of the run
                return reply
        raise ProviderError(_explained(failure, end - _now()))

    async def _tried(
        self, link: Link, messages: list[BaseMessage], method: Structured, end: float
    ) -> tuple[Reply, Call]:
        layer = retrying(link.config.retries, lambda: end - _now())
        replied: tuple[Reply, Call] = await layer(self._attempt, link, messages, method, end)
        return replied

    # ------------------------------------------------------------ one attempt

    async def _attempt(
        self, link: Link, messages: list[BaseMessage], method: Structured, end: float
    ) -> tuple[Reply, Call]:
        """Through the door and back. What fails is recorded here, what is answered by whoever judges the answer."""
        if _now() >= end:
            raise AttemptFailed(Failure(f"llm deadline_s {link.config.deadline_s!r} is over; raise it", "TimeoutError"))
        row, ticket = self._row(link, messages, method), Ticket(link.estimate(messages))
        begin = time.perf_counter()
        try:
            async with AsyncExitStack() as stack:
                await self._enter(stack, link, ticket, end)
                begin = time.perf_counter()  # waiting for the door is not latency and does not count as timeout_s
                reply, row = await self._request(link, messages, end, row, ticket)
        except AttemptFailed as error:
            row = _charged(row, link, messages, None) if error.failure.billed else row
            self._finish(_timed(row, begin), "error", str(error), error.failure.error_class)
            raise
        except ModelAnswerError as error:
            outcome: Outcome = "budget" if isinstance(error, BudgetExhausted) else "error"
            self._finish(_timed(row, begin), outcome, str(error), type(error).__name__)
            raise
        return reply, _timed(row, begin)

    async def _enter(self, stack: AsyncExitStack, link: Link, ticket: Ticket, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await stack.enter_async_context(self.door.passage(not link.is_rules, ticket))
        except TimeoutError:
            text = (
                f"no turn within llm deadline_s {link.config.deadline_s!r} under llm.limits (requests_per_minute, "
                "tokens_per_minute, concurrency); raise one of them"
            )
            raise AttemptFailed(Failure(text, "TimeoutError")) from None

    async def _request(
        self, link: Link, messages: list[BaseMessage], end: float, row: Call, ticket: Ticket
    ) -> tuple[Reply, Call]:
        """The reply and its row; the ticket then says what the call took."""
        timeout_s = min(link.config.timeout_s, end - _now())
        try:
            reply = await link.request(messages, self.question.schema, self.question.tools, row.structured, timeout_s)
        except AttemptFailed as error:
            if error.failure.billed:
                ticket.taken = _spend(*link.charge(messages, None))
            raise
        ticket.taken = _spend(*link.charge(messages, reply))
        update = {
            "raw": cut(reply.text),
            "model": reply.model,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
        }
        return reply, _charged(row.model_copy(update=update), link, messages, reply)

    # ------------------------------------------------------------ its row

    def _row(self, link: Link, messages: list[BaseMessage], method: Structured) -> Call:
        place, attempt = self.question.place, len(self.rows)
        return Call(
            id=f"p{place.point}-r{place.round}-{self.role}-t{self.question.turn}-a{attempt}",
            role=self.role,
            point=place.point,
            round=place.round,
            attempt=attempt,
            prompt_id=self.question.prompt.prompt_id,
            prompt_hash=self.question.prompt.sha256,
            messages=[_plain(message) for message in messages],
            provider=link.config.provider,
            model=link.config.model or link.config.provider,
            raw="",
            parsed=None,
            outcome="error",
            error=None,
            input_tokens=None,
            output_tokens=None,
            latency_s=0.0,
            started=time.time(),
            fallback=link.position,
            structured=method,
        )

    def _finish(self, row: Call, outcome: Outcome, error: str | None = None, error_class: str | None = None) -> None:
        row = row.model_copy(update={"outcome": outcome, "error": error, "error_class": error_class})
        self.rows.append(row)
        self.record(row)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _explained(failure: Failure, left: float) -> str:
    if not failure.may_pass or failure.retry_after_s is None or failure.retry_after_s < left:
        return failure.text
    return (
        f"{failure.text}; it asks to wait {failure.retry_after_s:g} s (Retry-After) and {max(left, 0):.3g} s are left "
        "of llm deadline_s; raise it or add a fallback"
    )


def _require_short(message: AIMessage) -> None:
    size = len(json.dumps(message.tool_calls))
    if size > MAX_ANSWER:
        raise InvalidAnswer(f"the tool calls have {size} characters, at most {MAX_ANSWER} are read; shorten them")


def _spend(tokens: int, usd: float | None) -> Spend:
    return Spend(tokens, usd or 0.0)


def _charged(row: Call, link: Link, messages: list[BaseMessage], reply: Reply | None) -> Call:
    tokens, usd = link.charge(messages, reply)
    return row.model_copy(update={"charged_tokens": tokens, "cost_usd": usd})


def _timed(row: Call, begin: float) -> Call:
    return row.model_copy(update={"latency_s": time.perf_counter() - begin})


def _plain(message: BaseMessage) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.type, "content": clean(message.text)}
    if isinstance(message, AIMessage) and message.tool_calls:
        plain["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        plain["tool"] = message.name
    return plain
