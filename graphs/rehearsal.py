"""A rehearsal: a fork of the run, trained for a while on scorers that are in force nowhere, so that moves can be ranked
which the run itself does not make yet."""

from __future__ import annotations

from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.signal import Exploration, Signal
from .branching import branch_job, run_branches
from .context import Ctx
from .round import cost_of_round, horizon_at, return_range_at, steps_left

ARM = "rehearsal"
KICK = 0.05  # a policy that has collapsed would go nowhere new


async def rehearsed(ctx: Ctx, point: int, number: int, status: TrainerStatus, start: str, signal: Signal) -> str | None:
    """The end state of rehearsal `number` (from 1) under `signal`, continued from the snapshot `start`; both are
    directories below the run directory. None where the budget does not pay for it beside the branches.

    Raises BranchError.
    """
    exploration = Exploration(entropy=status.signal.exploration.entropy, kick=KICK)
    job = branch_job(ctx, start, ARM, signal, exploration, number, ctx.config.preferences.rehearsal)
    done = await ctx.store.rows("branches", key=job.key)
    if not done and job.horizon > await _left_beside_branches(ctx, point, status):
        return None
    await run_branches(ctx, point, 0, "rehearsal", [job])
    return job.end_state


async def _left_beside_branches(ctx: Ctx, point: int, status: TrainerStatus) -> int:
    """Environment steps."""
    horizon = horizon_at(ctx.config, status, await return_range_at(ctx, point))
    left = steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps())
    return left - cost_of_round(ctx.config, horizon)
