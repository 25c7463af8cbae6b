"""One question on its way through a chain of models: attempts, waits, the repair turn, fallbacks, a deadline over all.

Every await is bounded by the deadline: the way through the door, the request, the wait before a retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from ...errors import BudgetExhausted, InvalidAnswer, ModelAnswerError, ProviderError
from ...prompts import Rendered
from ..config import Role, Structured
from .endpoint import Endpoint, Reply, RequestMode, asks_for_tools
from .ledger import Call, Outcome, Place
from .parse import MAX_ECHO, clean, cut, parse, repair_text, unreadable, usable
from .rate_limits import CallBudget, Reservation, Spend
from .retry import AttemptFailed, Failure, retrying

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Answered(Generic[T]):
    """`parsed` is None exactly when `message` carries tool calls. `calls`: the ledger rows of all attempts."""

    parsed: T | None
    message: AIMessage
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked. `conversation` follows the prompt: the model's tool calls and the tools' answers so far.

    `problems`: semantic checks on a parsed answer; each returned line is shown to the model in the repair turn.
    `by_rules`: whether the embedded rules can answer it; where they cannot, they are left out of the chain.
    """

    place: Place
    prompt: Rendered
    schema: type[T]
    conversation: tuple[BaseMessage, ...] = ()
    tools: tuple[BaseTool, ...] = ()
    problems: Callable[[T], list[str]] | None = None
    by_rules: bool = True

    @property
    def turn(self) -> int:
        return sum(isinstance(message, AIMessage) for message in self.conversation)

    def messages(self) -> list[BaseMessage]:
        return [SystemMessage(self.prompt.system), HumanMessage(self.prompt.user), *self.conversation]


Record = Callable[[Call], None]
RULES_S = 60.0  # bounds the rules, which take milliseconds and are asked also where the deadline is over


