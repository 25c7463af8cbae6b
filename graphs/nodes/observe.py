"""observe: wait for the next adaptation point and decide whether the loop intervenes there.

A point is where the loop looks. Under the lockstep clock the trainer waits there and names it; under the overlap clock
it never waits, and a point is the first status behind the next multiple of `adaptation.interval`.

`trigger`, a pure function of what the trainer says, decides: never where nothing is wrong, and where learning has
converged only to take shaping out of the reward.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import Any, NamedTuple

from langchain_core.messages import RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from ...errors import TrainerGone
from ...rl.ipc.messages import TrainerStatus
from ...rl.signals.signal import Signal
from ...rl.stage import SOLVED, STAGES
from ...runs.race_records import RaceRecord
from ...runs.records import DecisionRecord, InterventionRecord
from ..context import Context
from ..intervention import claim_at, cost_to_try, horizon_at, steps_left
from ..preference_jobs import scorers_out_of_data
from ..race.arms import carried_over
from ..state import State, Watch
from .remove_shaping import REMOVALS, leaves_by_offset, offset_declined, refused_removal

OVERLAP_POLL_FACTOR = 5  # the trainer works while it is asked, so it is asked this many times less often
REMOVAL_REST = 5  # a removal that was refused rests for this many times the patience of its stage


async def observe(state: State, runtime: Runtime[Context]) -> State:
    """Wait for one point; where nothing triggers an intervention it is done at once, and the next step releases it.

    Raises:
        TrainerGone: somebody else has told the trainer to stop.
    """
    ctx = runtime.context
    # The last step has ended an intervention, which is decided by now.
    if state.get("race") is None and state.get("verdict") is not None:
        await _delete_end_states(ctx)
    status = await _next_point(ctx, state)
    if state.get("race") is not None:
        return _rung_in_state(await ctx.status() if status is None else status)
    if status is None:
        return {"finished": True, "triggered": False, "monitoring": False, "note": {"reason": "the run is over"}}
    decision = await _decide(ctx, state, status)
    if not decision.fires:
        return {
            "verdict": None,
            **_point_in_state(state, status),
            "done_point": point_of(status),
            "triggered": False,
            "removing": False,
            "note": {"reason": decision.reason, "stage": status.stage},
        }
    # An intervention goes on from one look: status, snapshot and evidence of one instant, which under the overlap clock
    # is a later one than that of the status which fired.
    given = bool(ctx.config.adaptation.signals) and not decision.removing
    look = await ctx.look(episodes=not (given or decision.removing))  # nobody is asked then
    evidence = look.evidence.model_dump(mode="json")
    await ctx.store.write(InterventionRecord(point=point_of(look.status), evidence=evidence))
    return {
        **_point_in_state(state, look.status),
        "triggered": True,
        "claim": claim_at(ctx.config, decision.removing),
        "clock": ctx.config.clock,
        "removing": decision.removing,
        "given": given,
        "last_steps": look.status.steps_main,
        "interventions": state.get("interventions", 0) + 1,
        "round": 0,
        "messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)],
        "calls_left": ctx.config.adaptation.evidence_calls,
        "diagnosis": None,
        "ranking": False,
        "left_data": await scorers_out_of_data(ctx, look.status),
        "fitting": [],
        "learned": None,
        "fitted": [],
        "race": None,
        "verdict": None,
        "note": {"reason": decision.reason, "stage": look.status.stage},
    }


async def _delete_end_states(ctx: Context) -> None:
    """Delete the end states of decided branches; what was adopted stays, and what the next race takes over."""
    needed = {decision.detail.adopt for decision in await ctx.store.read(DecisionRecord)}
    races = await ctx.store.read(RaceRecord)
    needed |= {arm.start for race in races[-1:] for arm in carried_over(race)}
    folder = ctx.run_dir / "branches"
    for end_state in await asyncio.to_thread(lambda: sorted(folder.glob("*"))):
        if f"branches/{end_state.name}" not in needed:
            await asyncio.to_thread(shutil.rmtree, end_state, True)


# ---------------------------------------------------------------- waiting for a point


async def _next_point(ctx: Context, state: State) -> TrainerStatus | None:
    """Return the status at the next point, None at the end of the run."""
    lockstep = ctx.config.clock == "lockstep"
    done, interval = state.get("done_point", -1), ctx.config.adaptation.interval
    # Main steps at the last point, or right after what was adopted or undone there.
    last_status: dict[str, Any] = state.get("status") or {}
    last_steps = int(last_status.get("steps_main", 0))
    while True:
        status = await ctx.status()
        if status.state == "finished":
            return None
        if status.state == "stopping":
            raise TrainerGone("the trainer was told to stop by somebody else; use --resume to continue the run")
        if lockstep:
            if status.waiting_at is not None and status.waiting_at > done:
                return status
            # After a crash the trainer may wait at an earlier point than the graph: those up to `done` are released.
            if status.waiting_at is not None:
                await ctx.client.release(status.waiting_at)
            await ctx.pause()
        else:
            # Without adaptation there are no points, as under lockstep.
            if ctx.config.adaptation.enabled and status.steps_main // interval > last_steps // interval:
                return status
            await asyncio.sleep(OVERLAP_POLL_FACTOR * ctx.poll_s)


def point_of(status: TrainerStatus) -> int:
    """Return the name of a point: where a lockstep trainer waits, else the update that was looked at."""
    return status.update if status.waiting_at is None else status.waiting_at


def _point_in_state(state: State, status: TrainerStatus) -> State:
    """Return the point, and whether `monitor` has an evaluation to judge there before anything else."""
    # After a promotion `watch` holds the evaluation that was judged last.
    watch, evaluation = state.get("watch"), status.evaluation
    is_new = watch is not None and evaluation is not None and Watch.model_validate(watch).is_new(evaluation)
    point = point_of(status)
    return {"point": point, "standing": point, "status": status.model_dump(mode="json"), "monitoring": is_new}


def _rung_in_state(status: TrainerStatus) -> State:
    """Return where the trainer stands at the end of a rung; the race itself stays that of its point.

    What `monitor` watches waits until the race is over: a rollback would take away the main line that the arms race.
    """
    return {
        "standing": point_of(status),
        "status": status.model_dump(mode="json"),
        "triggered": False,
        "monitoring": False,
        "note": {"reason": "a race is under way", "stage": status.stage},
    }


# ---------------------------------------------------------------- deciding


class Trigger(NamedTuple):
    """A decision of whether the loop intervenes, and why or why not."""

    fires: bool
    reason: str
    removing: bool = False  # nothing is wrong: the intervention is to take shaping away


async def _decide(ctx: Context, state: State, status: TrainerStatus) -> Trigger:
    """Ask `trigger` with what the run has spent and tried so far."""
    if state.get("adaptation_over"):
        return Trigger(False, "the model budget is used up: nothing adapts any more")
    # A removal is a round of its own: other candidates, no model, and a rest after one that was refused.
    removal = STAGES[status.stage].purpose == "removal"
    # Potentials that leave by their offset ask for no branch, and so for no budget.
    by_offset = removal and leaves_by_offset(ctx.config, status.signal)
    if by_offset and await offset_declined(ctx, status.signal):
        return Trigger(False, "the human who was asked keeps the potentials of this signal in the reward")
    if removal and not by_offset and ctx.config.gate.claim == "policy":
        return Trigger(False, "gate.claim is policy: whether other shaping may leave is a question about a signal")
    horizon = horizon_at(ctx.config, status, ctx.spec.return_range)
    claim, candidates = claim_at(ctx.config, removal), REMOVALS if removal else None
    return trigger(
        status,
        patience=ctx.config.adaptation.patience,
        last_steps=state.get("last_steps", 0),
        cost=0 if by_offset else cost_to_try(ctx.config, claim, horizon, candidates),
        left=await steps_left(ctx, status),
        refused=await refused_removal(ctx, status.signal) if removal else None,
    )


def trigger(
    status: TrainerStatus, *, patience: int, last_steps: int, cost: int, left: int, refused: int | None = None
) -> Trigger:
    """Decide whether to intervene now, and say why or why not.

    Args:
        status: the trainer's, with the stage of learning that `STAGES` has a rule for.
        patience: main steps between two interventions, and before the first; the stage may shorten it.
        last_steps: main steps at the last intervention, 0 before it.
        cost: branch steps of one round; 0 where nothing is branched.
        left: branch steps that the budget still allows.
        refused: main steps at the last refused removal of the signal in force, None where there was none.
    """
    rule, at_stage = STAGES[status.stage], f"stage {status.stage}"
    wait = int(patience * rule.patience)
    since = status.steps_main - last_steps
    # First whether anything is to be done at this stage, then whether it is time and whether it can be paid.
    if rule.purpose is None:
        return Trigger(False, f"{at_stage}: nothing is wrong")
    if rule.purpose == "repair" and status.success_rate is not None and status.success_rate >= SOLVED:
        return Trigger(False, f"success rate {status.success_rate:.2f}: solved")
    if rule.purpose == "removal":
        if not has_lasting_shaping(status.signal):
            return Trigger(False, f"{at_stage}: nothing is wrong, and no shaping stays in force")
        if refused is not None and status.steps_main - refused < REMOVAL_REST * wait:
            return Trigger(False, f"{at_stage}: removing this signal was refused at {refused} main steps")
    if since < wait:
        return Trigger(False, f"{since} main steps since the last look, adaptation.patience is {wait} at this stage")
    if cost > max(left, 0):
        return Trigger(False, f"a round costs {cost} branch steps, adaptation.max_share leaves {max(left, 0)}")
    return Trigger(True, f"{at_stage} after {since} main steps", removing=rule.purpose == "removal")


def has_lasting_shaping(signal: Signal) -> bool:
    """Tell whether any shaping stays until it is removed; event bonuses and annealed potentials fade by themselves."""
    return any(term.fades_over is None for term in signal.terms)
