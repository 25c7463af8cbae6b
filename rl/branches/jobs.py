"""The parts that all executors of jobs share: the key of a job, its reply, and what a failure ends.

Jobs are branches and evaluations; a batch may have both.

A job that cannot be run is answered with a `BranchFailure`, which is a result like others: its arm is over, and the
batch goes on. An error that says nothing of the branch ends the batch: a full disk, or a worker of another version.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, overload

from pydantic import TypeAdapter, ValidationError

from ...errors import BranchError, ProtocolError
from ..ipc.messages import (
    WORKER_REPLY,
    BranchFailure,
    BranchJob,
    BranchReply,
    BranchResult,
    ErrorReply,
    EvaluationJob,
    EvaluationResult,
    WorkerJob,
    WorkerReply,
)
from ..signals.signal import Exploration, Signal

CONTROL = "control"  # the arm that all others are compared with
MAX_RESTARTS = 2  # of workers, per job: a process may be lost by chance
READY_TIMEOUT_S = 180.0  # importing torch takes seconds, on a busy machine many

Job = BranchJob | EvaluationJob
JobReply = BranchReply | EvaluationResult
OnResult = Callable[[BranchJob, BranchReply], Awaitable[None]]
OnReply = Callable[[Job, JobReply], Awaitable[None]]
JOB: TypeAdapter[Job] = TypeAdapter(WorkerJob)


class Executor(Protocol):
    """Anything that runs jobs: `WorkerPool`, `RayExecutor`, or a fake in tests.

    Branches are answered with results of branches, evaluations with results of evaluations.
    """

    @overload
    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> Sequence[BranchReply]: ...
    @overload
    async def run(self, jobs: Sequence[Job], on_result: OnReply | None = None) -> Sequence[JobReply]: ...
    async def run(self, jobs: Any, on_result: Any = None) -> Any:
        """Run `jobs` and return a reply to each, in the same order; `on_result` is awaited as each one comes.

        A job that cannot be run has a failure for a reply. Jobs that are needless then, see `Failures`, need not be
        begun: theirs is a failure of the cause `skipped`, which `on_result` does not hear of.

        Raises:
            BranchError: no job can be run, and the jobs are not to blame.
        """
        ...


class Failures:
    """The failures of a batch so far, and what they make needless.

    With a job its arm is over, since it cannot be compared any more; with one of the control every arm is; and so it is
    where a fork cannot be continued as it was, because all arms must begin alike.
    """

    def __init__(self, replies: Iterable[JobReply] = ()) -> None:
        """Begin with the replies that are known."""
        self._failures: list[BranchFailure] = []
        for reply in replies:
            self.add(reply)

    def add(self, reply: JobReply) -> None:
        """Take a reply into account; a result changes nothing."""
        if isinstance(reply, BranchFailure):
            self._failures.append(reply)

    def skipped(self, job: Job) -> BranchFailure | None:
        """Return the reply to a job that is needless, None where it is to be run."""
        for failure in self._failures:
            if failure.cause == "replay" or failure.arm in (CONTROL, job.arm):
                reason = f"not begun, since seed {failure.seed} of {failure.arm} has failed: {failure.reason}"
                return BranchFailure(key=job.key, arm=job.arm, seed=job.seed, reason=reason, cause="skipped")
        return None


def branch_key(
    fork: str,
    signal: Signal,
    exploration: Exploration,
    seed: int,
    horizon: int,
    evaluation_seed: int,
    episodes: int,
    fresh: bool = False,
    new_line: bool = False,
) -> str:
    """Return the key of a branch, 20 hex digits of a hash of its content, so that finished branches can be reused.

    Args:
        fork: directory of the snapshot; only its name counts, so that a run directory may be moved.
        signal: candidate signal, or the one in force for the control.
        exploration: exploration that every arm has from the fork on.
        seed: seed of the branch.
        horizon: environment steps since the fork.
        evaluation_seed: base seed of the evaluation episodes.
        episodes: number of evaluation episodes.
        fresh: whether the branch begins fresh episodes.
        new_line: whether it begins at step 0.
    """
    content: dict[str, Any] = {
        # The signal counts by its content, without version, parent and stage.
        "fork": Path(fork).name,
        "signal": signal.content_hash(),
        "exploration": exploration.model_dump(mode="json"),
        "seed": seed,
        "horizon": horizon,
        "evaluation": [evaluation_seed, episodes],
    }
    if fresh:
        content["fresh"] = True
    if new_line:
        content["new_line"] = True
    return _digest(content)


def evaluation_key(state: str, seed: int, episodes: int) -> str:
    """Return the key of an evaluation, 20 hex digits of a hash of its content.

    Args:
        state: directory of the snapshot; only its name and its folder's count, so that a run directory may be moved.
        seed: base seed of the episodes.
        episodes: how many.
    """
    return _digest({"state": list(Path(state).parts[-2:]), "seed": seed, "episodes": episodes})


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def start_of(job: Job) -> str:
    """Return the directory of the snapshot that a worker needs for the job."""
    return job.start if isinstance(job, BranchJob) else job.state


def lost_steps(job: Job, times: int) -> int:
    """Return the most environment steps that `times` lost workers can have trained; what they played is not known."""
    return (job.horizon - job.trained) * times if isinstance(job, BranchJob) else 0


def parse_reply(raw: bytes) -> WorkerReply | ProtocolError:
    """Parse the JSON of a worker's reply. The error is returned and not raised, so that it can wait in a queue."""
    try:
        return WORKER_REPLY.validate_json(raw)
    except ValidationError as error:
        return ProtocolError(f"a worker's answer is not of this protocol: {raw[:200]!r} ({error.error_count()} errors)")


def reply_to(job: Job, reply: WorkerReply | ProtocolError) -> JobReply:
    """Return the result or the failure that a worker replied to `job` with.

    Raises:
        BranchError: the reply is an error that says nothing of the job.
        ProtocolError: the reply cannot be parsed, or is none to this job.
    """
    if isinstance(reply, ProtocolError):
        raise reply
    if isinstance(reply, ErrorReply):
        raise BranchError(f"{job.kind} {job.arm!r}, seed {job.seed}: {reply.message}")
    # A result of another job would mean that loop and worker disagree about the protocol.
    result = BranchResult if isinstance(job, BranchJob) else EvaluationResult
    if not isinstance(reply, result | BranchFailure) or reply.key != job.key:
        raise ProtocolError(
            f"{job.kind} job {job.key!r} was answered with {reply!r}; use one version of loop and workers"
        )
    return reply


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open an `asyncio.TaskGroup` whose first error is raised itself, and not inside of an ExceptionGroup.

    A cancellation from outside comes before any error, so that who cancels a batch gets no BranchError in its place.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            yield group
        return
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    if task.cancelling() > cancelled_before:
        raise asyncio.CancelledError
    raise first from first.__cause__  # the cancellation by which the group has ended the block is no cause of it
