"""decide: the gate's verdict is recorded. No model has a vote."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from ...rl.ipc.messages import TrainerStatus
from ...runs.events import Decided
from ..context import Context
from ..intervention import (
    cost_of_round,
    decision_id,
    end_intervention,
    horizon_at,
    reason_of,
    return_range_at,
    steps_left,
)
from ..state import State
from .remove_shaping import removing


async def decide(state: State, runtime: Runtime[Context]) -> State:
    """Record the verdict. A round without an acceptance is followed by another one while rounds and budget last; after
    the last one the control's steps are kept where they can be."""
    ctx = runtime.context
    outcome = state["outcome"] if state["passed"] else await _nothing_passed(ctx, state)
    verdict = outcome["verdict"]
    row = {
        "id": decision_id(state),
        "point": state["point"],
        "round": state["round"],
        "verdict": verdict,
        "winner": outcome["winner"],
        "adopted": None,
        "version": None,
        "detail": outcome | {"reason": reason_of(outcome)},
        "created_steps": state["status"]["steps_main"],
    }
    await ctx.store.write("decisions", row)
    reason = row["detail"]["reason"]
    ctx.emit(Decided(id=row["id"], verdict=verdict, winner=outcome["winner"], reason=reason))
    note = {"verdict": verdict, "reason": reason}
    if verdict == "accept":
        return {"verdict": verdict, "note": note}
    if await _another_round(ctx, state):
        return {"round": state["round"] + 1, "verdict": None, "note": note}
    return await end_intervention(ctx, state, row)


async def _nothing_passed(ctx: Context, state: State) -> dict[str, Any]:
    rows = await ctx.store.rows("proposals", point=state["point"], round=state["round"])
    problems = [f"{row['id']}: {row['problems'][0]}" for row in rows]
    outcome = {"verdict": "no_candidate", "winner": None, "judgements": [], "screened": [], "problems": problems}
    return outcome | removing(state)


async def _another_round(ctx: Context, state: State) -> bool:
    """A removal has one round: there is nobody to ask for another idea."""
    if state.get("removing") or state["round"] + 1 >= ctx.config.adaptation.rounds:
        return False
    status = TrainerStatus.model_validate(state["status"])
    horizon = horizon_at(ctx.config, status, await return_range_at(ctx, state["point"]))
    left = steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps())
    return cost_of_round(ctx.config, horizon) <= left
