"""Branch jobs: how they are made, run and kept. `validate` and the tool `launch_branches` call these functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..rl.branches.jobs import branch_key
from ..rl.ipc.messages import BranchJob, BranchResult, TrainerStatus
from ..rl.signals.signal import Exploration, Signal
from ..runs.events import BranchFinished
from .context import Context

CONTROL = "control"
Phase = Literal["screen", "full", "probe", "confirm", "rehearsal"]


def kept_exploration(signal: Signal) -> Exploration:
    """What a round's arms get when no proposal asks for anything: the signal's own entropy, and no new kick."""
    return Exploration(entropy=signal.exploration.entropy)


def round_exploration(proposed: Sequence[Exploration], in_force: Signal) -> Exploration:
    """One exploration for every arm: of the best ranked proposal that asks for one."""
    for exploration in proposed:
        if exploration != Exploration():
            return exploration
    return kept_exploration(in_force)


def branch_job(
    ctx: Context,
    fork: str,
    arm: str,
    signal: Signal,
    exploration: Exploration,
    seed: int,
    horizon: int,
    start: str | None = None,
) -> BranchJob:
    """`fork`, `start`: directories below the run directory; `start` is the end state that is continued."""
    episodes = ctx.config.branches.evaluation_episodes
    if arm != CONTROL:  # the worker gives every arm `exploration`; a candidate's own must not make another key
        signal = signal.model_copy(update={"exploration": exploration})
    key = branch_key(fork, signal, exploration, seed, horizon, ctx.evaluation_seed, episodes)
    return BranchJob(
        key=key,
        fork=fork,
        start=start or fork,
        arm=arm,
        signal=signal,
        exploration=exploration,
        seed=seed,
        horizon=horizon,
        evaluation_seed=ctx.evaluation_seed,
        evaluation_episodes=episodes,
        end_state=f"branches/{key}",
    )


async def run_branches(
    ctx: Context, point: int, round_: int, phase: Phase, jobs: Sequence[BranchJob]
) -> list[BranchResult]:
    """Results in job order. Finished jobs are reused by key; new results are stored as they come.

    Raises BranchError.
    """
    known = {
        row["key"]: BranchResult.model_validate(row["result"]) for row in await ctx.store.rows("branches", point=point)
    }

    async def keep(job: BranchJob, result: BranchResult) -> None:
        row = {"key": job.key, "point": point, "round": round_, "phase": phase, "arm": job.arm, "seed": job.seed}
        row |= {"horizon": job.horizon, "job": job.model_dump(mode="json"), "result": result.model_dump(mode="json")}
        await ctx.store.write("branches", row)
        known[job.key] = result
        ctx.emit(_finished(point, phase, result))

    missing = {job.key: job for job in jobs if job.key not in known}
    await ctx.pool.run(list(missing.values()), keep)
    return [known[job.key].model_copy(update={"arm": job.arm}) for job in jobs]


def snapshot_of(status: TrainerStatus) -> str:
    """The point's snapshot, relative to the run directory."""
    if status.snapshot is None:
        raise AssertionError("a trainer that waits at a point has written its snapshot")
    return status.snapshot


def _finished(point: int, phase: str, result: BranchResult) -> BranchFinished:
    return BranchFinished(
        point=point,
        phase=phase,
        arm=result.arm,
        seed=result.seed,
        horizon=result.horizon,
        final_return=result.final_return,
        success_rate=result.success_rate,
        steps=result.steps + result.steps_evaluation,
    )
