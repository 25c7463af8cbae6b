"""When the loop intervenes: a pure function of what the trainer says. Never when nothing is wrong, and where learning
has converged only to take shaping away."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any, NamedTuple

from langchain_core.messages import RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from ...errors import TrainerGone
from ...rl.ipc.messages import TrainerStatus
from ...rl.signals.signal import Signal, fades_over
from ...rl.stage import STAGES, Stage, StageRule
from ..context import Context
from ..intervention import cost_of_round, horizon_at, steps_left
from ..preference_jobs import left_data
from ..state import State
from .remove_shaping import REMOVALS, refused_removal

# ---------------------------------------------------------------- MERGED graphs.triggers

SOLVED = 0.9
WRONG: tuple[Stage, ...] = tuple(stage for stage, rule in STAGES.items() if rule.purpose == "repair")
REMOVAL_REST = 5  # a removal that was refused rests for this many times the patience of its stage


class Trigger(NamedTuple):
    """`removing`: nothing is wrong; the intervention is to take shaping away."""

    fires: bool
    reason: str
    removing: bool = False


def trigger(
    status: TrainerStatus, *, patience: int, last_steps: int, cost: int, left: int, refused: int | None = None
) -> Trigger:
    """Whether to intervene now, and why or why not.

    `patience`: main steps between two interventions, and before the first; the stage may shorten it. `last_steps`: main
    steps at the last one, 0 before it. `cost`: branch steps of one round; `left`: those that the budget still allows.
    `refused`: main steps at the last refused removal of the signal in force, None where there was none.
    """
    rule = STAGES[status.stage]
    wait = int(patience * rule.patience)
    since = status.steps_main - last_steps
    reason = _nothing_to_do(status, rule, wait, refused)
    if reason is not None:
        return Trigger(False, reason)
    if since < wait:
        return Trigger(False, f"{since} main steps since the last look, adaptation.patience is {wait} at this stage")
    if cost > left:
        return Trigger(False, f"a round costs {cost} branch steps, adaptation.max_share leaves {max(left, 0)}")
    return Trigger(True, f"stage {status.stage} after {since} main steps", rule.purpose == "removal")


def _nothing_to_do(status: TrainerStatus, rule: StageRule, wait: int, refused: int | None) -> str | None:
    if rule.purpose is None:
        return f"stage {status.stage}: nothing is wrong"
    if rule.purpose == "repair":
        solved = status.success_rate is not None and status.success_rate >= SOLVED
        return f"success rate {status.success_rate:.2f}: solved" if solved else None
    if not stays(status.signal):
        return f"stage {status.stage}: nothing is wrong, and no shaping stays in force"
    if refused is not None and status.steps_main - refused < REMOVAL_REST * wait:
        return f"stage {status.stage}: removing this signal was refused at {refused} main steps"
    return None


def stays(signal: Signal) -> bool:
    """Whether any shaping stays until it is taken away: event bonuses and annealed potentials fade by themselves."""
    return any(fades_over(term) is None for term in signal.terms)


# ---------------------------------------------------------------- MERGED graphs.observe
# DOC """observe: wait for the next adaptation point and decide whether anything is wrong there.
# DOC
# DOC A point is where the loop looks. Under the lockstep clock the trainer waits there and names it; under the overlap clock
# DOC it never waits, and a point is the first status behind the next multiple of `adaptation.interval`.
# DOC """

CALM = 5  # overlap: the trainer works while it is asked, so it is asked this many times less often


async def observe(state: State, runtime: Runtime[Context]) -> State:
    """One step of the graph a point. A point without a trigger is done at once; the next step releases it."""
    ctx = runtime.context
    if state.get("triggered"):
        await _forget_branches(ctx)
    status = await _next_point(ctx, state)
    if status is None:
        over: State = {"finished": True, "triggered": False, "monitoring": False}
        return {**over, "note": {"reason": "the run is over"}}
    decision = await _decide(ctx, state, status)
    if decision.fires:
        return await _intervene(ctx, state, decision)
    return {
        **_seen(state, status),
        "done_point": point_of(status),
        "triggered": False,
        "removing": False,
        "note": {"reason": decision.reason, "stage": status.stage},
    }


