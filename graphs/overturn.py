"""An accepted decision that does not become a promotion: declined, stale, or the version is no longer in force."""

from __future__ import annotations

from typing import Any, Literal

from .context import Ctx
from .decide import decision_id, reason_of
from .events import Decided
from .keep_control import end_intervention
from .state import State


async def overturn(ctx: Ctx, state: State, verdict: Literal["declined", "stale", "conflict"], why: str) -> State:
    """Record why the accepted signal is not put in force; its point is done and training goes on."""
    outcome = state["outcome"]
    reason = f"{why}; the gate had accepted: {reason_of(outcome)}"
    row: dict[str, Any] = {"id": decision_id(state), "verdict": verdict, "detail": outcome | {"reason": reason}}
    await ctx.store.update("decisions", [row])
    ctx.emit(Decided(id=row["id"], verdict=verdict, winner=outcome["winner"], reason=reason))
    if verdict == "conflict":  # somebody else has changed the signal: there is no control of what is in force now
        return {"verdict": verdict, "done_point": state["point"], "note": {"verdict": verdict, "reason": reason}}
    return await end_intervention(ctx, state, row)