class ModelCall(Generic[T]):
    """Made for one question; `run` once. `rows`: the ledger rows of its attempts so far."""

    def __init__(
        self, role: Role, question: Question[T], links: Sequence[Endpoint], door: CallBudget, record: Record
    ) -> None:
        self.role: Role = role
        self.question = question
        self.links = links
        self.door = door
        self.record = record
        self.rows: list[Call] = []

    async def run(self) -> Answered[T]:
        """Raises like `RoleModel.ask`."""
        end = _now() + self.links[0].config.deadline_s
        for number, link in enumerate(self.links):
            if number and _now() >= end and not link.is_rules:
                continue
            try:
                return await self._ask(link, self._end_of(number, end))
            except (ProviderError, InvalidAnswer) as error:
                failure = error
        raise failure

    def _end_of(self, number: int, end: float) -> float:
        """When model `number` must have answered: each gets an equal part of what is left, so that the ones behind it
        have their turn; the last one gets all of it."""
        link = self.links[number]
        if link.is_rules:
            return _now() + RULES_S
        waiting = sum(not further.is_rules for further in self.links[number:])
        return _now() + min((end - _now()) / waiting, link.config.deadline_s)

    # ------------------------------------------------------------ one model

    async def _ask(self, link: Endpoint, end: float) -> Answered[T]:
        """The original question and, after an invalid answer, one turn to repair it."""
        await self._ready(link, end)
        messages = self.question.messages()
        for repairs in (False, True):
            reply, row = await self._reply(link, messages, end)
            try:
                return self._judged(link, reply, row, "repaired" if repairs else "ok")
            except InvalidAnswer as error:
                self._finish(row, "invalid", str(error), "InvalidAnswer")
                failure = error
                said = AIMessage(cut(reply.text, MAX_ECHO) or "(empty)")
                messages = [*messages, said, HumanMessage(repair_text(str(error)))]
        raise failure

    async def _ready(self, link: Endpoint, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await link.ready()
        except TimeoutError:
            text = f"provider {link.config.provider!r} was not set up within llm deadline_s; raise it"
            raise ProviderError(text) from None

    def _judged(self, link: Endpoint, reply: Reply, row: Call, good: Outcome) -> Answered[T]:
        if self.question.tools and link.has_tools and asks_for_tools(reply.message):
            message = usable(reply.message, self.question.turn)
            self._finish(row, "tool_call")
            return Answered(None, message, tuple(self.rows))
        if not reply.text.strip():
            raise InvalidAnswer(unreadable(reply.message))
        parsed = parse(reply.text, self.question.schema, self.question.problems)
        self._finish(row.model_copy(update={"parsed": parsed.model_dump(mode="json")}), good)
        return Answered(parsed, reply.message, tuple(self.rows))

    async def _reply(self, link: Endpoint, messages: list[BaseMessage], end: float) -> tuple[Reply, Call]:
        """A reply after retries. A server that refuses the response format is asked once more without, and then once
        more without tools; what it answers to is remembered for the rest of the run."""
        way: RequestMode | None = RequestMode(link.method, link.has_tools)
        while way is not None:
            try:
                reply = await self._tried(link, messages, way, end)
            except AttemptFailed as error:
                failure = error.failure
                way = link.simpler(way, failure, bool(self.question.tools))
            else:
                # Without tools at once where the chat model itself has none.
                link.method, link.has_tools = way.method, way.tools and link.has_tools
                return reply
        raise ProviderError(_explained(failure, end - _now()))

    async def _tried(
        self, link: Endpoint, messages: list[BaseMessage], way: RequestMode, end: float
    ) -> tuple[Reply, Call]:
        layer = retrying(link.config.retries, lambda: end - _now())
        replied: tuple[Reply, Call] = await layer(self._attempt, link, messages, way, end)
        return replied

    # ------------------------------------------------------------ one attempt

    async def _attempt(
        self, link: Endpoint, messages: list[BaseMessage], way: RequestMode, end: float
    ) -> tuple[Reply, Call]:
        """Through the door and back. What fails is recorded here, what is answered by whoever judges the answer."""
        if _now() >= end:
            raise AttemptFailed(Failure(f"llm deadline_s {link.config.deadline_s!r} is over; raise it", "TimeoutError"))
        row, ticket = self._row(link, messages, way.method), Reservation(link.estimate(messages))
        begin = time.perf_counter()
        try:
            async with AsyncExitStack() as stack:
                await self._enter(stack, link, ticket, end)
                begin = time.perf_counter()  # waiting for the door is not latency and does not count as timeout_s
                reply, row = await self._request(link, messages, way, end, row, ticket)
        except AttemptFailed as error:
            row = _charged(row, link, messages, None) if error.failure.billed else row
            self._finish(_timed(row, begin), "error", str(error), error.failure.error_class)
            raise
        except ModelAnswerError as error:
            outcome: Outcome = "budget" if isinstance(error, BudgetExhausted) else "error"
            self._finish(_timed(row, begin), outcome, str(error), type(error).__name__)
            raise
        except asyncio.CancelledError:
            self._cut_off(_timed(row, begin), link, messages, ticket)
            raise
        return reply, _timed(row, begin)

    async def _enter(self, stack: AsyncExitStack, link: Endpoint, ticket: Reservation, end: float) -> None:
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
        self, link: Endpoint, messages: list[BaseMessage], way: RequestMode, end: float, row: Call, ticket: Reservation
    ) -> tuple[Reply, Call]:
        """The reply and its row; the ticket then says what the call took."""
        timeout_s = min(link.config.timeout_s, end - _now())
        tools: tuple[BaseTool, ...] = self.question.tools if way.tools else ()
        try:
            reply = await link.request(messages, self.question.schema, tools, way.method, timeout_s)
        except asyncio.CancelledError:
            ticket.taken = _spend(*link.charge(messages, None))  # the provider has read it
            raise
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

    def _row(self, link: Endpoint, messages: list[BaseMessage], method: Structured) -> Call:
        place, attempt = self.question.place, len(self.rows)
        return Call(
            id=f"p{place.point}-r{place.round}-{self.role}{place.part}-t{self.question.turn}-a{attempt}",
            role=self.role,
            point=place.point,
            round=place.round,
            attempt=attempt,
            prompt_id=self.question.prompt.prompt_id,
            prompt_hash=self.question.prompt.sha256,
            messages=[plain(message) for message in messages],
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

    def _cut_off(self, row: Call, link: Endpoint, messages: list[BaseMessage], ticket: Reservation) -> None:
        """The run is stopped while the call is under way. The row has an id of its own: the node that asks again when
        the run is resumed must not write over what this call took."""
        row = row.model_copy(update={"id": f"{row.id}-cut{int(row.started * 1000)}"})
        row = _charged(row, link, messages, None) if ticket.taken != Spend() else row
        self._finish(row, "error", "cut off: the run was stopped", "CancelledError")

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


def _spend(tokens: int, usd: float | None) -> Spend:
    return Spend(tokens, usd or 0.0)


def _charged(row: Call, link: Endpoint, messages: list[BaseMessage], reply: Reply | None) -> Call:
    tokens, usd = link.charge(messages, reply)
    return row.model_copy(update={"charged_tokens": tokens, "cost_usd": usd})


def _timed(row: Call, begin: float) -> Call:
    return row.model_copy(update={"latency_s": time.perf_counter() - begin})


def plain(message: BaseMessage) -> dict[str, Any]:
    """A message as the ledger keeps it."""
    row: dict[str, Any] = {"role": message.type, "content": clean(message.text)}
    if isinstance(message, AIMessage) and message.tool_calls:
        row["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        row["tool"] = message.name
    return row
