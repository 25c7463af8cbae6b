"""One question to a chain of models: attempts, waits, the repair turn, fallbacks, a deadline over all.

    RoleModel.ask -> ModelCall.run       the fallback chain, each model with its part of the time, and the repair turn
                  -> ModelCall._reply    retries, and simpler requests where a server refuses one
                  -> ModelCall._attempt  one request with a slot of the budget and a row of the ledger
                  -> Endpoint.request    LangChain

Every await is bounded by the deadline: setting a model up, the wait for a slot, the request, the wait before a retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from ...errors import AnswerCut, BudgetExhausted, InvalidAnswer, ModelAnswerError, ProviderError
from ...prompts import Rendered
from ...text import cut
from ..config import Role, Structured
from .endpoint import Charge, Endpoint, Reply, RequestMode, asks_for_tools
from .extract import ending_object
from .ledger import Call, Outcome, Place
from .parse import (
    MAX_ECHO,
    MAX_RAW,
    Parsed,
    encodable,
    explain_empty_reply,
    normalize_tool_calls,
    parse_clipped,
    repair_text,
)
from .rate_limits import CallBudget, Reservation, Spend
from .retry import AttemptFailed, ProviderFailure, retry_policy

T = TypeVar("T", bound=BaseModel)
Record = Callable[[Call], None]

RULES_S = 60.0  # bounds the rules, which take milliseconds and are asked also where the deadline is over


@dataclass(frozen=True)
class Question(Generic[T]):
    """A question to a role.

    Attributes:
        place: where in the run it is asked.
        prompt: system and user message.
        schema: what the answer must be.
        narrow_schema: a JSON schema to send in place of that of `schema`; what it allows, `schema` does.
        prompt_for_rules: what the embedded rules are asked in place of `prompt`.
        conversation: what follows the prompt: the model's tool calls and the tools' answers so far.
        tools: tools that the model may call instead of answering.
        problems: semantic checks of a parsed answer; each line it returns is shown to the model in the repair turn.
        by_rules: whether the embedded rules can answer it; where they cannot, they are left out of the chain.
        temperature: of sampling, in place of each model's own; None leaves that. A model without one is asked as it is.
    """

    place: Place
    prompt: Rendered
    schema: type[T]
    conversation: tuple[BaseMessage, ...] = ()
    tools: tuple[BaseTool, ...] = ()
    problems: Callable[[T], list[str]] | None = None
    by_rules: bool = True
    temperature: float | None = None
    narrow_schema: dict[str, Any] | None = None
    prompt_for_rules: Rendered | None = None

    @property
    def turn(self) -> int:
        return sum(isinstance(message, AIMessage) for message in self.conversation)

    def prompt_for(self, is_rules: bool) -> Rendered:
        """Return the prompt for a language model or for the rules."""
        return self.prompt_for_rules or self.prompt if is_rules else self.prompt

    def messages(self, is_rules: bool = False) -> list[BaseMessage]:
        """Return the messages to a language model or to the rules."""
        prompt = self.prompt_for(is_rules)
        return [SystemMessage(prompt.system), HumanMessage(prompt.user), *self.conversation]


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The answer to a question.

    Attributes:
        parsed: the answer, None exactly when `message` carries tool calls.
        message: the model's message.
        calls: ledger rows of all attempts.
    """

    parsed: T | None
    message: AIMessage
    calls: tuple[Call, ...]


