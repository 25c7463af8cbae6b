"""race: arms race beside the main line, one rung a visit, until a policy is proven better than the main line's.

Under the lockstep clock the trainer is released between two visits, since the main line is the control; under the
overlap clock it trains on by itself, and rungs follow each other.
"""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...runs.events import RungFinished
from ...runs.race_records import RaceRecord
from ...runs.records import Outcome
from ..branches import with_forks
from ..context import Context
from ..intervention import end_intervention, record_decision
from ..race.rung import begin_race, race_on, race_outcome
from ..state import State, standing_of, status_of


async def race(state: State, runtime: Runtime[Context]) -> State:
    """Begin the race of the round, or run its next rung; decide when it is over."""
    ctx, status = runtime.context, status_of(state)
    if state.get("race") is None:
        begun = await with_forks(ctx, lambda: begin_race(ctx, state))
        if isinstance(begun, str):  # there is nothing to compare with; the run goes on without its branches
            failed = Outcome(verdict="branch_failed", winner=None, reason=begun, claim="policy")
            return await end_intervention(ctx, state, await record_decision(ctx, state, "branch_failed", None, failed))
        arms = [arm.name for arm in begun.detail.arms]
        standing = standing_of(state)
        return {"race": begun.id, "rungs": 0, "done_point": standing, "verdict": None, "note": {"arms": arms}}

    record = await _before(ctx, state)
    if ctx.config.clock == "overlap":  # the main line trains on; the signal in force is that of the fork
        now = await ctx.status()
        status = status.model_copy(update={"state": now.state, "update": now.update, "steps_main": now.steps_main})
    before, record = len(record.detail.rungs), await race_on(ctx, record, status)
    if len(record.detail.rungs) > before:
        _tell(ctx, record)
    if record.detail.winner is None and record.detail.end is None:
        rung = record.detail.rungs[-1]
        note = {"rung": rung.number, "control": rung.control.mean, "arms": {look.arm: look.mean for look in rung.arms}}
        return {"rungs": rung.number, "done_point": standing_of(state), "note": note | {"dropped": rung.dropped}}

    # The race is over: a policy is proven, or none will be.
    outcome = race_outcome(record)
    decision = await record_decision(ctx, state, outcome.verdict, outcome.winner, outcome)
    note = {"verdict": outcome.verdict, "reason": outcome.reason}
    if outcome.winner is not None:
        return {"verdict": "accept", "outcome": outcome.model_dump(mode="json"), "note": note}
    return await end_intervention(ctx, state, decision)


async def _before(ctx: Context, state: State) -> RaceRecord:
    """Return the race as it was before this visit: a visit that was killed may have written its rung already."""
    [record] = await ctx.store.read(RaceRecord, id=state["race"])
    detail, rungs = record.detail, state.get("rungs", 0)
    update = {
        "rungs": [rung for rung in detail.rungs if rung.number <= rungs],
        "arms": [arm for arm in detail.arms if arm.joined <= rungs],
        "waiting": [*(arm for arm in detail.arms if arm.joined > rungs), *detail.waiting],
        "winner": None,
        "end": None,
    }
    return record.model_copy(update={"detail": detail.model_copy(update=update)})


def _tell(ctx: Context, record: RaceRecord) -> None:
    rung = record.detail.rungs[-1]
    ctx.emit(
        RungFinished(
            point=record.point,
            rung=rung.number,
            steps_main=rung.control.steps,
            control=rung.control.mean,
            arms={look.arm: look.mean for look in rung.arms},
            dropped=rung.dropped,
        )
    )
