"""promote: an accepted signal is put in force at the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from langgraph.runtime import Runtime

from ...errors import SnapshotError, VersionConflict
from ...rl.branches.adoption import choose_adopt, winning_seed
from ...rl.branches.gate import signal_kind
from ...rl.branches.horizon import SHORT_HORIZON
from ...rl.branches.jobs import CONTROL
from ...rl.ipc.messages import BranchResult, EvaluationReport, PromoteReply
from ...rl.signals.signal import Signal
from ...runs.events import Promoted
from ...runs.race_records import RaceRecord
from ...runs.records import BranchRecord
from ..context import Context, wait_for_trainer_at
from ..intervention import Round, branch_length, cancel_acceptance, decision_of, load_round, return_share
from ..state import State, Watch, outcome_of, standing_of, status_of
from .confirm import staleness


async def promote(state: State, runtime: Runtime[Context]) -> State:
    """Compare-and-set at the trainer; the key makes a second time harmless."""
    ctx, outcome = runtime.context, outcome_of(state)
    # Made of what is in the store, so that it is what `approve` has asked about.
    promotion = await promotion_of(ctx, state)

    # Under lockstep the trainer waits at the point; under the overlap clock it must not have gone too far.
    if ctx.config.clock == "lockstep":
        await wait_for_trainer_at(ctx, standing_of(state))
    elif (why := await _too_late(ctx, state, promotion)) is not None:
        return await cancel_acceptance(ctx, state, "stale", why)
    try:
        cause: Literal["promotion", "offset"] = "offset" if outcome.claim == "offset" else "promotion"
        reply = await ctx.client.promote(
            promotion.key, promotion.base_version, promotion.signal, promotion.adopt, cause
        )
    except (VersionConflict, SnapshotError) as error:  # the state to take over may be spoilt
        return await cancel_acceptance(ctx, state, "conflict", str(error))

    # The round's decision gets what it brought.
    became = {"reason": outcome.explanation, "adopt": promotion.adopt, "seed": promotion.seed}
    promoted = {"adopted": promotion.adopted, "version": reply.version, "detail": outcome.model_copy(update=became)}
    await ctx.store.write((await decision_of(ctx, state)).model_copy(update=promoted))
    ctx.emit(
        Promoted(
            proposal=promotion.winner,
            version=reply.version,
            adopted=promotion.adopted,
            repeated=reply.repeated,
            claim=outcome.claim,
        )
    )
    # Main steps may have stepped back to those of the state that was adopted.
    status = status_of(state).model_copy(update={"steps_main": reply.steps_main})
    return {
        "done_point": standing_of(state),
        "status": status.model_dump(mode="json"),
        "race": None,
        "last_steps": reply.steps_main,
        "watch": await _watch(ctx, state, promotion, reply),
        "note": {"version": reply.version, "adopted": promotion.adopted, "repeated": reply.repeated},
    }


@dataclass(frozen=True)
class Promotion:
    """An accepted decision, as it would be put in force.

    Attributes:
        winner: the arm that was accepted.
        base_version: of the signal that it would replace.
        signal: as the winner's branch ran it.
        adopted: whether the branch's end state would be taken over with it.
        adopt: that state, relative to the run directory; None for the signal alone.
        seed: of that branch; None where the gate is off and there is none.
    """

    winner: str
    base_version: int
    signal: Signal
    adopted: Literal["state", "signal"]
    adopt: str | None
    seed: int | None

    @property
    def key(self) -> str:
        """The name under which the trainer knows the promotion again."""
        return f"{self.winner}:{self.base_version}"


async def promotion_of(ctx: Context, state: State) -> Promotion:
    """Make the promotion of the decision that `state` has accepted, from what is in the store."""
    if state.get("race") is not None:
        return await _adoption_of(ctx, state)
    round_, winner = await load_round(ctx, state), outcome_of(state).winner
    assert winner is not None  # the gate has accepted it
    # The best of the winner's branches, of which the state may be taken over; without a gate there is none.
    branches = await _branches_of(ctx, state, round_, winner)
    finals = {seed: result.final_return for seed, result in branches.items()}
    best = branches[winning_seed(finals)] if branches else None
    adopted: Literal["state", "signal"] = "signal"
    if best is not None:
        status = round_.status
        share = return_share(status, round_.return_range)
        # A state that would bring more steps than the run has left (lockstep) is not taken over.
        outruns = status.steps_main + branch_length(ctx, best) > status.steps_budget
        if not (ctx.config.clock == "lockstep" and outruns):
            adopted = choose_adopt(ctx.config.gate.adopt, status.stage, status.success_rate, share)

    # The signal as the branch ran it, scale frozen. The exploration's kick acts again where the signal alone is taken.
    base = round_.in_force.version
    signal = (best.signal if best else round_.signals[winner]).model_copy(
        update={
            "version": base + 1,
            "parent": base,
            "stage": round_.status.stage,
            "exploration": round_.exploration,
        }
    )
    return Promotion(
        winner=winner,
        base_version=base,
        signal=signal,
        adopted=adopted,
        adopt=best.end_state if best and adopted == "state" else None,
        seed=best.seed if best else None,
    )


async def _adoption_of(ctx: Context, state: State) -> Promotion:
    """Make the adoption of the policy that the race has proven: its state, with the signal that it was trained by."""
    [race] = await ctx.store.read(RaceRecord, id=state["race"])
    [arm] = [arm for arm in race.detail.arms if arm.name == race.detail.winner]
    [look] = [look for look in race.detail.rungs[-1].arms if look.arm == arm.name]
    branches = await ctx.store.read(BranchRecord, point=race.point, arm=arm.name, phase="race")
    [branch] = [row.result for row in branches if row.result.end_state == look.state]
    status = status_of(state)
    base = status.signal.version
    stamp = {"version": base + 1, "parent": base, "stage": status.stage, "exploration": arm.exploration}
    return Promotion(
        winner=arm.name,
        base_version=base,
        signal=branch.signal.model_copy(update=stamp),
        adopted="state",
        adopt=look.state,
        seed=arm.seed,
    )


async def _branches_of(ctx: Context, state: State, round_: Round, arm: str) -> dict[int, BranchResult]:
    """Return the arm's branches by seed, of the confirmation where there was one; none where the gate is off."""
    phase = "full" if outcome_of(state).confirmation is None else "confirm"
    rows = await ctx.store.read(BranchRecord, point=round_.point, arm=arm, phase=phase)
    # The control has branches of every round, each under its exploration.
    return {row.seed: row.result for row in rows if row.job.exploration == round_.exploration}