class ModelCall(Generic[T]):
    """One question on its way through a chain of models. Made for one question; call `run` once.

    Args:
        role: the role that is asked.
        question: what is asked.
        endpoints: the chain, the role's own model first; at least one.
        budget: shared by all calls of the run.
        record: called with the ledger row of every attempt.
    """

    def __init__(
        self, role: Role, question: Question[T], endpoints: Sequence[Endpoint], budget: CallBudget, record: Record
    ) -> None:
        self.role: Role = role
        self.question = question
        self.endpoints = endpoints
        self.budget = budget
        self.record = record
        self.rows: list[Call] = []  # of the attempts so far

    async def run(self) -> Answered[T]:
        """Ask one model after the other until one answers. Raises like `RoleModel.ask`."""
        failure: ProviderError | InvalidAnswer
        deadline = _now() + self.endpoints[0].config.deadline_s
        for number, endpoint in enumerate(self.endpoints):
            if endpoint.is_rules:
                end = _now() + RULES_S
            elif number and _now() >= deadline:
                continue
            else:
                # An equal part of the time that is left, so that the models behind have their turn; the last one gets
                # all of it. A model's own deadline bounds its part.
                waiting = sum(not later.is_rules for later in self.endpoints[number:])
                end = _now() + min((deadline - _now()) / waiting, endpoint.config.deadline_s)
            messages = self.question.messages(endpoint.is_rules)  # a fallback is asked the original question
            try:
                await endpoint.ready(end)
                # The question and, after an invalid answer, one turn to repair it.
                outcomes: tuple[Literal["ok", "repaired"], ...] = ("ok", "repaired")
                for outcome in outcomes:
                    reply, row = await self._reply(endpoint, messages, end)
                    try:
                        return self._judge(endpoint, reply, row, outcome)
                    except InvalidAnswer as error:
                        self._finish(row, "invalid", str(error), type(error).__name__)
                        failure = error
                        if isinstance(error, AnswerCut):
                            break  # asked again it would be cut again
                        wrong_answer = AIMessage(cut(reply.text, MAX_ECHO) or "(empty)")
                        messages = [*messages, wrong_answer, HumanMessage(repair_text(str(error)))]
            except (ProviderError, InvalidAnswer) as error:
                failure = error
        raise failure

    async def _reply(self, endpoint: Endpoint, messages: list[BaseMessage], end: float) -> tuple[Reply, Call]:
        """Return a model's reply after retries, with its row.

        A server that refuses the response format is asked once more without, and then once more without tools. The
        mode that it answers to is remembered for the rest of the run.
        """
        mode: RequestMode | None = endpoint.mode
        while mode is not None:
            try:
                # One round an attempt; `with` hands its failure to the policy, which waits or raises it.
                async for attempt in retry_policy(endpoint.config.retries, lambda: end - _now()):
                    with attempt:
                        reply, row = await self._attempt(endpoint, messages, mode, end)
            except AttemptFailed as error:
                failure = error.failure
                mode = endpoint.downgraded(mode, failure, bool(self.question.tools))
            else:
                # The endpoint may have found during the request that its chat model takes no tools.
                endpoint.mode = replace(mode, tools=mode.tools and endpoint.mode.tools)
                return reply, row
        left_s = end - _now()
        # The provider asks for a longer wait than there is time: the remedy differs.
        if not failure.may_pass or failure.retry_after_s is None or failure.retry_after_s < left_s:
            raise ProviderError(failure.text)
        raise ProviderError(
            f"{failure.text}; it asks to wait {failure.retry_after_s:g} s (Retry-After) and {max(left_s, 0):.3g} s are "
            "left of llm deadline_s; raise it or add a fallback"
        )

    async def _attempt(
        self, endpoint: Endpoint, messages: list[BaseMessage], mode: RequestMode, end: float
    ) -> tuple[Reply, Call]:
        """Make one request with a slot of the budget. Return the reply and its row, which `run` finishes.

        An attempt that fails is recorded here.

        Raises:
            AttemptFailed: no slot or no answer in time, or the provider failed.
            ModelAnswerError: the budget is used up, or raised by the chat model itself.
        """
        deadline_s = endpoint.config.deadline_s
        if _now() >= end:
            raise AttemptFailed(ProviderFailure(f"llm deadline_s {deadline_s!r} is over; raise it", "TimeoutError"))
        # Made before the wait, so that an attempt that gets no slot has its row too.
        row = self._new_row(endpoint, messages, mode.method)
        reservation = Reservation(endpoint.estimate(messages))
        charge: Charge | None = None
        begin = time.perf_counter()
        try:
            async with AsyncExitStack() as stack:
                # Where the pace or other calls hold this one back, it waits until the deadline.
                try:
                    async with asyncio.timeout_at(end):
                        await stack.enter_async_context(self.budget.slot(not endpoint.is_rules, reservation))
                except TimeoutError:
                    text = (
                        f"no turn within llm deadline_s {deadline_s!r} under llm.limits (requests_per_minute, "
                        "tokens_per_minute, concurrency); raise one of them"
                    )
                    raise AttemptFailed(ProviderFailure(text, "TimeoutError")) from None

                begin = time.perf_counter()  # the wait for a slot is no latency and no part of timeout_s
                timeout_s = min(endpoint.config.timeout_s, end - _now())
                # The charge is set before the slot is left, where the budget takes it from the reservation.
                try:
                    question = self.question
                    reply = await endpoint.request(
                        messages,
                        question.schema,
                        question.tools,
                        mode,
                        timeout_s,
                        question.temperature,
                        question.narrow_schema,
                    )
                except asyncio.CancelledError:
                    charge = endpoint.charge(messages)  # the provider has read them
                    raise
                except AttemptFailed as error:
                    charge = endpoint.charge(messages) if error.failure.billed else None
                    raise
                else:
                    charge = endpoint.charge(messages, reply)
                finally:
                    reservation.taken = charge.spend if charge is not None else Spend()
            update = {
                "raw": cut(reply.text, MAX_RAW),
                "model": reply.model,
                "input_tokens": reply.input_tokens,
                "output_tokens": reply.output_tokens,
            }
            row = row.model_copy(update=update)
            if failure := endpoint.failure_in(reply):
                raise AttemptFailed(failure)
        except AttemptFailed as error:
            self._finish(_closed(row, begin, charge), "error", str(error), error.failure.error_class)
            raise
        except ModelAnswerError as error:
            outcome: Outcome = "budget" if isinstance(error, BudgetExhausted) else "error"
            self._finish(_closed(row, begin, charge), outcome, str(error), type(error).__name__)
            raise
        except asyncio.CancelledError:
            # The run is stopped. The row has an id of its own: the node that asks again when the run is resumed must
            # not write over what this call took.
            row = row.model_copy(update={"id": f"{row.id}-cut{int(row.started * 1000)}"})
            charge = charge if charge is not None and charge.spend != Spend() else None
            self._finish(_closed(row, begin, charge), "error", "cut off: the run was stopped", "CancelledError")
            raise
        return reply, _closed(row, begin, charge)

    def _judge(self, endpoint: Endpoint, reply: Reply, row: Call, outcome: Literal["ok", "repaired"]) -> Answered[T]:
        """Return the answer that a reply is, and finish its row with `outcome`, or `tool_call`.

        Raises:
            InvalidAnswer: it is none, or was cut before its end; the row is not finished then.
        """
        is_cut = reply.ending == "cut"
        # Calls of tools that were not offered are no answer, and those of a reply that was cut may lack something.
        if self.question.tools and endpoint.mode.tools and asks_for_tools(reply.message) and not is_cut:
            message = normalize_tool_calls(reply.message, self.question.turn)
            self._finish(row, "tool_call")
            return Answered(None, message, tuple(self.rows))
        if is_cut:
            parsed = self._parse_cut(endpoint, reply)
        elif reply.text.strip():
            parsed = parse_clipped(reply.text, self.question.schema, self.question.problems)
        else:
            raise InvalidAnswer(explain_empty_reply(reply.message))
        update = {"parsed": parsed.answer.model_dump(mode="json"), "clipped": parsed.clipped}
        self._finish(row.model_copy(update=update), outcome)
        return Answered(parsed.answer, reply.message, tuple(self.rows))

    def _parse_cut(self, endpoint: Endpoint, reply: Reply) -> Parsed[T]:
        """Return the answer that was whole when the reply was cut. Raises AnswerCut where it was not."""
        # What ends in something else was to go on: an object before that may be a draft. Some packages complete the
        # arguments of a call that was cut.
        text = ending_object(reply.text) if not reply.message.tool_calls else None
        try:
            return parse_clipped(text or "", self.question.schema, self.question.problems)
        except InvalidAnswer as error:
            raise AnswerCut(endpoint.explain_cut(reply, self.role), cut(reply.text, MAX_RAW)) from error

    def _new_row(self, endpoint: Endpoint, messages: list[BaseMessage], method: Structured) -> Call:
        # The id names the attempt within the question: a node that runs again writes over its own rows.
        place, attempt = self.question.place, len(self.rows)
        prompt = self.question.prompt_for(endpoint.is_rules)
        return Call(
            id=f"{place.question_id(self.role, self.question.turn)}-a{attempt}",
            role=self.role,
            point=place.point,
            round=place.round,
            attempt=attempt,
            prompt_id=prompt.prompt_id,
            prompt_hash=prompt.sha256,
            messages=[ledger_message(message) for message in messages],
            provider=endpoint.config.provider,
            model=endpoint.config.model or endpoint.config.provider,
            raw="",
            parsed=None,
            outcome="error",
            error=None,
            input_tokens=None,
            output_tokens=None,
            latency_s=0.0,
            started=time.time(),
            fallback=endpoint.position,
            structured=method,
            temperature=self.question.temperature if endpoint.has_temperature else None,
        )

    def _finish(self, row: Call, outcome: Outcome, error: str | None = None, error_class: str | None = None) -> None:
        """Record a row with its outcome."""
        row = row.model_copy(update={"outcome": outcome, "error": error, "error_class": error_class})
        self.rows.append(row)
        self.record(row)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _closed(row: Call, begin: float, charge: Charge | None) -> Call:
    """Return the row of an attempt that has ended, with its latency and what it took."""
    update: dict[str, Any] = {"latency_s": time.perf_counter() - begin}
    if charge is not None:
        update |= {"charged_tokens": charge.tokens, "cost_usd": charge.usd}
    return row.model_copy(update=update)


def ledger_message(message: BaseMessage) -> dict[str, Any]:
    """Return a message as the ledger keeps it."""
    row: dict[str, Any] = {"role": message.type, "content": encodable(message.text)}
    if isinstance(message, AIMessage) and message.tool_calls:
        row["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        row["tool"] = message.name
    return row
