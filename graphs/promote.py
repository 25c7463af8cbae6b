"""decide and promote: the gate's verdict is recorded, and an accepted signal is put in force. No model has a vote."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.runtime import Runtime

from ..errors import VersionConflict
from ..rl.branches.gate import choose_adopt, winning_seed
from ..rl.ipc.messages import BranchResult, TrainerStatus
from ..rl.signals.signal import Signal
from .context import Ctx
from .events import Decided, Promoted
from .round import Round, competence, cost_of_round, horizon_at, return_range_at, steps_left, this_round
from .state import State


async def decide(state: State, runtime: Runtime[Ctx]) -> State:
    """Record the verdict. A round without an acceptance is followed by another one while rounds and budget last."""
    ctx = runtime.context
    outcome = state["outcome"] if state["passed"] else await _nothing_passed(ctx, state)
    verdict = outcome["verdict"]
    reason = _reason(outcome)
    await ctx.store.write(
        "decisions",
        {
            "id": decision_id(state),
            "point": state["point"],
            "round": state["round"],
            "verdict": verdict,
            "winner": outcome["winner"],
            "adopted": None,
            "version": None,
            "detail": outcome | {"reason": reason},
            "created_steps": state["status"]["steps_main"],
        },
    )
    ctx.emit(Decided(id=decision_id(state), verdict=verdict, winner=outcome["winner"], reason=reason))
    note = {"verdict": verdict, "reason": reason}
    if verdict == "accept":
        return {"verdict": verdict, "note": note}
    if await _another_round(ctx, state):
        return {"round": state["round"] + 1, "verdict": None, "note": note}
    return {"verdict": verdict, "done_point": state["point"], "note": note}


async def _nothing_passed(ctx: Ctx, state: State) -> dict[str, Any]:
    rows = await ctx.store.rows("proposals", point=state["point"], round=state["round"])
    problems = [f"{row['id']}: {row['problems'][0]}" for row in rows]
    return {"verdict": "no_candidate", "winner": None, "judgements": [], "screened": [], "problems": problems}


async def _another_round(ctx: Ctx, state: State) -> bool:
    if state["round"] + 1 >= ctx.config.adaptation.rounds:
        return False
    status = TrainerStatus.model_validate(state["status"])
    horizon = horizon_at(ctx.config, status, await return_range_at(ctx, state["point"]))
    left = steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps())
    return cost_of_round(ctx.config, horizon) <= left


async def promote(state: State, runtime: Runtime[Ctx]) -> State:
    """Compare-and-set at the trainer; the key makes a second time harmless."""
    ctx = runtime.context
    this, winner = await this_round(ctx, state), state["outcome"]["winner"]
    best = await _best_branch(ctx, this, winner)
    adopted = _adopted(ctx, this) if best else "signal"
    signal = _promoted(best.signal if best else this.signals[winner], this)
    end_state = best.end_state if best and adopted == "state" else None
    await _stand_at(ctx, this.point)
    try:
        reply = await ctx.client.promote(f"{winner}:{this.in_force.version}", this.in_force.version, signal, end_state)
    except VersionConflict as error:
        return await _conflict(ctx, state, error)
    detail = state["outcome"] | {
        "reason": _reason(state["outcome"]),
        "adopt": end_state,
        "seed": best.seed if best else None,
    }
    row = {"id": decision_id(state), "adopted": adopted, "version": reply.version, "detail": detail}
    await ctx.store.update("decisions", [row])
    ctx.emit(Promoted(proposal=winner, version=reply.version, adopted=adopted, repeated=reply.repeated))
    return {
        "done_point": this.point,
        "last_steps": reply.steps_main,
        "note": {"version": reply.version, "adopted": adopted, "repeated": reply.repeated},
    }


async def _best_branch(ctx: Ctx, this: Round, winner: str) -> BranchResult | None:
    """The winner's full branch with the best final return; none where the gate is off."""
    rows = await ctx.store.rows("branches", point=this.point, arm=winner, phase="full")
    results = {row["seed"]: BranchResult.model_validate(row["result"]) for row in rows}
    return results[winning_seed({seed: r.final_return for seed, r in results.items()})] if results else None


def _adopted(ctx: Ctx, this: Round) -> Literal["state", "signal"]:
    status = this.status
    return choose_adopt(ctx.config.gate.adopt, status.stage, status.success_rate, competence(status, this.return_range))


def _promoted(signal: Signal, this: Round) -> Signal:
    """As the branch ran it, scale frozen; the exploration's kick acts again where the signal alone is adopted."""
    base = this.in_force.version
    update = {"version": base + 1, "parent": base, "stage": this.status.stage, "exploration": this.exploration}
    return signal.model_copy(update=update)


async def _stand_at(ctx: Ctx, point: int) -> None:
    """A trainer that was restarted may stand at an earlier point: bring it here first."""
    while True:
        status = await ctx.client.status()
        if status.waiting_at is not None and status.waiting_at >= point:
            return
        if status.state in ("finished", "stopping"):
            return  # compare-and-set has the last word
        if status.waiting_at is not None:
            await ctx.client.release(status.waiting_at)
        await ctx.pause()


async def _conflict(ctx: Ctx, state: State, error: VersionConflict) -> State:
    await ctx.store.update("decisions", [{"id": decision_id(state), "verdict": "conflict"}])
    ctx.emit(Decided(id=decision_id(state), verdict="conflict", winner=None, reason=str(error)))
    return {"verdict": "conflict", "done_point": state["point"], "note": {"verdict": "conflict", "reason": str(error)}}


def decision_id(state: State) -> str:
    return f"p{state['point']}-r{state['round']}"


def _reason(outcome: dict[str, Any]) -> str:
    """The gate's own words for the winner, else for the best finalist."""
    for judgement in outcome["judgements"]:
        if judgement["arm"] == (outcome["winner"] or judgement["arm"]):
            return str(judgement["explanation"])
    return "; ".join(outcome.get("problems", [])) or "nothing was tried"
