"""promote: an accepted signal is put in force at the trainer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from langgraph.runtime import Runtime

from ...errors import VersionConflict
from ...rl.branches.adoption import choose_adopt, winning_seed
from ...rl.branches.gate import signal_kind
from ...rl.branches.horizon import SHORT_HORIZON
from ...rl.ipc.messages import BranchResult, PromoteReply, TrainerStatus
from ...rl.signals.signal import Signal
from ...runs.events import Promoted
from ..branches import CONTROL
from ..context import Context, wait_for_trainer_at
from ..intervention import Round, branch_length, cancel_acceptance, competence, decision_id, load_round, reason_of
from ..state import State
from .confirm import staleness


@dataclass(frozen=True)
class Promotion:
    """What an accepted decision would put in force. `adopt`: the end state that would become the main line, of the
    winner's branch of `seed`; None where the signal alone is taken over."""

    winner: str
    base_version: int
    signal: Signal
    adopted: Literal["state", "signal"]
    adopt: str | None
    seed: int | None

    @property
    def key(self) -> str:
        return f"{self.winner}:{self.base_version}"


async def promote(state: State, runtime: Runtime[Context]) -> State:
    """Compare-and-set at the trainer; the key makes a second time harmless."""
    ctx = runtime.context
    this, promotion = await load_round(ctx, state), await promotion_of(ctx, state)
    if ctx.config.clock == "lockstep":
        await wait_for_trainer_at(ctx, this.point)
    elif (why := await _too_late(ctx, state, promotion)) is not None:
        return await cancel_acceptance(ctx, state, "stale", why)
    try:
        reply = await ctx.client.promote(promotion.key, promotion.base_version, promotion.signal, promotion.adopt)
    except VersionConflict as error:
        return await cancel_acceptance(ctx, state, "conflict", str(error))
    await _record(ctx, state, promotion, reply)
    return {
        "done_point": this.point,
        "last_steps": reply.steps_main,
        "watch": await _watch(ctx, state, this, promotion, reply),
        "note": {"version": reply.version, "adopted": promotion.adopted, "repeated": reply.repeated},
    }


async def promotion_of(ctx: Context, state: State) -> Promotion:
    """Of the decision that `state` has accepted, by what is in the books."""
    this, winner = await load_round(ctx, state), state["outcome"]["winner"]
    branches = await _branches(ctx, this, winner, _phase(state))
    best = branches[winning_seed({seed: r.final_return for seed, r in branches.items()})] if branches else None
    adopted = _adopted(ctx, this, best) if best else "signal"
    return Promotion(
        winner=winner,
        base_version=this.in_force.version,
        signal=_promoted(best.signal if best else this.signals[winner], this),
        adopted=adopted,
        adopt=best.end_state if best and adopted == "state" else None,
        seed=best.seed if best else None,
    )


def _phase(state: State) -> str:
    return "confirm" if "confirmation" in state["outcome"] else "full"


async def _branches(ctx: Context, this: Round, arm: str, phase: str) -> dict[int, BranchResult]:
    """The arm's branches of this phase by seed; none where the gate is off."""
    rows = await ctx.store.rows("branches", point=this.point, arm=arm, phase=phase)
    exploration = this.exploration.model_dump(mode="json")  # the control has branches of every round
    same = [row for row in rows if row["job"]["exploration"] == exploration]
    return {row["seed"]: BranchResult.model_validate(row["result"]) for row in same}


def _adopted(ctx: Context, this: Round, best: BranchResult) -> Literal["state", "signal"]:
    """A state that would bring more steps than the run has left (lockstep) is not taken over."""
    status = this.status
    if ctx.config.clock == "lockstep" and status.steps_main + branch_length(ctx, best) > status.steps_budget:
        return "signal"
    return choose_adopt(ctx.config.gate.adopt, status.stage, status.success_rate, competence(status, this.return_range))


def _promoted(signal: Signal, this: Round) -> Signal:
    """As the branch ran it, scale frozen; the exploration's kick acts again where the signal alone is adopted."""
    base = this.in_force.version
    update = {"version": base + 1, "parent": base, "stage": this.status.stage, "exploration": this.exploration}
    return signal.model_copy(update=update)


async def _too_late(ctx: Context, state: State, promotion: Promotion) -> str | None:
    """Overlap: why the verdict that `confirm` has let pass may not be promoted any more; only a loop that was killed in
    between comes that late. Where the version has moved on, this may be its own promotion, asked for again after a
    crash: the trainer knows."""
    now = await ctx.status()
    if now.signal.version != promotion.base_version:
        return None
    if now.state == "finished":
        return "training was over before the promotion"
    then = TrainerStatus.model_validate(state["status"])
    checked = then.model_copy(update={"steps_main": then.steps_main + state["outcome"]["staleness"]})
    why = staleness(checked, now, ctx.config.adaptation.interval)
    return None if why is None else f"since it was found fresh, {why}"


async def _record(ctx: Context, state: State, promotion: Promotion, reply: PromoteReply) -> None:
    outcome = state["outcome"]
    detail = outcome | {"reason": reason_of(outcome), "adopt": promotion.adopt, "seed": promotion.seed}
    row = {"id": decision_id(state), "adopted": promotion.adopted, "version": reply.version, "detail": detail}
    await ctx.store.update("decisions", [row])
    ctx.emit(
        Promoted(proposal=promotion.winner, version=reply.version, adopted=promotion.adopted, repeated=reply.repeated)
    )


async def _watch(
    ctx: Context, state: State, this: Round, promotion: Promotion, reply: PromoteReply
) -> dict[str, Any] | None:
    """What `monitor` compares the evaluations from now on with; None where there was none before. `expected`: what the
    gate knew that the run would come to without the promotion; less than that is no fault of the promotion. `from`: a
    signal that came alone may dip first, as in a branch."""
    before = state.get("before")
    if before is None:
        return None
    control = (await _branches(ctx, this, CONTROL, _phase(state))).values()
    dips = promotion.adopt is None and signal_kind(promotion.signal) == "potential"
    return {
        "version": reply.version,
        "proposal": promotion.winner,
        "point": this.point,
        "before": before,
        "expected": min((x for c in control for x in (c.fork_return, _final(control))), default=None),
        "from": reply.steps_main + (min(SHORT_HORIZON, this.horizon) if dips else 0),
        "margin": ctx.config.gate.margin * this.width,
        "bad": 0,
        "judged": 0,
        "seen": before["steps"],
    }


def _final(branches: Collection[BranchResult]) -> float:
    return fmean(branch.final_return for branch in branches)
