"""Is a run worse than it was? The monitor's arithmetic: two evaluations, one bound. No model has a vote.

Statistic: Welch's t for the difference of two means with unequal variances (Welch 1947, Biometrika 34:28-35),
one-sided, with the Welch-Satterthwaite degrees of freedom. Both evaluations are of the same fixed seeds, but the
policies act by chance and differ, so that the episodes are as good as independent.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from langgraph.runtime import Runtime
from scipy import stats

from ...errors import ProtocolError, SnapshotError, VersionConflict
from ...rl.ipc.messages import EvaluationReport, PromoteReply, TrainerStatus
from ...runs.events import Decided, RolledBack
from ..context import Context, wait_for_trainer_at
from ..state import State

# ---------------------------------------------------------------- MERGED rl.branches.monitor

RUNNING = 2  # evaluations in a row that must show a regression: one in `level` does so by chance


class Returns(NamedTuple):
    """Undiscounted sparse returns of one evaluation: their mean, their sample standard deviation, and how many."""

    mean: float
    sd: float
    episodes: int


def regression_upper(now: Returns, before: Returns, level: float) -> float:
    """One-sided upper bound, at error `level` in (0, 1), of the change (now − before) of the mean return.

    Infinite where an evaluation has fewer than two episodes: nothing is known of its spread. Where neither spreads the
    change is what it is.
    """
    if min(now.episodes, before.episodes) < 2:
        return math.inf
    change = now.mean - before.mean
    parts = [one.sd**2 / one.episodes for one in (now, before)]
    spread = sum(part**2 / (one.episodes - 1) for part, one in zip(parts, (now, before), strict=True))
    if spread == 0.0:
        return change
    freedom = sum(parts) ** 2 / spread
    return change + float(stats.t.ppf(1.0 - level, freedom)) * math.sqrt(sum(parts))


# ---------------------------------------------------------------- MERGED graphs.monitor
# DOC """monitor: is the run worse than before the last promotion? In two evaluations running: then it is rolled back."""

Watch = dict[str, Any]
WATCHED = 5  # evaluations; every further one would be another chance to undo by noise what has held


async def monitor(state: State, runtime: Runtime[Context]) -> State:
    """Judge the newest evaluation against the last one before the promotion."""
    ctx, watch = runtime.context, state["watch"]
    status = TrainerStatus.model_validate(state["status"])
    evaluation = status.evaluation
    if watch is None or evaluation is None:
        raise AssertionError("observe asks for monitor only where there is a promotion to watch and an evaluation")
    if evaluation.version < watch["version"]:  # made after the decision, but before the promotion
        watch = watch | {"before": evaluation.model_dump(mode="json"), "seen": evaluation.steps}
        return {"monitoring": False, "watch": watch, "note": {"before": evaluation.mean}}
    if evaluation.steps < watch["from"]:
        early = {"reason": f"too early: a fresh potential may dip until {watch['from']} main steps"}
        return {"monitoring": False, "watch": watch | {"seen": evaluation.steps}, "note": early}
    upper = regression_upper(returns(evaluation), _before(watch), ctx.config.gate.level)
    bad = watch["bad"] + 1 if upper < -watch["margin"] else 0
    reason = _words(watch, evaluation, upper, ctx.config.gate.level, bad)
    if bad < RUNNING:
        seen = {"bad": bad, "judged": watch["judged"] + 1, "seen": evaluation.steps}
        over = not bad and seen["judged"] >= WATCHED
        note = {"reason": reason, "regressions": bad, "over": over}
        return {"monitoring": False, "watch": None if over else watch | seen, "note": note}
    return await _roll_back(ctx, state, status, reason)


def returns(evaluation: EvaluationReport) -> Returns:
    return Returns(evaluation.mean, evaluation.sd, evaluation.episodes)


def _before(watch: Watch) -> Returns:
    """The last evaluation before the promotion, but no more than the gate's control came to: a rollback cannot bring
    back what the run was losing anyway."""
    before, expected = returns(EvaluationReport.model_validate(watch["before"])), watch["expected"]
    return before if expected is None else before._replace(mean=min(before.mean, expected))


def _words(watch: Watch, now: EvaluationReport, upper: float, level: float, bad: int) -> str:
    before, margin = _before(watch), watch["margin"]
    verdict = f"a regression, {bad} of {RUNNING} running" if bad else "no regression"
    return (
        f"sparse return {now.mean:.3f} at {now.steps} main steps, {before.mean:.3f} before version {watch['version']}: "
        f"upper bound of the change {upper:+.3f} at level {level:.3g}, bar {-margin:+.3g}: {verdict}"
    )


# ---------------------------------------------------------------- rollback


async def _roll_back(ctx: Context, state: State, status: TrainerStatus, reason: str) -> State:
    """Undo the promotion at the trainer; the key makes a second time harmless. Its point is done, and patience begins
    anew. What cannot be undone is recorded, and training goes on."""
    over: State = {"monitoring": False, "watch": None}
    if ctx.config.clock == "lockstep":
        await wait_for_trainer_at(ctx, state["point"])
    in_force = status.signal.version  # the promoted one, or a control's end state after it
    try:
        reply = await ctx.client.rollback(f"rollback:{in_force}", in_force)
    except (VersionConflict, ProtocolError, SnapshotError) as error:
        words = f"{reason}; it could not be undone: {error}"
        await _record(ctx, state, "conflict", words, None)
        ctx.emit(Decided(id=rollback_id(state), verdict="conflict", winner=None, reason=words))
        return {**over, "note": {"reason": words}}
    await _record(ctx, state, "rollback", reason, reply)
    ctx.emit(_event(state, reply, reason))
    return {
        **over,
        "triggered": False,
        "removing": False,
        "done_point": state["point"],
        "last_steps": reply.steps_main,
        "note": {"reason": reason, "version": reply.version, "repeated": reply.repeated},
    }


async def _record(ctx: Context, state: State, verdict: str, reason: str, reply: PromoteReply | None) -> None:
    watch = state["watch"]
    assert watch is not None
    row = {
        "id": rollback_id(state),
        "point": state["point"],
        "round": 0,
        "verdict": verdict,
        "winner": watch["proposal"],
        "adopted": None,
        "version": reply.version if reply else None,
        "detail": {"reason": reason, "undone": watch["version"], "judgements": [], "screened": []},
        "created_steps": state["status"]["steps_main"],
    }
    await ctx.store.write("decisions", row)


def _event(state: State, reply: PromoteReply, reason: str) -> RolledBack:
    watch = state["watch"]
    assert watch is not None
    return RolledBack(
        proposal=watch["proposal"],
        undone=watch["version"],
        version=reply.version,
        reason=reason,
        repeated=reply.repeated,
    )


def rollback_id(state: State) -> str:
    return f"p{state['point']}-rollback"
