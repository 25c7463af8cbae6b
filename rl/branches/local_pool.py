"""Branch workers of the loop: pre-started processes that run the trainer's code on forks of the run.

The pool binds a ROUTER socket in a private runtime directory and starts `python -m cosignal.rl.branches.worker RUN_DIR
ADDRESS INDEX`. A worker is a DEALER that sends `WorkerReady`, and answers every `BranchJob` with a `BranchResult`,
every `EvaluationJob` with an `EvaluationResult`, or either with a `BranchFailure`; `{"kind": "stop"}` ends it. All
messages are one JSON frame.

Why no job is lost or mixed up: a job is bound to one worker until its reply, carrying the job's key, arrives. When the
worker's process ends instead, which may be chance, a new one is started and the job is sent again, at most MAX_RESTARTS
times; the same job always gives the same result. After that, or where the worker says that the job cannot be run, the
job has failed, and the others go on. A worker whose job is given up (failure, error, cancellation) is killed, so that
no late answer can meet another job and nothing of a broken branch is left. An environment that hangs ends its worker by
itself, see `step_alarm`; that learning hangs is not noticed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import zmq
import zmq.asyncio

from ...errors import ProtocolError
from ..envs.step_alarm import STOPPED
from ..ipc.launcher import end_child, end_session, last_words, printed_so_far, start_child
from ..ipc.messages import BranchFailure, BranchJob, BranchReply, WorkerReady, WorkerReply
from ..ipc.runtime_dir import make_runtime_dir, remove_runtime_dir
from ..processes import CLOSE_TIMEOUT_S, describe_exit, module_command
from .jobs import (
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
    task_group,
)

STOP_TIMEOUT_S = CLOSE_TIMEOUT_S + 1.0  # for one that is idle
STOP = json.dumps({"kind": "stop"}).encode()

T = TypeVar("T")


@dataclass(frozen=True)
class _Lost:
    """A worker that ended, or did not come up, instead of a reply.

    Attributes:
        ending: how, in words.
        began: whether it had got the job.
        for_good: whether another try would end the same way.
    """

    ending: str
    began: bool
    for_good: bool = False


class _Worker:
    """One slot of the pool, with at most one process at a time.

    Attributes:
        index: number of the slot.
        output: file that the process prints to.
        printed_before: bytes in it that earlier processes have printed.
        process: the process that was started last, None before the first.
        identity: its address on the ROUTER socket, as soon as it is ready.
        inbox: its replies, in order.
    """

    def __init__(self, index: int, output: Path) -> None:
        self.index = index
        self.output = output
        self.printed_before = 0
        self.process: asyncio.subprocess.Process | None = None
        self.identity: asyncio.Future[bytes]
        self.inbox: asyncio.Queue[WorkerReply | ProtocolError]

    def alive(self) -> bool:
        """Return whether there is a process that has not ended."""
        return self.process is not None and self.process.returncode is None

    def ending(self) -> str:
        """Return how the process has ended, in words."""
        assert self.process is not None
        return describe_exit(self.process.returncode)

    async def unless_it_ends(self, awaited: Awaitable[T]) -> T | None:
        """Return the result of `awaited`, or None where the process ends first."""
        assert self.process is not None
        first, ended = asyncio.ensure_future(awaited), asyncio.ensure_future(self.process.wait())
        try:
            # A reply that comes together with the end of the process counts.
            await asyncio.wait({first, ended}, return_when=asyncio.FIRST_COMPLETED)
            return first.result() if first.done() else None
        finally:
            first.cancel()
            ended.cancel()
            await asyncio.gather(first, ended, return_exceptions=True)


class WorkerPool:
    """Run jobs in worker processes on this machine.

    Use it as `async with WorkerPool(run_dir, workers) as pool: results = await pool.run(jobs)`. What a worker prints
    goes to `worker-INDEX.out` in the run directory.

    Args:
        run_dir: run directory; snapshots and end states lie in it.
        workers: number of processes.
        secrets: environment variables that workers must not see.
        command: builds a worker's command line from its index and the pool's address; None for the real worker.
    """

    def __init__(
        self,
        run_dir: Path,
        workers: int,
        *,
        secrets: Sequence[str] = (),
        command: Callable[[int, str], list[str]] | None = None,
    ) -> None:
        self._secrets = secrets
        self._command = command or (
            lambda index, address: module_command("cosignal.rl.branches.worker", str(run_dir), address, str(index))
        )
        self._workers = [_Worker(index, run_dir / f"worker-{index}.out") for index in range(workers)]
        self._by_identity: dict[bytes, _Worker] = {}
        self._unclaimed: dict[int, bytes] = {}  # pid to identity, of a process that spoke before its pid was known here
        self._runtime_dir: Path | None = None
        self._one_batch = asyncio.Lock()

    async def __aenter__(self) -> WorkerPool:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind the socket and start the processes, without waiting until they are ready."""
        self._runtime_dir = await asyncio.to_thread(make_runtime_dir)
        self._address = f"ipc://{self._runtime_dir}/pool"
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(self._address)
        self._reader = asyncio.create_task(self._read())
        for worker in self._workers:
            await self._start_worker(worker)

    @overload
    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchReply]: ...
    @overload
    async def run(self, jobs: Sequence[Job], on_result: OnReply | None = None) -> list[JobReply]: ...
    async def run(self, jobs: Sequence[Job], on_result: Any = None) -> Any:
        """Run `jobs` and return a reply to each, in the same order; `on_result` is awaited as each one comes.

        A job has failed where a worker says so, or where MAX_RESTARTS + 1 workers end on it or do not become ready.

        Raises:
            BranchError: a worker says that it can run no job, as where the disk is full.
            ProtocolError: a worker replies with something else.
        """
        replies: dict[int, JobReply] = {}
        failures = Failures()
        # Reversed, so that `pop` takes them in order.
        waiting = list(enumerate(jobs))[::-1]

        async def work(worker: _Worker) -> None:
            while waiting:
                position, job = waiting.pop()
                if (skipped := failures.skipped(job)) is not None:
                    replies[position] = skipped
                    continue
                replies[position] = await self._run_job(worker, job)
                failures.add(replies[position])
                if on_result is not None:
                    await on_result(job, replies[position])

        async with self._one_batch, task_group() as group:
            tasks = [group.create_task(work(worker)) for worker in self._workers[: len(jobs)]]
            # Inside of the block: where the group cancels a wait at its end, Python 3.11 leaves this task marked.
            if tasks:
                await asyncio.wait(tasks)
        return [replies[position] for position in range(len(jobs))]

    async def close(self) -> None:
        """End all workers within seconds (stop, terminate, kill) and remove the runtime directory. Safe to repeat."""
        if self._runtime_dir is None:
            return
        await asyncio.gather(*(self._end_worker(worker) for worker in self._workers))
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        # After the reader, which waits on a socket of this context.
        self._context.destroy(linger=0)
        await asyncio.to_thread(remove_runtime_dir, self._runtime_dir)
        self._runtime_dir = None

    # ------------------------------------------------------------ one job

    async def _run_job(self, worker: _Worker, job: Job) -> JobReply:
        """Run `job` on `worker`, again after each death of its process, at most MAX_RESTARTS times."""
        lost: list[_Lost] = []
        try:
            while len(lost) <= MAX_RESTARTS and not any(end.for_good for end in lost):
                reply = await self._ask(worker, job)
                if not isinstance(reply, _Lost):
                    answered = reply_to(job, reply)
                    if isinstance(answered, BranchFailure):
                        await self._kill(worker)
                    return answered
                lost.append(reply)
            # One that hangs is still there.
            await self._kill(worker)
        except BaseException:
            # A late answer of this process must not meet another job.
            await self._kill(worker)
            raise
        words = await asyncio.to_thread(last_words, worker.output, worker.printed_before)
        times = "" if len(lost) == 1 else f" {len(lost)} times"
        return BranchFailure(
            key=job.key,
            arm=job.arm,
            seed=job.seed,
            reason=f"its worker {lost[-1].ending}{times}; {words}",
            cause="lost",
            # Nobody knows how far they had come.
            steps=lost_steps(job, sum(end.began for end in lost)),
        )

    async def _ask(self, worker: _Worker, job: Job) -> WorkerReply | ProtocolError | _Lost:
        """Send `job` as soon as the worker is ready; return its reply."""
        if not worker.alive():
            try:
                await self._start_worker(worker)
            except OSError as error:  # no memory, or no room for a process
                return _Lost(f"could not be started ({error})", began=False)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                identity = await worker.unless_it_ends(asyncio.shield(worker.identity))
        except TimeoutError:
            return _Lost(f"was not ready within {READY_TIMEOUT_S:g} s", began=False, for_good=True)
        if identity is None:
            return _Lost(f"ended before it was ready ({worker.ending()})", began=False)
        await self._socket.send_multipart([identity, job.model_dump_json().encode()])
        reply = await worker.unless_it_ends(worker.inbox.get())
        if reply is not None:
            return reply
        if worker.process is not None and worker.process.returncode == -STOPPED:
            hung = "was ended, since a step took longer than task.step_timeout_s; raise it where an environment is slow"
            return _Lost(hung, began=True, for_good=True)
        return _Lost(f"ended ({worker.ending()})", began=True)

    async def _kill(self, worker: _Worker) -> None:
        """End the worker's process; it gets the time to close its environments."""
        if worker.process is not None and worker.alive():
            await end_child(worker.process)

    # ------------------------------------------------------------ processes and messages

    async def _start_worker(self, worker: _Worker) -> None:
        worker.identity = asyncio.get_running_loop().create_future()
        worker.inbox = asyncio.Queue()
        command = self._command(worker.index, self._address)
        if worker.process is not None:
            end_session(worker.process.pid)
        worker.printed_before = await asyncio.to_thread(printed_so_far, worker.output)
        worker.process = await start_child(command, worker.output, self._secrets)
        # It may have spoken before `start_child` returned.
        if worker.process.pid in self._unclaimed:
            self._introduce(self._unclaimed.pop(worker.process.pid), worker.process.pid)

    async def _end_worker(self, worker: _Worker) -> None:
        if worker.process is None or not worker.alive():
            return
        # One that is not ready yet cannot hear us, so it gets no time.
        grace_s = 0.0
        if worker.identity.done():
            # Only a worker that has spoken can be told to stop.
            await self._socket.send_multipart([worker.identity.result(), STOP])
            grace_s = STOP_TIMEOUT_S
        await end_child(worker.process, grace_s)

    async def _read(self) -> None:
        """Hand every message to the worker that it comes from; drop those of processes that are gone."""
        while True:
            identity, raw = await self._socket.recv_multipart()
            message = parse_reply(raw)
            if isinstance(message, WorkerReady):
                self._introduce(identity, message.pid)
            elif identity in self._by_identity:
                self._by_identity[identity].inbox.put_nowait(message)

    def _introduce(self, identity: bytes, pid: int) -> None:
        """Note which worker has the process `pid`, or keep its identity until one has."""
        for worker in self._workers:
            if worker.process is not None and worker.process.pid == pid and not worker.identity.done():
                # Messages of the slot's earlier processes are dropped from now on.
                stale = [known for known, owner in self._by_identity.items() if owner is worker]
                for known in stale:
                    del self._by_identity[known]
                self._by_identity[identity] = worker
                worker.identity.set_result(identity)
                return
        self._unclaimed[pid] = identity
