"""promote: an accepted signal is put in force at the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from langgraph.runtime import Runtime

from ..errors import VersionConflict
from ..rl.branches.gate import choose_adopt, winning_seed
from ..rl.ipc.messages import BranchResult, PromoteReply
from ..rl.signals.signal import Signal
from .context import Ctx
from .decide import decision_id, reason_of
from .events import Promoted
from .overturn import overturn
from .round import Round, competence, this_round
from .standing import stand_at
from .state import State


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


async def promote(state: State, runtime: Runtime[Ctx]) -> State:
    """Compare-and-set at the trainer; the key makes a second time harmless."""
    ctx = runtime.context
    this, promotion = await this_round(ctx, state), await promotion_of(ctx, state)
    if ctx.config.clock == "lockstep":
        await stand_at(ctx, this.point)
    elif await _is_too_late(ctx, promotion):
        return await overturn(ctx, state, "stale", "training was over before the promotion")
    try:
        reply = await ctx.client.promote(promotion.key, promotion.base_version, promotion.signal, promotion.adopt)
    except VersionConflict as error:
        return await overturn(ctx, state, "conflict", str(error))
    await _record(ctx, state, promotion, reply)
    return {
        "done_point": this.point,
        "last_steps": reply.steps_main,
        "watch": _watch(ctx, state, this, promotion, reply.version),
        "note": {"version": reply.version, "adopted": promotion.adopted, "repeated": reply.repeated},
    }


async def promotion_of(ctx: Ctx, state: State) -> Promotion:
    """Of the decision that `state` has accepted, by what is in the books."""
    this, winner = await this_round(ctx, state), state["outcome"]["winner"]
    best = await _best_branch(ctx, this, winner, "confirm" if "confirmation" in state["outcome"] else "full")
    adopted = _adopted(ctx, this) if best else "signal"
    return Promotion(
        winner=winner,
        base_version=this.in_force.version,
        signal=_promoted(best.signal if best else this.signals[winner], this),
        adopted=adopted,
        adopt=best.end_state if best and adopted == "state" else None,
        seed=best.seed if best else None,
    )


async def _best_branch(ctx: Ctx, this: Round, winner: str, phase: str) -> BranchResult | None:
    """The winner's branch of this phase with the best final return; none where the gate is off."""
    rows = await ctx.store.rows("branches", point=this.point, arm=winner, phase=phase)
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


async def _is_too_late(ctx: Ctx, promotion: Promotion) -> bool:
    """Overlap: nothing is trained any more. Where the version has moved on, this may be its own promotion, asked for
    again after a crash: the trainer knows."""
    status = await ctx.client.status()
    return status.state == "finished" and status.signal.version == promotion.base_version


async def _record(ctx: Ctx, state: State, promotion: Promotion, reply: PromoteReply) -> None:
    outcome = state["outcome"]
    detail = outcome | {"reason": reason_of(outcome), "adopt": promotion.adopt, "seed": promotion.seed}
    row = {"id": decision_id(state), "adopted": promotion.adopted, "version": reply.version, "detail": detail}
    await ctx.store.update("decisions", [row])
    ctx.emit(
        Promoted(proposal=promotion.winner, version=reply.version, adopted=promotion.adopted, repeated=reply.repeated)
    )


def _watch(ctx: Ctx, state: State, this: Round, promotion: Promotion, version: int) -> dict[str, Any] | None:
    """What `monitor` compares the evaluations from now on with; None where there was none before."""
    before = state.get("before")
    if before is None:
        return None
    return {
        "version": version,
        "proposal": promotion.winner,
        "point": this.point,
        "before": before,
        "margin": ctx.config.gate.margin * this.width,
        "bad": 0,
        "seen": before["steps"],
    }
