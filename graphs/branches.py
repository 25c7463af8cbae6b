"""Branch jobs: how they are made, run and kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from ..errors import ReplayDiffers
from ..rl.branches.jobs import CONTROL, Failures, branch_key
from ..rl.ipc.messages import (
    BranchFailure,
    BranchJob,
    BranchReply,
    BranchResult,
    EvaluationJob,
    EvaluationReply,
    EvaluationResult,
    TrainerStatus,
)
from ..rl.signals.signal import Exploration, Signal
from ..runs.events import BranchFailed, BranchFinished
from ..runs.race_records import EvaluationRecord
from ..runs.records import BranchRecord, FailedBranchRecord, Phase
from .context import REPLAY, Context

T = TypeVar("T")


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
    fresh: bool = False,
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
        fresh: begin fresh episodes, see `Context.begins_fresh`.
    """
    episodes = ctx.config.branches.evaluation_episodes
    if arm != CONTROL:  # the worker gives every arm `exploration`; a candidate's own must not make another key
        signal = signal.model_copy(update={"exploration": exploration})
    key = branch_key(fork, signal, exploration, seed, horizon, ctx.evaluation_seed, episodes, fresh)
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
        fresh=fresh,
    )


class Ran(NamedTuple):
    """The branches of a batch.

    Attributes:
        results: of the arms that have not failed, in the order of the jobs.
        failed: arms of which a branch could not be run, with the reason.
    """

    results: list[BranchResult]
    failed: dict[str, str]


async def run_branches(
    ctx: Context, point: int, round_: int, phase: Phase, jobs: Sequence[BranchJob], spent_at: int | None = None
) -> Ran:
    """Run jobs.

    What has finished or failed is taken from the store by key; new replies are stored as they come.

    Args:
        ctx: what nodes use.
        point: update index of the adaptation point that the branches belong to.
        round_: of the intervention.
        phase: what they are for.
        jobs: to run.
        spent_at: update of the main line now, where it has gone on since the point.

    Raises:
        ReplayDiffers: the fork's episodes cannot be played again, and the jobs do not ask for fresh ones.
        BranchError: no branch can be run, and the branches are not to blame.
    """
    replies: dict[str, BranchReply] = {row.key: row.result for row in await ctx.store.read(BranchRecord, point=point)}
    replies |= await _failures_at(ctx, point)

    def reply_to(job: BranchJob) -> BranchReply | None:
        # Equal jobs of two arms are run once, under the name of the first.
        reply = replies.get(job.key)
        return None if reply is None else reply.model_copy(update={"arm": job.arm})

    async def keep(job: BranchJob, reply: BranchReply) -> None:
        if isinstance(reply, BranchFailure) and reply.cause == "replay":
            return  # it has cost nothing, and is tried again from fresh episodes
        replies[job.key] = reply
        told: dict[str, Any] = {
            "point": point,
            "phase": phase,
            "arm": job.arm,
            "seed": job.seed,
            "horizon": job.horizon,
        }
        row = told | {"key": job.key, "round": round_, "job": job, "spent_at": spent_at}
        if isinstance(reply, BranchFailure):
            await ctx.store.write(FailedBranchRecord(**row, reason=reply.reason, steps=reply.steps))
            ctx.emit(BranchFailed(**told, reason=reply.reason, steps=reply.steps))
            return
        await ctx.store.write(BranchRecord(**row, result=reply))
        ctx.emit(
            BranchFinished(
                **told,
                final_return=reply.final_return,
                success_rate=reply.success_rate,
                steps=reply.steps + reply.steps_evaluation,
            )
        )

    # Equal jobs give equal replies, also those of an earlier round or of a process that was killed.
    known = Failures(filter(None, map(reply_to, jobs)))
    missing = {job.key: job for job in jobs if job.key not in replies and known.skipped(job) is None}
    for reply in await ctx.pool.run(list(missing.values()), keep):
        if isinstance(reply, BranchFailure) and reply.cause == "replay":
            raise ReplayDiffers(reply.reason)

    failed: dict[str, str] = {}
    for failure in map(reply_to, jobs):
        if isinstance(failure, BranchFailure):
            failed.setdefault(failure.arm, f"seed {failure.seed}: {failure.reason}")
    results = [reply for reply in map(reply_to, jobs) if isinstance(reply, BranchResult) and reply.arm not in failed]
    return Ran(results, failed)


async def _failures_at(ctx: Context, point: int) -> dict[str, BranchReply]:
    """Read by key what has failed at the point: it is not run again."""
    return {
        row.key: BranchFailure(
            key=row.key, arm=row.arm, seed=row.seed, reason=row.reason, cause="error", steps=row.steps
        )
        for row in await ctx.store.read(FailedBranchRecord, point=point)
    }


async def run_evaluations(
    ctx: Context,
    place: tuple[int, int],
    purpose: Literal["look", "confirm"],
    jobs: Sequence[EvaluationJob],
    spent_at: int,
) -> list[EvaluationReply]:
    """Play fresh episodes and return a reply to each job, in order; those that the store knows are not played again.

    Args:
        ctx: what nodes use.
        place: (point, round) of the race.
        purpose: what they are for.
        jobs: to run.
        spent_at: update of the main line now.

    Raises:
        BranchError: nothing can be run, and the policies are not to blame.
    """
    rows = await ctx.store.read(EvaluationRecord, point=place[0])
    replies: dict[str, EvaluationReply] = {row.key: row.result or _failure_of(row) for row in rows}
    missing = {job.key: job for job in jobs if job.key not in replies}
    for reply in await ctx.pool.run(list(missing.values())):
        if isinstance(reply, BranchResult):
            raise AssertionError("an evaluation is not answered with a branch")
        replies[reply.key] = reply
        job = missing[reply.key]
        row = {"key": job.key, "point": place[0], "round": place[1], "purpose": purpose, "arm": job.arm}
        row |= {"state": job.state, "spent_at": spent_at}
        row |= (
            {"result": None, "reason": reply.reason, "steps": reply.steps} if isinstance(reply, BranchFailure) else {}
        )
        row |= {"result": reply, "steps": reply.episodes.steps} if isinstance(reply, EvaluationResult) else {}
        await ctx.store.write(EvaluationRecord.model_validate(row))
    return [replies[job.key] for job in jobs]


def _failure_of(row: EvaluationRecord) -> BranchFailure:
    """Return the reply to an evaluation that could not be played: it is not tried again."""
    reason = row.reason or "it could not be played"
    return BranchFailure(key=row.key, arm=row.arm, seed=0, reason=reason, cause="error", steps=row.steps)


async def with_forks(ctx: Context, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` does on branches; where its fork's episodes cannot be played again, from fresh ones.

    Then the user is warned, and every later branch of the run begins fresh episodes, whatever arm it is of: else some
    would go on from where the run was, and others not.
    """
    try:
        return await attempt()
    except ReplayDiffers as error:
        await ctx.warn(REPLAY, str(error))
        return await attempt()


def snapshot_of(status: TrainerStatus) -> str:
    """Return the point's snapshot, relative to the run directory."""
    if status.snapshot is None:
        raise AssertionError("a trainer that waits at a point has written its snapshot")
    return status.snapshot
