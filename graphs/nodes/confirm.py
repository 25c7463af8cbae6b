"""confirm: under the overlap clock the run has moved on since the snapshot of a verdict. One that is too old is
confirmed once from where the run is now, or is stale; it is never promoted silently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langgraph.runtime import Runtime

from ...rl.branches.gate import Judgement
from ...rl.ipc.messages import BranchResult, TrainerStatus
from ..branches import CONTROL, run_branches, snapshot_of
from ..context import Context
from ..intervention import Results, Round, cancel_acceptance, decision_id, judge_arm, levels, load_round, steps_left
from ..state import State

FINISHED = "training is over"


async def confirm(state: State, runtime: Runtime[Context]) -> State:
    """On to `promote` with a verdict that is fresh. Under lockstep every verdict is."""
    ctx = runtime.context
    then = TrainerStatus.model_validate(state["status"])
    if ctx.config.clock == "lockstep":
        return {"before": _evaluation(then), "note": {"clock": "lockstep"}}
    begun = await _begun(ctx, state)
    now = await ctx.status()
    why = begun["why"] if begun else staleness(then, now, ctx.config.adaptation.max_staleness)
    if now.state == "finished":
        return await cancel_acceptance(ctx, state, "stale", FINISHED)
    if why is not None:
        return await _confirm(ctx, state, why)
    moved = now.steps_main - then.steps_main
    outcome = state["outcome"] | {"staleness": moved}
    return {"outcome": outcome, "before": _evaluation(now), "note": {"staleness": moved}}


def staleness(then: TrainerStatus, now: TrainerStatus, most: int) -> str | None:
    """Why what was true at `then` may not be promoted `now`, None where it may. `most`: main steps."""
    moved = now.steps_main - then.steps_main
    if now.state == "finished":
        return FINISHED
    if now.stage != then.stage:
        return f"the stage has changed from {then.stage} to {now.stage} in {moved} main steps"
    if moved > most:
        return f"the run has moved {moved} main steps, adaptation.max_staleness is {most}"
    return None


# ---------------------------------------------------------------- once more


async def _confirm(ctx: Context, state: State, why: str) -> State:
    """Winner and control once more, from a fork of the run as it is, at the last look of the gate."""
    this, winner = await load_round(ctx, state), state["outcome"]["winner"]
    fresh = await _fresh(ctx, state, this, why)
    if fresh is None:
        return await cancel_acceptance(
            ctx, state, "stale", f"{why}; adaptation.max_share does not pay for a confirmation"
        )
    again = replace(this, fork=snapshot_of(fresh), status=fresh)
    results = await _branches(ctx, again, _arms(winner))
    judgement = judge_arm(ctx, again, results, winner, levels(ctx.config)[-1])
    now = await ctx.status()
    state = {**state, "status": fresh.model_dump(mode="json"), "outcome": _both(state, why, fresh, now, judgement)}
    problem = staleness(fresh, now, ctx.config.adaptation.max_staleness)
    if judgement.verdict != "accept":
        problem = f"the confirmation did not accept it ({judgement.explanation})"
    if problem is not None:
        return await cancel_acceptance(ctx, state, "stale", f"{why}; then {problem}")
    note = {"why": why, "confirmed": judgement.explanation}
    return {"status": state["status"], "outcome": state["outcome"], "before": _evaluation(now), "note": note}


def _arms(winner: str) -> list[str]:
    """The control first; it is the winner where the kick alone was accepted."""
    return [CONTROL] if winner == CONTROL else [CONTROL, winner]


async def _begun(ctx: Context, state: State) -> dict[str, Any] | None:
    """A confirmation that was killed: why it is needed, and the status at its snapshot."""
    [row] = await ctx.store.rows("decisions", id=decision_id(state))
    found: dict[str, Any] | None = row["detail"].get("confirming")
    return found


async def _fresh(ctx: Context, state: State, this: Round, why: str) -> TrainerStatus | None:
    """The snapshot to confirm from; None where the branches cannot be paid. It is written down before any branch runs,
    so that a confirmation that was killed goes on from the same one."""
    begun = await _begun(ctx, state)
    if begun is not None:
        return TrainerStatus.model_validate(begun["status"])
    cost = len(_arms(state["outcome"]["winner"])) * ctx.config.gate.looks[-1] * this.horizon
    if cost > steps_left(ctx.config, this.status.steps_budget, await ctx.store.branch_steps()):
        return None
    fresh = (await ctx.look()).status
    detail = state["outcome"] | {"reason": why, "confirming": {"why": why, "status": fresh.model_dump(mode="json")}}
    await ctx.store.update("decisions", [{"id": decision_id(state), "detail": detail}])
    return fresh


async def _branches(ctx: Context, this: Round, arms: list[str]) -> Results:
    jobs = [this.job(ctx, arm, seed, this.horizon) for seed in range(ctx.config.gate.looks[-1]) for arm in arms]
    results: dict[str, list[BranchResult]] = {}
    for result in await run_branches(ctx, this.point, this.number, "confirm", jobs):
        results.setdefault(result.arm, []).append(result)
    return results


def _both(state: State, why: str, fresh: TrainerStatus, now: TrainerStatus, judgement: Judgement) -> dict[str, Any]:
    """The outcome with both judgements. `staleness`: main steps since the snapshot of the newer one."""
    confirmation = {"why": why, "steps_main": fresh.steps_main, "judgement": judgement.model_dump(mode="json")}
    return state["outcome"] | {"staleness": now.steps_main - fresh.steps_main, "confirmation": confirmation}


def _evaluation(status: TrainerStatus) -> dict[str, Any] | None:
    return None if status.evaluation is None else status.evaluation.model_dump(mode="json")
