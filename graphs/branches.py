"""Branch jobs: how they are made, run and kept."""

from __future__ import annotations

from collections.abc import Sequence

from ..rl.branches.jobs import branch_key
from ..rl.ipc.messages import BranchJob, BranchResult, TrainerStatus
from ..rl.signals.signal import Exploration, Signal
from ..runs.events import BranchFinished
from ..runs.records import BranchRecord, Phase
from .context import Context

CONTROL = "control"


def kept_exploration(signal: Signal) -> Exploration:
    """Return what a round's arms get when no proposal asks for anything: the signal's own entropy, and no new kick."""
    return Exploration(entropy=signal.exploration.entropy)


def round_exploration(proposed: Sequence[Exploration], in_force: Signal) -> Exploration:
    """Return the one exploration that every arm gets: that of the best ranked proposal that asks for one."""
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
    """Make the job of one branch; its key is made of its content.

    Args:
        ctx: what nodes use.
        fork: the snapshot that all arms share, relative to the run directory.
        arm: `CONTROL`, or the id of a proposal.
        signal: that the arm is trained under.
        exploration: that every arm gets at the fork.
        seed: 0 keeps the main run's random streams.
        horizon: environment steps after the fork.
        start: end state of a finished branch that is continued, relative to the run directory; left out, the fork.
    """
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
    """Run jobs and return their results in the order of the jobs.

    Finished jobs are reused by key; new results are stored as they come.

    Raises:
        BranchError: a branch could not be run.
    """
    results = {row.key: row.result for row in await ctx.store.read(BranchRecord, point=point)}

    async def keep(job: BranchJob, result: BranchResult) -> None:
        await ctx.store.write(
            BranchRecord(
                key=job.key,
                point=point,
                round=round_,
                phase=phase,
                arm=job.arm,
                seed=job.seed,
                horizon=job.horizon,
                job=job,
                result=result,
            )
        )
        results[job.key] = result
        ctx.emit(
            BranchFinished(
                point=point,
                phase=phase,
                arm=result.arm,
                seed=result.seed,
                horizon=result.horizon,
                final_return=result.final_return,
                success_rate=result.success_rate,
                steps=result.steps + result.steps_evaluation,
            )
        )

    # Equal jobs give equal results, also those of an earlier round or of a process that was killed.
    missing = {job.key: job for job in jobs if job.key not in results}
    await ctx.pool.run(list(missing.values()), keep)
    # Equal jobs of two arms were run once, under the name of the first.
    return [results[job.key].model_copy(update={"arm": job.arm}) for job in jobs]


def snapshot_of(status: TrainerStatus) -> str:
    """Return the point's snapshot, relative to the run directory."""
    if status.snapshot is None:
        raise AssertionError("a trainer that waits at a point has written its snapshot")
    return status.snapshot
