"""The end of an intervention without an acceptance. Its control becomes the main line, so that no step is run twice.

Under the lockstep clock the trainer waits meanwhile, and the control of seed 0 under the exploration in force is what
it would do next, bit for bit. Its end state is taken over as a winner's is; the signal stays what it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..rl.ipc.messages import BranchResult, TrainerStatus
from .branching import CONTROL, kept_exploration
from .context import Ctx
from .events import ControlKept
from .standing import stand_at
from .state import State


class Kept(NamedTuple):
    """`steps`: of the control's branch; `steps_main`: main steps with them; `version`: of the signal, which stayed."""

    steps: int
    steps_main: int
    version: int


async def end_intervention(ctx: Ctx, state: State, decision: dict[str, Any]) -> State:
    """The point is done. `decision`: the row that ends it, as it is in the store; its detail has a reason."""
    note = {"verdict": decision["verdict"], "reason": decision["detail"]["reason"]}
    over: State = {"verdict": decision["verdict"], "done_point": state["point"]}
    kept = await keep_control(ctx, state, decision)
    if kept is None:
        return {**over, "note": note}
    return {**over, "last_steps": kept.steps_main, "note": note | {"kept_control": kept.steps}}


async def keep_control(ctx: Ctx, state: State, decision: dict[str, Any]) -> Kept | None:
    """None where no control can be kept. `kept_control` (environment steps) and `adopt` are added to the decision.

    Asked again after a crash, the trainer knows the key and says what it has said before.
    """
    if not ctx.config.branches.keep_control or ctx.config.clock != "lockstep":
        return None
    status = TrainerStatus.model_validate(state["status"])
    branch = await _longest(ctx, state["point"], status)
    if branch is None:
        return None
    await stand_at(ctx, state["point"])
    kept = await _adopt(ctx, f"control:{decision['id']}", status, branch)
    detail = decision["detail"] | {"kept_control": kept.steps, "adopt": branch.end_state}
    await ctx.store.update("decisions", [{"id": decision["id"], "detail": detail}])
    ctx.emit(ControlKept(id=decision["id"], version=kept.version, steps=kept.steps))
    return kept


async def _longest(ctx: Ctx, point: int, status: TrainerStatus) -> BranchResult | None:
    """The longest control branch of the point, of any round, that is the main line itself and does not outrun it."""
    exploration = kept_exploration(status.signal).model_dump(mode="json")
    rows = await ctx.store.rows("branches", point=point, arm=CONTROL, seed=0)
    same = [BranchResult.model_validate(row["result"]) for row in rows if row["job"]["exploration"] == exploration]
    fit = [branch for branch in same if status.steps_main + branch_length(ctx, branch) <= status.steps_budget]
    return max(fit, key=lambda branch: branch.horizon, default=None)


def branch_length(ctx: Ctx, branch: BranchResult) -> int:
    """Environment steps since the fork: the horizon in whole updates."""
    update = ctx.config.trainer.envs * ctx.config.trainer.rollout
    return -(-branch.horizon // update) * update


async def _adopt(ctx: Ctx, key: str, status: TrainerStatus, branch: BranchResult) -> Kept:
    base = status.signal.version
    signal = status.signal.model_copy(update={"version": base + 1, "parent": base})
    reply = await ctx.client.promote(f"{key}:{base}", base, signal, adopt=branch.end_state, cause="control")
    return Kept(branch_length(ctx, branch), reply.steps_main, reply.version)
