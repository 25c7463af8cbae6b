"""decide: the gate's verdict is recorded. No model has a vote."""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...rl.branches.jobs import CONTROL
from ...runs.records import Outcome, ProposalRecord
from ..context import Context
from ..intervention import (
    cost_to_try,
    end_intervention,
    horizon_at,
    record_decision,
    return_range_at,
    steps_left,
)
from ..state import State, claim_of, outcome_of, status_of
from .remove_shaping import with_removal


async def decide(state: State, runtime: Runtime[Context]) -> State:
    """Record the verdict.

    A round without an acceptance is followed by another one while rounds and budget last; after the last one the
    control's steps are kept where they can be.
    """
    ctx = runtime.context
    if state["passed"]:
        outcome = outcome_of(state)
    else:  # nothing could be tried; the problems go to the Generator with the history
        rows = await ctx.store.read(ProposalRecord, point=state["point"], round=state["round"])
        problems = [f"{row.id}: {row.problems[0]}" for row in rows]
        outcome = Outcome(verdict="no_candidate", winner=None, judgements=[], screened=[], problems=problems)
        outcome = with_removal(outcome, state)
    detail = outcome.model_copy(update={"reason": outcome.explanation})
    decision = await record_decision(ctx, state, outcome.verdict, outcome.winner, detail)
    note = {"verdict": decision.verdict, "reason": detail.reason}
    if decision.verdict == "accept":
        return {"verdict": "accept", "note": note}

    # A removal has one round: there is nobody to ask for another idea. Without a control no idea can be tried.
    over = state.get("removing") or CONTROL in outcome.failed
    if not over and state["round"] + 1 < ctx.config.adaptation.rounds:
        status = status_of(state)
        horizon = horizon_at(ctx.config, status, await return_range_at(ctx, state["point"]))
        if cost_to_try(ctx.config, claim_of(state), horizon) <= await steps_left(ctx, status):
            return {"round": state["round"] + 1, "verdict": None, "note": note}
    return await end_intervention(ctx, state, decision)
