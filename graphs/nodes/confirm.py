"""confirm: under the overlap clock the run has moved on since the snapshot of a verdict.

A verdict that is too old is confirmed once from where the run is now, or is stale; it is never promoted silently.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langgraph.runtime import Runtime

from ...rl.branches.jobs import CONTROL
from ...rl.ipc.messages import TrainerStatus
from ...runs.race_records import RaceRecord
from ...runs.records import Confirmation, JudgementRecord, PendingConfirmation
from ..branches import snapshot_of, with_forks
from ..context import Context
from ..intervention import cancel_acceptance, decision_of, judge_arm, levels, load_round, steps_left
from ..race.arms import keep_snapshot
from ..race.confirmation import confirm as confirm_policy
from ..state import State, outcome_of, status_of

FINISHED = "training is over"


async def confirm(state: State, runtime: Runtime[Context]) -> State:
    """Go on to `promote` with a verdict that is fresh. Under lockstep every verdict is.

    So is an exact offset: no branch has told anything that could age. The trainer refuses it under another version.
    """
    ctx, then, outcome = runtime.context, status_of(state), outcome_of(state)
    if ctx.config.clock == "lockstep":
        return {"before": _evaluation(then), "note": {"clock": "lockstep"}}
    if state.get("race") is not None:
        return await _confirm_policy(ctx, state)
    begun = (await decision_of(ctx, state)).detail.confirming  # by a process that was killed
    # The run has gone on since the snapshot of the verdict.
    now = await ctx.status()
    why = begun.why if begun else staleness(then, now, ctx.config.adaptation.max_staleness)
    if outcome.claim == "offset":
        why = None
    if now.state == "finished":
        return await cancel_acceptance(ctx, state, "stale", FINISHED)
    if why is not None:
        return await with_forks(ctx, lambda: _confirm(ctx, state, why, begun))
    moved = now.steps_main - then.steps_main
    outcome = outcome.model_copy(update={"staleness": moved})
    return {"outcome": outcome.model_dump(mode="json"), "before": _evaluation(now), "note": {"staleness": moved}}


async def _confirm_policy(ctx: Context, state: State) -> State:
    """Play a race's winner once more, against the main line's policy as it is now: it has trained on meanwhile."""
    [race] = await ctx.store.read(RaceRecord, id=state["race"])
    [look] = [look for look in race.detail.rungs[-1].arms if look.arm == race.detail.winner]
    reply = await ctx.look()
    now = reply.status
    if now.state == "finished":
        return await cancel_acceptance(ctx, state, "stale", FINISHED)
    name = await keep_snapshot(ctx.run_dir, snapshot_of(now), f"branches/main_{now.update}")
    *rungs, last = race.detail.rungs
    # One that was killed may have written its proof already: it is asked anew, and its number is not spent twice.
    proven = next(place for place, proof in enumerate(last.proofs, start=1) if proof.proven)
    last = last.model_copy(update={"proofs": last.proofs[:proven]})
    newest = last.control.model_copy(update={"state": name, "steps": now.steps_main})
    until = race.model_copy(update={"detail": race.detail.model_copy(update={"rungs": rungs})})  # its last rung
    proof, _ = await confirm_policy(ctx, until, last.proofs, look, newest, now.update)
    rungs.append(last.model_copy(update={"proofs": [*last.proofs, proof]}))
    await ctx.store.write(race.model_copy(update={"detail": race.detail.model_copy(update={"rungs": rungs})}))
    if not proof.proven:
        why = f"the main line has trained on to {now.steps_main} steps: {proof.explanation}"
        return await cancel_acceptance(ctx, state, "stale", why)
    after = await ctx.status()
    moved = after.steps_main - now.steps_main
    outcome = outcome_of(state).model_copy(update={"staleness": moved})
    return {
        "status": now.model_dump(mode="json"),
        "outcome": outcome.model_dump(mode="json"),
        "before": _evaluation(now),
        "note": {"staleness": moved, "confirmed": proof.explanation},
    }


def staleness(then: TrainerStatus, now: TrainerStatus, most: int) -> str | None:
    """Say why what was true at `then` may not be promoted `now`; None where it may. `most`: main steps."""
    moved = now.steps_main - then.steps_main
    if now.state == "finished":
        return FINISHED
    if now.stage != then.stage:
        return f"the stage has changed from {then.stage} to {now.stage} in {moved} main steps"
    if moved > most:
        return f"the run has moved {moved} main steps, adaptation.max_staleness is {most}"
    return None


async def _confirm(ctx: Context, state: State, why: str, begun: PendingConfirmation | None) -> State:
    """Judge the winner once more, from a fork of the run as it is, at the last look of the gate.

    `begun` is the same confirmation, where a process that was killed has begun it.
    """
    round_, outcome, decision = await load_round(ctx, state), outcome_of(state), await decision_of(ctx, state)
    begun = begun or decision.detail.confirming  # an attempt before this one has begun it
    assert outcome.winner is not None  # the gate has accepted it
    # The control comes first; it is the winner where the kick alone was accepted.
    arms = [CONTROL] if outcome.winner == CONTROL else [CONTROL, outcome.winner]
    seeds = range(ctx.config.gate.looks[-1])

    # The snapshot to confirm from: the one that was begun with, else one that is made now, if the branches can be paid.
    if begun is not None:
        fresh = begun.status
    else:
        if len(arms) * len(seeds) * round_.horizon > await steps_left(ctx, round_.status):
            unpaid = f"{why}; adaptation.max_share does not pay for a confirmation"
            return await cancel_acceptance(ctx, state, "stale", unpaid)
        fresh = (await ctx.look()).status
        # Written down before any branch runs, so that a confirmation that is killed goes on from the same snapshot.
        pending = PendingConfirmation(why=why, status=fresh)
        detail = outcome.model_copy(update={"reason": why, "confirming": pending})
        await ctx.store.write(decision.model_copy(update={"detail": detail}))

    # The same arms under the same signals, from where the run is now.
    again = replace(round_, fork=snapshot_of(fresh), status=fresh)
    jobs = [again.job(ctx, arm, seed, again.horizon) for seed in seeds for arm in arms]
    results, failed = await again.run(ctx, "confirm", jobs)
    if failed:
        arm, reason = next(iter(failed.items()))
        unconfirmed = f"{why}; then a branch of {arm} could not be run to confirm it, {reason}"
        return await cancel_acceptance(ctx, state, "stale", unconfirmed)
    judgement = judge_arm(ctx, again, results, outcome.winner, levels(ctx.config)[-1])

    # The outcome gets both judgements; the run has gone on once more.
    now = await ctx.status()
    record = JudgementRecord(**judgement.model_dump())
    confirmation = Confirmation(why=why, steps_main=fresh.steps_main, judgement=record)
    outcome = outcome.model_copy(update={"staleness": now.steps_main - fresh.steps_main, "confirmation": confirmation})
    state = {**state, "status": fresh.model_dump(mode="json"), "outcome": outcome.model_dump(mode="json")}
    problem = staleness(fresh, now, ctx.config.adaptation.max_staleness)
    if judgement.verdict != "accept":
        problem = f"the confirmation did not accept it ({judgement.explanation})"
    if problem is not None:
        return await cancel_acceptance(ctx, state, "stale", f"{why}; then {problem}")
    note = {"why": why, "confirmed": judgement.explanation}
    return {"status": state["status"], "outcome": state["outcome"], "before": _evaluation(now), "note": note}


def _evaluation(status: TrainerStatus) -> dict[str, Any] | None:
    return None if status.evaluation is None else status.evaluation.model_dump(mode="json")