def point_of(status: TrainerStatus) -> int:
    """The point's name: where a lockstep trainer waits, else the update that was looked at."""
    return status.update if status.waiting_at is None else status.waiting_at


# ---------------------------------------------------------------- waiting for a point


async def _next_point(ctx: Context, state: State) -> TrainerStatus | None:
    """The status at the next point, None at the end of the run."""
    lockstep = ctx.config.clock == "lockstep"
    while True:
        status = await ctx.status()
        if status.state == "finished":
            return None
        if status.state == "stopping":
            raise TrainerGone("the trainer was told to stop by somebody else; use --resume to continue the run")
        if lockstep and await _waits_beyond(ctx, status, state.get("done_point", -1)):
            return status
        if not lockstep and _crossed(ctx, state, status):
            return status
        await (ctx.pause() if lockstep else asyncio.sleep(CALM * ctx.poll_s))


async def _waits_beyond(ctx: Context, status: TrainerStatus, done: int) -> bool:
    """Points up to `done` are released: after a crash the trainer may stand at an earlier one than the graph."""
    if status.waiting_at is None:
        return False
    if status.waiting_at <= done:
        await ctx.client.release(status.waiting_at)
    return status.waiting_at > done


def _crossed(ctx: Context, state: State, status: TrainerStatus) -> bool:
    """A point of the overlap clock; without adaptation there is none, as under lockstep."""
    adaptation = ctx.config.adaptation
    return adaptation.enabled and _has_crossed(status.steps_main, _steps_seen(state), adaptation.interval)


def _has_crossed(steps: int, before: int, interval: int) -> bool:
    return steps // interval > before // interval


def _steps_seen(state: State) -> int:
    """Main steps at the last point, or right after what was adopted there."""
    status: dict[str, Any] = state.get("status") or {}
    return max(int(status.get("steps_main", 0)), state.get("last_steps", 0))


# ---------------------------------------------------------------- deciding


async def _decide(ctx: Context, state: State, status: TrainerStatus) -> Trigger:
    if state.get("adaptation_over"):
        return Trigger(False, "the model budget is used up: nothing adapts any more")
    removal = STAGES[status.stage].purpose == "removal"
    horizon = horizon_at(ctx.config, status, ctx.spec.return_range)
    return trigger(
        status,
        patience=ctx.config.adaptation.patience,
        last_steps=state.get("last_steps", 0),
        cost=cost_of_round(ctx.config, horizon, REMOVALS if removal else None),
        left=steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps()),
        refused=await refused_removal(ctx, status.signal) if removal else None,
    )


def _seen(state: State, status: TrainerStatus) -> State:
    """The point, and whether `monitor` has an evaluation to judge there before anything else."""
    watch, evaluation = state.get("watch"), status.evaluation
    news = watch is not None and evaluation is not None and evaluation.steps > watch["seen"]
    return {"point": point_of(status), "status": status.model_dump(mode="json"), "monitoring": news}


async def _intervene(ctx: Context, state: State, decision: Trigger) -> State:
    """From one look on: status, snapshot and evidence of one instant, which under the overlap clock is a later one than
    that of the status which fired."""
    look = await ctx.look()
    row = {"point": point_of(look.status), "evidence": look.evidence.model_dump(mode="json")}
    await ctx.store.write("diagnoses", row)
    return {
        **_seen(state, look.status),
        "triggered": True,
        "removing": decision.removing,
        "last_steps": look.status.steps_main,
        "interventions": state.get("interventions", 0) + 1,
        "round": 0,
        "messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)],
        "calls_left": ctx.config.adaptation.evidence_calls,
        "diagnosis": None,
        "ranking": False,
        "left_data": await left_data(ctx, look.status),
        "learned": None,
        "verdict": None,
        "note": {"reason": decision.reason, "stage": look.status.stage},
    }


async def _forget_branches(ctx: Context) -> None:
    """Delete the end states of decided branches; an adopted one is part of the run and stays."""
    adopted = {row["detail"].get("adopt") for row in await ctx.store.rows("decisions")}
    folder = ctx.run_dir / "branches"
    for end_state in await asyncio.to_thread(lambda: sorted(folder.glob("*"))):
        if f"branches/{end_state.name}" not in adopted:
            await asyncio.to_thread(shutil.rmtree, end_state, True)
