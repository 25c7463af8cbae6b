"""Branch workers as Ray actors, on this machine or on the nodes of a cluster.

This is the second `Executor`. A worker is an actor with one CPU and one thread that runs the very code of a local one,
so the same job gives the same result, bit for bit, on machines of one kind. Nodes share no files with the loop: a job
carries a reference to the files of the snapshot it starts from, which are put into Ray's object store once, and brings
back those of its end state, which are written into the run directory as a local worker would write them.

Why no job is lost or run without need: jobs wait in one queue, and a place takes one only when its worker has answered.
A job whose worker, or whose worker's node, is lost goes back to the queue for whoever is free, at most MAX_RESTARTS
times; then it has failed. No other job is touched. A place whose worker finds no room on what is left of the cluster
waits, and the others go on; one whose workers die at their start is given up, and with the last one the jobs that are
left have failed. An actor whose job is given up (failure, error, cancellation) is killed. Not guaranteed: that a job
whose learning hangs is noticed, and that the loop outlives the node it runs on itself, or the cluster's head; both end
the run, which can be resumed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, overload

import ray
from ray.exceptions import RayError

from ...errors import BranchError, ConfigError, SnapshotError
from ..ipc.messages import PROTOCOL, BranchFailure, BranchJob, BranchReply, BranchResult
from ..processes import CLOSE_TIMEOUT_S, HASH_SEED, ONE_THREAD, hash_seed
from ..training.checkpoint import PackedFiles, pack_snapshot, unpack_snapshot
from .jobs import (
    JOB,
    MAX_RESTARTS,
    READY_TIMEOUT_S,
    Failures,
    Job,
    JobReply,
    OnReply,
    OnResult,
    lost_steps,
    parse_reply,
    reply_to,
    start_of,
    task_group,
)
from .ray_node import local_ray

LAST_WORDS = 1500  # characters of what Ray says about a lost worker
LOG_ERRORS = 40  # logging.ERROR: what Ray logs below it would be between the lines of the terminal


# ------------------------------------------------------------ in the actor


class RayWorker:
    """The actor: it is built once and then runs one job at a time, as `worker.main` does."""

    def __init__(self, training: str, secrets: Sequence[str]) -> None:
        """Build the training line.

        Args:
            training: content of `training.json`.
            secrets: environment variables that a node may have and no task must see.
        """
        # Imported here and below: the loop, which imports this module, needs no torch.
        from ..processes import one_thread
        from ..training.config import TrainingConfig
        from ..training.line import TrainingLine

        # Nobody but the loop talks to models, so nothing here needs a key.
        for name in [name for name in os.environ if name in secrets or name.endswith("_API_KEY")]:
            del os.environ[name]
        one_thread()
        self._line = TrainingLine(TrainingConfig.model_validate_json(training).for_branches())

    def close(self) -> None:
        """Close the environments; the actor is killed afterwards."""
        from .run_evaluation import EVALUATORS

        EVALUATORS.close()
        self._line.close()

    def ready(self) -> str:
        """Return the version of the code on this node; that it returns at all says that the actor is up."""
        return own_version()

    def run(self, text: str, files: PackedFiles) -> tuple[bytes, PackedFiles]:
        """Run a job.

        Args:
            text: a `WorkerJob` as JSON.
            files: the files of the snapshot that it needs.

        Returns:
            A `WorkerReply` as JSON, and the files of a branch's end state.
        """
        from .worker import answer

        job = JOB.validate_json(text)
        with tempfile.TemporaryDirectory(prefix="cosignal-branch-") as folder:
            # A folder of its own for each job: nodes share no files with the loop.
            unpack_snapshot(files, Path(folder), start_of(job))
            reply = answer(self._line, Path(folder), job)
            end_state = pack_snapshot(Path(folder), reply.end_state) if isinstance(reply, BranchResult) else {}
        return reply.model_dump_json().encode(), end_state


def own_version() -> str:
    """Return the version of this code, which must be the same in the loop and in all workers."""
    try:
        return f"cosignal {version('cosignal')}, protocol {PROTOCOL}"
    except PackageNotFoundError:
        return f"cosignal of a checkout, protocol {PROTOCOL}"


# ------------------------------------------------------------ in the loop


class _Place:
    """Room for one worker.

    Attributes:
        actor: handle of the `RayWorker`, None where there is none.
        starting: ends with the actor's version when it has answered.
        up: whether it has answered and was not lost since.
    """

    def __init__(self) -> None:
        self.actor: Any = None
        self.starting: asyncio.Future[str]
        self.up = False


@dataclass(frozen=True)
class _Attempt:
    """A job in the queue. `position` is its place in the batch, `lost` the number of workers that died on it."""

    position: int
    job: Job
    lost: int = 0


class RayExecutor:
    """Run jobs in Ray actors.

    Use it as `async with RayExecutor(run_dir, workers) as executor: results = await executor.run(jobs)`.

    Args:
        run_dir: run directory; snapshots and end states lie in it.
        workers: number of actors.
        address: cluster to join, HOST:PORT or `auto`, of which this machine is a node; None starts a Ray of its own.
        secrets: environment variables that workers must not see.
    """

    def __init__(self, run_dir: Path, workers: int, *, address: str | None = None, secrets: Sequence[str] = ()) -> None:
        self._run_dir = run_dir
        self._address = address
        self._secrets = secrets
        self._places = [_Place() for _ in range(workers)]
        self._shipped: dict[str, Any] = {}  # directory below the run directory → reference to its files
        self._stack = AsyncExitStack()
        self._one_batch = asyncio.Lock()

    async def __aenter__(self) -> RayExecutor:
        """Join the cluster, or start a Ray, and start the actors without waiting for them.

        Raises:
            ConfigError: the cluster cannot be joined, or this process is in a Ray already.
            BranchError: a Ray of our own does not start.
        """
        async with AsyncExitStack() as stack:
            address = self._address
            if address is None:
                address = await stack.enter_async_context(local_ray(self._run_dir, len(self._places), self._secrets))
            # Where this raises there is nothing to leave: the process may be in another's Ray.
            await asyncio.to_thread(_connect, address)
            stack.push_async_callback(asyncio.to_thread, ray.shutdown)
            # Ray's library has put a handler of its own below Python's, which ends the process before the run has
            # ended well.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
                signal.siginterrupt(signal.SIGTERM, False)  # as asyncio has it

            training = await asyncio.to_thread((self._run_dir / "training.json").read_text)
            self._arguments = (training, list(self._secrets))
            # What the environment of a node has of our secrets is blanked in the actor.
            hidden = {*self._secrets, *(name for name in os.environ if name.endswith("_API_KEY"))}
            variables = {**dict.fromkeys(ONE_THREAD, "1"), HASH_SEED: hash_seed(), **dict.fromkeys(hidden, "")}
            # No restarts by Ray, which would be counted nowhere. SPREAD: a core each, and its caches.
            self._worker = ray.remote(RayWorker).options(
                num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD", runtime_env={"env_vars": variables}
            )
            for place in self._places:
                self._start(place)
            stack.callback(self._drop_all)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all workers, leave the cluster, end a Ray of our own. Safe to repeat."""
        closing = [asyncio.ensure_future(_text(place.actor.close.remote())) for place in self._places if place.up]
        if closing:  # a worker that is busy, or whose environments hang, is killed as it is
            await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
            for task in closing:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        await self._stack.aclose()

    @overload
    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchReply]: ...
    @overload
    async def run(self, jobs: Sequence[Job], on_result: OnReply | None = None) -> list[JobReply]: ...
    async def run(self, jobs: Sequence[Job], on_result: Any = None) -> Any:
        """Run `jobs` and return a reply to each, in the same order; `on_result` is awaited as each one comes.

        A job has failed where a worker says so, where MAX_RESTARTS + 1 workers are lost on it, or where all workers die
        at their start.

        Raises:
            BranchError: the cluster has no room for a worker, or other code; a worker says that it can run no job.
            ProtocolError: a worker replies with something else.
        """
        replies: dict[int, JobReply] = {}
        failures = Failures()
        waiting: asyncio.Queue[_Attempt] = asyncio.Queue()
        places = len(self._places)

        async def settle(attempt: _Attempt, reply: JobReply) -> None:
            replies[attempt.position] = reply
            failures.add(reply)
            if on_result is not None:
                await on_result(attempt.job, reply)

        async def work(place: _Place) -> None:
            nonlocal places
            while True:
                words = await self._until_up(place)
                # As long as another place is left, it does the work.
                if words is not None and places > 1:
                    places -= 1
                    return
                attempt = await waiting.get()
                reply: JobReply | _Attempt
                if (skipped := failures.skipped(attempt.job)) is not None:
                    replies[attempt.position] = skipped
                elif words is not None:
                    reason = f"a worker died {MAX_RESTARTS + 1} times at its start; {words}"
                    await settle(attempt, _failure(attempt, reason, "lost"))
                else:
                    reply = await self._run_job(place, attempt)
                    # Its worker was lost: whoever is free takes it.
                    if isinstance(reply, _Attempt):
                        waiting.put_nowait(reply)
                    else:
                        await settle(attempt, reply)
                waiting.task_done()

        async with self._one_batch:
            self._shipped = await asyncio.to_thread(self._ship, jobs)
            # Every job is in the queue before the first worker takes one.
            for position, job in enumerate(jobs):
                waiting.put_nowait(_Attempt(position, job))
            async with task_group() as group:
                working = [group.create_task(work(place)) for place in self._places]
                await waiting.join()
                # The workers wait for jobs for ever; none is left.
                for task in working:
                    task.cancel()
        return [replies[position] for position in range(len(jobs))]

    # ------------------------------------------------------------ one job

    async def _run_job(self, place: _Place, attempt: _Attempt) -> JobReply | _Attempt:
        """Return the reply, or the next attempt where the worker was lost."""
        job = attempt.job
        files = self._shipped[start_of(job)]
        if isinstance(files, SnapshotError):
            return _failure(attempt, str(files), "error")
        try:
            raw, end_state = await place.actor.run.remote(job.model_dump_json(), files)
        except RayError as error:  # the worker's process, its node, or the result on that node is gone
            self._drop(place)
            lost = attempt.lost + 1
            if lost > MAX_RESTARTS:
                reason = f"{lost} workers died on it; {_last_words(error)}"
                return _failure(attempt, reason, "lost", lost_steps(job, lost))
            return _Attempt(attempt.position, job, lost)
        except BaseException:
            self._drop(place)  # it would go on with a job that nobody waits for
            raise
        reply = reply_to(job, parse_reply(raw))
        if isinstance(reply, BranchFailure):
            self._drop(place)  # nothing of a broken branch is left
            return reply
        # Before the result is passed on, so that whoever hears of it finds the end state.
        if isinstance(job, BranchJob):
            await asyncio.to_thread(unpack_snapshot, end_state, self._run_dir, job.end_state)
        return reply

    def _ship(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Return references to the snapshots that the jobs need; what was shipped for the batch before is used again.

        In the place of a snapshot that cannot be read is the error: its jobs fail.
        """
        starts = list(map(start_of, jobs))
        # A fork stays for the next batch of the same fork. What nobody needs is let go, and Ray frees it.
        needed = {*starts, *(job.fork for job in jobs if isinstance(job, BranchJob))}
        known = {
            start: reference
            for start, reference in self._shipped.items()
            if start in needed and not isinstance(reference, SnapshotError)
        }
        for start in starts:
            if start in known:
                continue
            try:
                known[start] = ray.put(pack_snapshot(self._run_dir, start))
            except SnapshotError as error:  # a local worker finds out by itself, and says it in these words
                known[start] = error
        return known

    # ------------------------------------------------------------ workers

    def _start(self, place: _Place) -> None:
        place.actor = self._worker.remote(*self._arguments)
        place.starting = asyncio.ensure_future(_text(place.actor.ready.remote()))
        place.up = False

    def _drop(self, place: _Place) -> None:
        if place.actor is not None:
            place.starting.cancel()
            ray.kill(place.actor)
        place.actor, place.up = None, False

    def _drop_all(self) -> None:
        for place in self._places:
            self._drop(place)
        self._shipped = {}

    async def _until_up(self, place: _Place) -> str | None:
        """Return when the place has a worker that answers; the last words of those that died at their start otherwise.

        Raises:
            BranchError: there is no room for a worker, or it has other code.
        """
        failures = 0
        while not place.up:
            if place.actor is None:
                self._start(place)
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    worker_version = await asyncio.shield(place.starting)
            except TimeoutError as error:
                # As long as another place has a worker, this one waits for room.
                if not any(other.up for other in self._places):
                    raise BranchError(
                        f"no branch worker was ready within {READY_TIMEOUT_S:g} s, {len(self._places)} with a CPU each "
                        "were asked for; free CPUs on the cluster, or add nodes"
                    ) from error
            except RayError as error:
                self._drop(place)
                failures += 1
                if failures > MAX_RESTARTS:
                    return _last_words(error)
            else:
                if worker_version != own_version():
                    raise BranchError(
                        f"workers must have {own_version()!r}, a node has {worker_version!r}; "
                        "install one version everywhere"
                    )
                place.up = True
        return None


def _failure(attempt: _Attempt, reason: str, cause: Literal["error", "lost"], steps: int = 0) -> BranchFailure:
    job = attempt.job
    return BranchFailure(key=job.key, arm=job.arm, seed=job.seed, reason=reason, cause=cause, steps=steps)


async def _text(reference: Any) -> str:
    return str(await reference)


def _connect(address: str) -> None:
    """Join the Ray at `address`; raise ConfigError where that fails, or where this process is in a Ray already."""
    if ray.is_initialized():
        raise ConfigError("branches.executor: 'ray' needs a process that is in no Ray yet; call ray.shutdown() first")
    # Ray has no public switch for the following two things.
    from ray._private import worker
    from ray._raylet import AuthenticationTokenLoader, Config

    # Mode and token are read once, at import, which may be before `local_ray` has set them.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    # A lost worker or node is printed to standard output, which belongs to the command line.
    worker._worker_logs_enabled = False
    try:
        ray.init(address=address, log_to_driver=False, logging_level=LOG_ERRORS)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise ConfigError(
            f"branches.ray_address: must be a Ray cluster that this machine belongs to, got {address!r} ({error}); "
            "start it with `ray start`, with the same versions of Python and Ray on every node"
        ) from error


def _last_words(error: RayError) -> str:
    return f"the last words: {str(error)[-LAST_WORDS:].strip()}"