async def _too_late(ctx: Context, state: State, promotion: Promotion) -> str | None:
    """Under the overlap clock, say why the verdict that `confirm` has let pass may not be promoted any more.

    Only a loop that was killed in between comes that late. Where the version has moved on, this may be its own
    promotion, asked for again after a crash: the trainer knows.
    """
    now = await ctx.status()
    if now.signal.version != promotion.base_version:
        return None
    if now.state == "finished":
        return "training was over before the promotion"
    if outcome_of(state).claim == "offset":
        return None  # exact whenever it comes, while the version is the same
    then, moved = status_of(state), outcome_of(state).staleness
    assert moved is not None  # `confirm` comes before, and says so under this clock
    checked = then.model_copy(update={"steps_main": then.steps_main + moved})
    why = staleness(checked, now, ctx.config.adaptation.interval)
    return None if why is None else f"since it was found fresh, {why}"


async def _watch(ctx: Context, state: State, promotion: Promotion, reply: PromoteReply) -> dict[str, Any] | None:
    """Make what `monitor` compares the evaluations from now on with; None where there was no evaluation before.

    An exact offset is not watched: what is learnt after it is what would have been learnt without it, so a fall is no
    fault of its own, and to undo it would throw training away for nothing. A promotion that was watched still is: the
    trainer passes over offsets when it undoes one.
    """
    if outcome_of(state).claim == "offset":
        return state.get("watch")
    if state.get("before") is None:
        return None
    before = EvaluationReport.model_validate(state["before"])
    # What the run would have come to without the promotion, and had come to before; and how long it may dip now.
    expected, dip = None, 0
    if state.get("race") is not None:
        [race] = await ctx.store.read(RaceRecord, id=state["race"])
        expected, margin = race.detail.rungs[-1].control.mean, race.detail.margin
    else:
        round_ = await load_round(ctx, state)
        margin = ctx.config.gate.margin * round_.width
        controls = list((await _branches_of(ctx, state, round_, CONTROL)).values())
        if controls:
            expected = min(fmean(c.final_return for c in controls), *(c.fork_return for c in controls))
        # A signal that came alone may dip first, as in a branch.
        if promotion.adopt is None and signal_kind(promotion.signal) == "potential":
            dip = min(SHORT_HORIZON, round_.horizon)
    watch = Watch(
        version=reply.version,
        proposal=promotion.winner,
        point=state["point"],
        before=before,
        expected=expected,
        starts=reply.steps_main + dip,
        margin=margin,
        bad=0,
        judged=0,
        seen=before.steps,
        seen_version=before.version,
    )
    return watch.model_dump(mode="json")
