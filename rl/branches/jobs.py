"""The parts that all executors of branch jobs share: the key of a job, its reply, and the end at the first error."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from ...errors import BranchError, ProtocolError
from ..ipc.messages import WORKER_REPLY, BranchJob, BranchResult, ErrorReply, WorkerReply
from ..signals.signal import Exploration, Signal

MAX_RESTARTS = 3  # of workers, per job
READY_TIMEOUT_S = 180.0  # importing torch takes seconds, on a busy machine many

OnResult = Callable[[BranchJob, BranchResult], Awaitable[None]]


class Executor(Protocol):
    """Anything that runs branch jobs: `WorkerPool`, `RayExecutor`, or a fake in tests."""

    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchResult]:
        """Run `jobs` and return their results in the same order; `on_result` is awaited as each one comes.

        Raises:
            BranchError: a worker says that a job cannot be run, or MAX_RESTARTS + 1 workers died on one.
        """
        ...


def branch_key(
    fork: str, signal: Signal, exploration: Exploration, seed: int, horizon: int, evaluation_seed: int, episodes: int
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
    """
    content = {
        # The signal counts by its content, without version, parent and stage.
        "fork": Path(fork).name,
        "signal": signal.content_hash(),
        "exploration": exploration.model_dump(mode="json"),
        "seed": seed,
        "horizon": horizon,
        "evaluation": [evaluation_seed, episodes],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def parse_reply(raw: bytes) -> WorkerReply | ProtocolError:
    """Parse the JSON of a worker's reply. The error is returned and not raised, so that it can wait in a queue."""
    try:
        return WORKER_REPLY.validate_json(raw)
    except ValidationError as error:
        return ProtocolError(f"a worker's answer is not of this protocol: {raw[:200]!r} ({error.error_count()} errors)")


def result_of(job: BranchJob, reply: WorkerReply | ProtocolError) -> BranchResult:
    """Return the result that a worker replied to `job` with.

    Raises:
        BranchError: the reply is an error.
        ProtocolError: the reply cannot be parsed, or is none to this job.
    """
    if isinstance(reply, ProtocolError):
        raise reply
    if isinstance(reply, ErrorReply):
        raise BranchError(f"branch {job.arm!r}, seed {job.seed}: {reply.message}")
    # A result of another job would mean that loop and worker disagree about the protocol.
    if not isinstance(reply, BranchResult) or reply.key != job.key:
        raise ProtocolError(f"branch job {job.key!r} was answered with {reply!r}; use one version of loop and workers")
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
