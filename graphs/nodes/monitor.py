"""monitor: is the run worse than before the last promotion? In two evaluations in a row: then it is rolled back.

The arithmetic is two evaluations and one bound; no model has a vote. Statistic: Welch's t for the difference of two
means with unequal variances (Welch 1947, Biometrika 34:28-35), one-sided, with the Welch-Satterthwaite degrees of
freedom. Both evaluations are of the same fixed seeds, but the policies act by chance and differ, so that the episodes
are as good as independent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from langgraph.runtime import Runtime
from scipy import stats

from ...errors import ProtocolError, SnapshotError, VersionConflict
from ...rl.ipc.messages import EvaluationReport, TrainerStatus
from ...runs.events import Decided, RolledBack
from ...runs.records import DecisionDetail, DecisionRecord, rollback_id
from ..context import Context, wait_for_trainer_at
from ..state import State, Watch, standing_of, status_of

IN_A_ROW = 2  # evaluations that must show a regression: one in `level` does so by chance
WATCHED = 5  # evaluations; every further one would be another chance to undo by noise what has held


async def monitor(state: State, runtime: Runtime[Context]) -> State:
    """Judge the newest evaluation against the last one before the promotion."""
    ctx, status = runtime.context, status_of(state)
    evaluation = status.evaluation
    if state["watch"] is None or evaluation is None:
        raise AssertionError("observe asks for monitor only where there is a promotion to watch and an evaluation")
    watch = Watch.model_validate(state["watch"])

    # What is too early to judge only moves the watch on.
    if evaluation.version < watch.version:  # made after the decision, but before the promotion
        watch = watch.after(evaluation, before=evaluation)
        return {"monitoring": False, "watch": watch.model_dump(mode="json"), "note": {"before": evaluation.mean}}
    if evaluation.steps < watch.starts:
        watch = watch.after(evaluation)
        early = {"reason": f"too early: a fresh potential may dip until {watch.starts} main steps"}
        return {"monitoring": False, "watch": watch.model_dump(mode="json"), "note": early}

    # No more is expected than the gate's control came to: a rollback cannot bring back what the run was losing anyway.
    before = returns(watch.before)
    if watch.expected is not None:
        before = before._replace(mean=min(before.mean, watch.expected))
    # A regression is what even the upper bound of the change says.
    level = ctx.config.gate.level
    upper = regression_upper(returns(evaluation), before, level)
    bad = watch.bad + 1 if upper < -watch.margin else 0
    verdict = f"a regression, {bad} of {IN_A_ROW} running" if bad else "no regression"
    reason = (
        f"sparse return {evaluation.mean:.3f} at {evaluation.steps} main steps, "
        f"{before.mean:.3f} before version {watch.version}: "
        f"upper bound of the change {upper:+.3f} at level {level:.3g}, bar {-watch.margin:+.3g}: {verdict}"
    )
    if bad >= IN_A_ROW:
        return await _roll_back(ctx, state, status, watch, reason)

    # A promotion that has held for long enough is watched no more.
    watch = watch.after(evaluation, bad=bad, judged=watch.judged + 1)
    over = not bad and watch.judged >= WATCHED
    note = {"reason": reason, "regressions": bad, "over": over}
    return {"monitoring": False, "watch": None if over else watch.model_dump(mode="json"), "note": note}


async def _roll_back(ctx: Context, state: State, status: TrainerStatus, watch: Watch, reason: str) -> State:
    """Undo the promotion at the trainer; the key makes a second time harmless.

    Its point is done, and patience begins anew. What cannot be undone is recorded, and training goes on.
    """
    decision = DecisionRecord(
        id=rollback_id(state["point"]),
        point=state["point"],
        round=0,
        verdict="rollback",
        winner=watch.proposal,
        adopted=None,
        version=None,
        detail=DecisionDetail(reason=reason, undone=watch.version, judgements=[], screened=[]),
        created_steps=status.steps_main,
    )
    # Compare-and-set at the trainer, as for a promotion.
    if ctx.config.clock == "lockstep":
        await wait_for_trainer_at(ctx, standing_of(state))
    in_force = status.signal.version  # the promoted one, or a control's end state after it
    try:
        reply = await ctx.client.rollback(f"rollback:{in_force}", in_force)
    except (VersionConflict, ProtocolError, SnapshotError) as error:
        reason = f"{reason}; it could not be undone: {error}"
        detail = decision.detail.model_copy(update={"reason": reason})
        await ctx.store.write(decision.model_copy(update={"verdict": "conflict", "detail": detail}))
        ctx.emit(Decided(id=decision.id, verdict="conflict", winner=None, reason=reason))
        return {"monitoring": False, "watch": None, "note": {"reason": reason}}

    await ctx.store.write(decision.model_copy(update={"version": reply.version}))
    ctx.emit(
        RolledBack(
            proposal=watch.proposal,
            undone=watch.version,
            version=reply.version,
            reason=reason,
            repeated=reply.repeated,
        )
    )
    return {
        "monitoring": False,
        "watch": None,
        "triggered": False,
        "removing": False,
        "done_point": standing_of(state),
        "status": status.model_copy(update={"steps_main": reply.steps_main}).model_dump(mode="json"),
        "last_steps": reply.steps_main,
        "note": {"reason": reason, "version": reply.version, "repeated": reply.repeated},
    }


# ---------------------------------------------------------------- the bound


class Returns(NamedTuple):
    """Undiscounted sparse returns of one evaluation: their mean, their sample standard deviation, and how many."""

    mean: float
    sd: float
    episodes: int


def returns(evaluation: EvaluationReport) -> Returns:
    """Return what the bound needs of an evaluation."""
    return Returns(evaluation.mean, evaluation.sd, evaluation.episodes)


def regression_upper(now: Returns, before: Returns, level: float) -> float:
    """Return the one-sided upper bound, at error `level` in (0, 1), of the change (now − before) of the mean return.

    It is infinite where an evaluation has fewer than two episodes: nothing is known of its spread. Where neither
    spreads the change is what it is.
    """
    if min(now.episodes, before.episodes) < 2:
        return math.inf
    change = now.mean - before.mean
    variances = [one.sd**2 / one.episodes for one in (now, before)]
    spread = sum(part**2 / (one.episodes - 1) for part, one in zip(variances, (now, before), strict=True))
    if spread == 0.0:
        return change
    freedom = sum(variances) ** 2 / spread
    return change + float(stats.t.ppf(1.0 - level, freedom)) * math.sqrt(sum(variances))
