"""Helpers of the nodes that ask a model: the payload of their prompts, and the end where nobody answers.

A model that fails to answer ends the intervention, as data; training goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from ..agents.prompt_payload import Example, Payload, build_payload
from ..agents.schemas import Diagnosis
from ..errors import BudgetExhausted, ModelAnswerError
from ..runs.records import DecisionDetail, DecisionVerdict
from .context import Context
from .history import tried
from .intervention import end_intervention, evidence_at, record_decision
from .state import State

MAX_REASON_CHARS = 2000

T = TypeVar("T")


async def diagnosed_payload(ctx: Context, state: State, examples: Sequence[Example] = ()) -> Payload:
    """Build the payload of the prompts that follow a diagnosis, the Generator's with examples. Raises PromptTooLong."""
    diagnosis, history = Diagnosis.model_validate(state["diagnosis"]), await tried(ctx.store)
    return build_payload(await evidence_at(ctx, state["point"]), history, diagnosis, examples=examples)


async def end_without_answer(ctx: Context, state: State, error: ModelAnswerError) -> State:
    """End the intervention because a model did not answer; with the model budget used up, end adaptation with it."""
    budget_is_used_up = isinstance(error, BudgetExhausted)
    verdict: DecisionVerdict = "budget" if budget_is_used_up else "no_answer"
    reason = f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS]
    update = await end_without_trial(ctx, state, verdict, reason)
    over: State = adaptation_over(ctx) if budget_is_used_up else {"adaptation_over": False}
    return {**update, **over}


def adaptation_over(ctx: Context) -> State:
    """Return that the model budget is used up, with the limits, for a resumed run may have higher ones."""
    return {"adaptation_over": True, "limits": ctx.config.llm.limits.model_dump(include={"calls", "tokens", "usd"})}


async def end_without_trial(ctx: Context, state: State, verdict: DecisionVerdict, reason: str) -> State:
    """Record that the intervention ends here, with nothing tried in this round."""
    detail = DecisionDetail(reason=reason, judgements=[], screened=[])
    return await end_intervention(ctx, state, await record_decision(ctx, state, verdict, None, detail))


async def write_as_they_come(
    ctx: Context, batches: AsyncGenerator[list[T], None], write: Callable[[list[T]], None]
) -> None:
    """Write the answers of each request as they come, so that none that was paid for is lost."""
    try:
        async with aclosing(batches):
            async for answers in batches:
                # Calls go first: what was paid must be known before its answer keeps it from being asked again.
                await ctx.write_calls()
                await asyncio.to_thread(write, answers)
    finally:
        await ctx.write_calls()
