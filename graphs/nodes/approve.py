"""approve: with `approve: human`, a promotion waits for an answer. Everything that has an effect comes after it, since
LangGraph runs the node from its top again when the answer is there."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from ...rl.signals.signal import Signal, describe_difference
from ...runs.approvals import given_answer
from ...runs.events import ApprovalGiven, ApprovalNeeded
from ...runs.timeline import KICK_ALONE
from ..context import Context
from ..intervention import cancel_acceptance, decision_id, reason_of
from ..state import State
from .promote import promotion_of


async def approve(state: State, runtime: Runtime[Context]) -> State:
    """`auto` says yes. A signal that is declined is not tried again in this run."""
    ctx = runtime.context
    if ctx.config.adaptation.approve == "auto":
        return {"approved": True, "note": {"approve": "auto"}}
    question = await _question(ctx, state)
    yes = interrupt(question.model_dump(mode="json"))["yes"]
    if yes:
        return {"approved": True, "note": {"approve": "human", "yes": True}}
    if yes is None:
        return {
            **await cancel_acceptance(ctx, state, "stale", "training was over before anybody answered"),
            "approved": False,
        }
    return {**await cancel_acceptance(ctx, state, "declined", "declined by the human who was asked"), "approved": False}


async def wait_for_answer(ctx: Context, question: ApprovalNeeded) -> bool | None:
    """The answer, from whichever process it comes; None where training is over before there is one (overlap clock)."""
    await ctx.store.set(waiting_for=question.model_dump(mode="json"))
    yes = await _given(ctx, question)
    if yes is None:
        ctx.emit(question)
    while yes is None and not await _is_over(ctx):
        await ctx.pause()
        yes = await _given(ctx, question)
    await ctx.store.set(waiting_for=None)
    ctx.emit(ApprovalGiven(id=question.id, yes=yes))
    return yes


async def _given(ctx: Context, question: ApprovalNeeded) -> bool | None:
    return await asyncio.to_thread(given_answer, ctx.run_dir, question.id)


async def _is_over(ctx: Context) -> bool:
    """A lockstep trainer waits at the point as long as it takes."""
    return ctx.config.clock == "overlap" and (await ctx.client.status()).state == "finished"


async def _question(ctx: Context, state: State) -> ApprovalNeeded:
    """Made of what is in the books, so that it is the same when the node runs again."""
    promotion = await promotion_of(ctx, state)
    in_force = Signal.model_validate(state["status"]["signal"])
    proposal = await _proposal(ctx, promotion.winner)
    return ApprovalNeeded(
        id=decision_id(state),
        proposal=promotion.winner,
        title=proposal["title"],
        reason=proposal["reason"],
        terms=[term.describe() for term in promotion.signal.terms],
        gate=reason_of(state["outcome"]),
        diff=describe_difference(in_force, promotion.signal),
        replaces=promotion.base_version,
        adopted=promotion.adopted,
    )


async def _proposal(ctx: Context, winner: str) -> dict[str, Any]:
    """What the proposal says of itself; the control has made none."""
    rows = await ctx.store.rows("proposals", id=winner)
    return rows[0]["proposal"] if rows else {"title": KICK_ALONE[winner], "reason": "it revives the run by itself"}
