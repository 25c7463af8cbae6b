"""observe: wait for the trainer's next adaptation point and decide whether anything is wrong there."""

from __future__ import annotations

import asyncio
import shutil

from langchain_core.messages import RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from ..errors import TrainerGone
from ..rl.ipc.messages import TrainerStatus
from .context import Ctx
from .round import cost_of_round, horizon_at, steps_left
from .state import State
from .triggers import Trigger, trigger


async def observe(state: State, runtime: Runtime[Ctx]) -> State:
    """One step of the graph a point. A point without a trigger is done at once; the next step releases it."""
    ctx = runtime.context
    if state.get("triggered"):
        await _forget_branches(ctx)
    status = await _next_point(ctx, state.get("done_point", -1))
    if status.waiting_at is None:
        return {"finished": True, "triggered": False, "note": {"reason": "the run is over"}}
    decision = await _decide(ctx, state, status)
    if not decision.fires:
        return {
            "point": status.waiting_at,
            "done_point": status.waiting_at,
            "triggered": False,
            "note": {"reason": decision.reason, "stage": status.stage},
        }
    return await _intervene(ctx, state, status, decision.reason)


async def _next_point(ctx: Ctx, done: int) -> TrainerStatus:
    """The status at the first point after `done`, or with `waiting_at` None at the end of the run.

    Points up to `done` are released: after a crash the trainer may stand at an earlier one than the graph.
    """
    while True:
        status = await ctx.client.status()
        if status.state == "finished":
            return status.model_copy(update={"waiting_at": None})
        if status.state == "stopping":
            raise TrainerGone("the trainer was told to stop by somebody else; use --resume to continue the run")
        if status.waiting_at is not None:
            if status.waiting_at > done:
                return status
            await ctx.client.release(status.waiting_at)
        await ctx.pause()


async def _decide(ctx: Ctx, state: State, status: TrainerStatus) -> Trigger:
    if state.get("adaptation_over"):
        return Trigger(False, "the model budget is used up: nothing adapts any more")
    horizon = horizon_at(ctx.config, status, ctx.spec.return_range)
    return trigger(
        status,
        patience=ctx.config.adaptation.patience,
        last_steps=state.get("last_steps", 0),
        cost=cost_of_round(ctx.config, horizon),
        left=steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps()),
    )


async def _intervene(ctx: Ctx, state: State, status: TrainerStatus, reason: str) -> State:
    assert status.waiting_at is not None
    evidence = await ctx.client.evidence()
    row = {"point": status.waiting_at, "evidence": evidence.model_dump(mode="json")}
    await ctx.store.write("diagnoses", row)
    return {
        "point": status.waiting_at,
        "triggered": True,
        "status": status.model_dump(mode="json"),
        "last_steps": status.steps_main,
        "interventions": state.get("interventions", 0) + 1,
        "round": 0,
        "messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)],
        "calls_left": ctx.config.adaptation.evidence_calls,
        "diagnosis": None,
        "verdict": None,
        "note": {"reason": reason, "stage": status.stage},
    }


async def _forget_branches(ctx: Ctx) -> None:
    """Delete the end states of decided branches; an adopted one is part of the run and stays."""
    adopted = {row["detail"].get("adopt") for row in await ctx.store.rows("decisions")}
    folder = ctx.run_dir / "branches"
    for end_state in await asyncio.to_thread(lambda: sorted(folder.glob("*"))):
        if f"branches/{end_state.name}" not in adopted:
            await asyncio.to_thread(shutil.rmtree, end_state, True)
