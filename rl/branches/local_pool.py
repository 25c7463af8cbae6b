"""Branch workers of the loop: pre-started processes that run the trainer's code on forks of the run.

The pool binds a ROUTER socket in a private runtime directory and starts `python -m cosignal.rl.branches.worker RUN_DIR
ADDRESS INDEX`. A worker is a DEALER that sends `WorkerReady`, and answers every `BranchJob` with a `BranchResult` or an
`ErrorReply`; `{"kind": "stop"}` ends it. All messages are one JSON frame.

Why no job is lost or mixed up: a job is bound to one worker until its result, carrying the job's key, arrives. When the
worker's process ends instead, a new one is started and the job is sent again, at most MAX_RESTARTS times; the same job
always gives the same result. A worker whose job is given up (error, cancellation) is killed, so that no late answer can
meet another job. Not guaranteed: that a job that hangs is noticed; the caller may put a timeout around `run`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import zmq
import zmq.asyncio
from pydantic import ValidationError

from ...errors import BranchError, ProtocolError
from ..ipc.launcher import end_child, make_runtime_dir, output_tail, start_child
from ..ipc.messages import WORKER_REPLY, BranchJob, BranchResult, ErrorReply, WorkerReady, WorkerReply
from ..processes import module_command
from ..signals.signal import Exploration, Signal

MAX_RESTARTS = 3  # per job
READY_TIMEOUT_S = 180.0  # importing torch takes seconds, on a busy machine many
STOP_TIMEOUT_S = 1.0

T = TypeVar("T")
OnResult = Callable[[BranchJob, BranchResult], Awaitable[None]]


class Executor(Protocol):
    """Whatever runs branch jobs: `WorkerPool`, `RayExecutor`, or a fake in tests."""

    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchResult]: ...


def branch_key(
    fork: str, signal: Signal, exploration: Exploration, seed: int, horizon: int, evaluation_seed: int, episodes: int
) -> str:
    """Content key of a branch: 20 hex digits. `fork` counts by its name, so that a run directory may be moved."""
    content = {
        "fork": Path(fork).name,
        "signal": signal.content_hash(),
        "exploration": exploration.model_dump(mode="json"),
        "seed": seed,
        "horizon": horizon,
        "evaluation": [evaluation_seed, episodes],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


class _Worker:
    """One slot of the pool: at most one process at a time, and what it has said."""

    def __init__(self, index: int, output: Path) -> None:
        self.index = index
        self.output = output
        self.process: asyncio.subprocess.Process | None = None
        self.identity: asyncio.Future[bytes]
        self.inbox: asyncio.Queue[WorkerReply | ProtocolError]

    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def unless_gone(self, wanted: Coroutine[Any, Any, T]) -> T | None:
        """What `wanted` gives, or None when the process ends first."""
        assert self.process is not None
        first, gone = asyncio.ensure_future(wanted), asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
            return first.result() if first.done() else None
        finally:
            first.cancel()
            gone.cancel()
            await asyncio.gather(first, gone, return_exceptions=True)


class WorkerPool:
    """`async with WorkerPool(run_dir, workers) as pool: results = await pool.run(jobs)`.

    `command(index, address)` builds a worker's command line; `secrets` are environment variables that workers must not
    see. What a worker prints goes to `worker-INDEX.out` in the run directory.
    """

    def __init__(
        self,
        run_dir: Path,
        workers: int,
        *,
        secrets: Sequence[str] = (),
        command: Callable[[int, str], list[str]] | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._secrets = secrets
        self._command = command or self._worker_command
        self._workers = [_Worker(index, run_dir / f"worker-{index}.out") for index in range(workers)]
        self._by_identity: dict[bytes, _Worker] = {}
        self._unclaimed: dict[int, bytes] = {}  # pid to identity, of a process that spoke before we knew its pid
        self._runtime_dir: Path | None = None
        self._one_batch = asyncio.Lock()

    def _worker_command(self, index: int, address: str) -> list[str]:
        return module_command("cosignal.rl.branches.worker", str(self._run_dir), address, str(index))

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
        """Bind the socket and start the processes; does not wait until they are ready."""
        self._runtime_dir = make_runtime_dir()
        self._address = f"ipc://{self._runtime_dir}/pool"
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(self._address)
        self._reader = asyncio.create_task(self._read())
        for worker in self._workers:
            await self._start_worker(worker)

    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchResult]:
        """Run `jobs` and give their results in the same order; `on_result` is awaited as each one comes.

        Raises BranchError when a worker says that a job cannot be run, or dies MAX_RESTARTS + 1 times on it.
        """
        results: dict[int, BranchResult] = {}
        waiting = list(enumerate(jobs))[::-1]

        async def work(worker: _Worker) -> None:
            while waiting:
                position, job = waiting.pop()
                results[position] = await self._run_job(worker, job)
                if on_result is not None:
                    await on_result(job, results[position])

        async with self._one_batch:
            await _all_or_first_error([work(worker) for worker in self._workers[: len(jobs)]])
        return [results[position] for position in range(len(jobs))]

    async def close(self) -> None:
        """End all workers within seconds (stop, terminate, kill) and remove the runtime directory. Safe to repeat."""
        if self._runtime_dir is None:
            return
        await asyncio.gather(*(self._end_worker(worker) for worker in self._workers))
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._context.destroy(linger=0)
        await asyncio.to_thread(shutil.rmtree, self._runtime_dir, True)
        self._runtime_dir = None

    # ------------------------------------------------------------ one job

    async def _run_job(self, worker: _Worker, job: BranchJob) -> BranchResult:
        try:
            for _ in range(1 + MAX_RESTARTS):
                reply = await self._attempt(worker, job)
                if reply is not None:
                    return result_of(job, reply)
        except BaseException:
            await self._kill(worker)  # a late answer of its must not meet another job
            raise
        words = await asyncio.to_thread(output_tail, worker.output)
        raise BranchError(
            f"worker {worker.index} died {1 + MAX_RESTARTS} times on branch {job.arm!r}, seed {job.seed}; "
            f"its last words: {words}"
        )

    async def _attempt(self, worker: _Worker, job: BranchJob) -> WorkerReply | None:
        """The worker's reply, or None when its process ended before it came."""
        if not worker.alive():
            await self._start_worker(worker)
        try:
            identity = await worker.unless_gone(_wait_ready(worker))
        except TimeoutError as error:
            raise BranchError(f"worker {worker.index} was not ready within {READY_TIMEOUT_S:g} s") from error
        if identity is None:
            return None
        await self._socket.send_multipart([identity, job.model_dump_json().encode()])
        reply = await worker.unless_gone(worker.inbox.get())
        if isinstance(reply, ProtocolError):
            raise reply
        return reply

    # ------------------------------------------------------------ processes and messages

    async def _start_worker(self, worker: _Worker) -> None:
        worker.identity = asyncio.get_running_loop().create_future()
        worker.inbox = asyncio.Queue()
        command = self._command(worker.index, self._address)
        worker.process = await start_child(command, worker.output, self._secrets)
        if worker.process.pid in self._unclaimed:
            self._introduce(self._unclaimed.pop(worker.process.pid), worker.process.pid)

    async def _end_worker(self, worker: _Worker) -> None:
        if worker.process is None or not worker.alive():
            return
        grace_s = 0.0
        if worker.identity.done():
            await self._socket.send_multipart([worker.identity.result(), json.dumps({"kind": "stop"}).encode()])
            grace_s = STOP_TIMEOUT_S
        await end_child(worker.process, grace_s)

    async def _kill(self, worker: _Worker) -> None:
        if worker.process is not None and worker.alive():
            worker.process.kill()
            await worker.process.wait()

    async def _read(self) -> None:
        """Hand every message to the worker that it comes from; one from a process that is gone is dropped."""
        while True:
            identity, raw = await self._socket.recv_multipart()
            message = parse_reply(raw)
            if isinstance(message, WorkerReady):
                self._introduce(identity, message.pid)
            elif identity in self._by_identity:
                self._by_identity[identity].inbox.put_nowait(message)

    def _introduce(self, identity: bytes, pid: int) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.pid == pid and not worker.identity.done():
                stale = [known for known, owner in self._by_identity.items() if owner is worker]
                for known in stale:
                    del self._by_identity[known]
                self._by_identity[identity] = worker
                worker.identity.set_result(identity)
                return
        self._unclaimed[pid] = identity


async def _wait_ready(worker: _Worker) -> bytes:
    return await asyncio.wait_for(asyncio.shield(worker.identity), READY_TIMEOUT_S)


def parse_reply(raw: bytes) -> WorkerReply | ProtocolError:
    """What a worker said; the error, given and not raised, where it is nothing of this protocol."""
    try:
        return WORKER_REPLY.validate_json(raw)
    except ValidationError as error:
        return ProtocolError(f"a worker's answer is not of this protocol: {raw[:200]!r} ({error.error_count()} errors)")


def result_of(job: BranchJob, reply: WorkerReply) -> BranchResult:
    """The result that a worker answered `job` with.

    Raises BranchError where it answered with an error, ProtocolError where it answered something else.
    """
    if isinstance(reply, ErrorReply):
        raise BranchError(f"branch {job.arm!r}, seed {job.seed}: {reply.message}")
    if not isinstance(reply, BranchResult) or reply.key != job.key:
        raise ProtocolError(f"branch job {job.key!r} was answered with {reply!r}; use one version of loop and workers")
    return reply


async def _all_or_first_error(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; at the first error, or when cancelled, cancel the others and wait for them."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
