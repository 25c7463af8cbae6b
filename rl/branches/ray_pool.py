"""Branch workers as Ray actors, on this machine or on the nodes of a cluster.

The second `Executor`. A worker is an actor with one CPU and one thread that runs the very code of a local one, so the
same job gives the same result, bit for bit, on machines of one kind. Nodes share no files with the loop: a job carries
a reference to the files of the snapshot it starts from, which are put into Ray's object store once, and brings back
those of its end state, which are written into the run directory as a local worker would.

Why no job is lost or run without need: jobs wait in one queue, and a place takes one only when its worker has answered.
A job whose worker, or whose worker's node, is lost goes back to the queue for whoever is free, at most MAX_RESTARTS
times; no other job is touched. A place whose worker finds no room on what is left of the cluster waits, and the others
go on. An actor whose job is given up (error, cancellation) is killed. Not guaranteed: that a job that hangs is noticed,
and that the loop outlives the node it runs on itself, or the cluster's head; both end the run, which can be resumed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from ...errors import BranchError, ConfigError, SnapshotError
from ..ipc.messages import PROTOCOL, BranchJob, BranchResult
from ..processes import ONE_THREAD
from ..training.checkpoint import PackedFiles, pack_snapshot, unpack_snapshot
from .local_pool import MAX_RESTARTS, READY_TIMEOUT_S, OnResult, parse_reply, result_of
from .ray_node import local_ray

WORDS = 1500  # characters of what Ray says about a lost worker
LOG_ERRORS = 40  # logging.ERROR: what Ray says otherwise would be between the lines of the terminal


class RayWorker:
    """What runs inside an actor: built once, then one job at a time, as in `worker.main`."""

    def __init__(self, training: str, secrets: Sequence[str]) -> None:
        """`training`: content of training.json. `secrets`: variables that a node may have and no task must see."""
        from ..processes import one_thread
        from ..training.config import (
            TrainingConfig,  # here and below: the loop, which imports this file, needs no torch
        )
        from ..training.line import TrainingLine

        for name in [name for name in os.environ if name in secrets or name.endswith("_API_KEY")]:
            del os.environ[name]
        one_thread()
        self._line = TrainingLine(TrainingConfig.model_validate_json(training).for_branches())

    def ready(self) -> str:
        return own_version()

    def run(self, text: str, files: PackedFiles) -> tuple[bytes, PackedFiles]:
        """A `BranchJob` as JSON and what its `start` needs → a `WorkerReply` as JSON and what its end state needs."""
        from .worker import answer

        job = BranchJob.model_validate_json(text)
        with tempfile.TemporaryDirectory(prefix="cosignal-branch-") as folder:
            unpack_snapshot(files, Path(folder), job.start)
            reply = answer(self._line, Path(folder), job)
            ended = pack_snapshot(Path(folder), job.end_state) if isinstance(reply, BranchResult) else {}
        return reply.model_dump_json().encode(), ended


def own_version() -> str:
    """Of this code; loop and workers must have the same."""
    try:
        return f"cosignal {version('cosignal')}, protocol {PROTOCOL}"
    except PackageNotFoundError:
        return f"cosignal of a checkout, protocol {PROTOCOL}"


class _Place:
    """Room for one worker. `starting`: ends when its actor has answered; `up`: it has, and was not lost since."""

    def __init__(self) -> None:
        self.actor: Any = None
        self.starting: asyncio.Future[str]
        self.up = False


@dataclass(frozen=True)
class _Attempt:
    position: int
    job: BranchJob
    lost: int = 0  # workers


class RayExecutor:
    """`async with RayExecutor(run_dir, workers) as executor: results = await executor.run(jobs)`.

    `address`: a cluster to join, HOST:PORT or `auto`, of which this machine is a node; None starts a Ray of its own.
    `secrets`: environment variables that workers must not see.
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
        """Raises ConfigError when the cluster cannot be joined, BranchError when a Ray of our own does not start."""
        async with AsyncExitStack() as stack:
            address = self._address
            if address is None:
                address = await stack.enter_async_context(local_ray(self._run_dir, len(self._places), self._secrets))
            await asyncio.to_thread(_connect, address)  # before there is anything to leave: it may be another's Ray
            stack.push_async_callback(asyncio.to_thread, ray.shutdown)
            _take_back_sigterm()
            training = await asyncio.to_thread((self._run_dir / "training.json").read_text)
            self._worker = _actor_class(self._secrets)
            self._arguments = (training, list(self._secrets))
            for place in self._places:
                self._start(place)
            stack.callback(self._forget)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all workers, leave the cluster, end a Ray of our own. Safe to repeat."""
        await self._stack.aclose()

    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchResult]:
        """Run `jobs` and give their results in the same order; `on_result` is awaited as each one comes.

        Raises BranchError when a worker says that a job cannot be run, when MAX_RESTARTS + 1 workers are lost on it,
        or when no worker starts.
        """
        results: dict[int, BranchResult] = {}
        waiting: asyncio.Queue[_Attempt] = asyncio.Queue()

        async def work(place: _Place) -> None:
            while True:
                await self._until_up(place)
                attempt = await waiting.get()
                result = await self._run_job(place, attempt)
                if isinstance(result, _Attempt):
                    waiting.put_nowait(result)
                else:
                    results[attempt.position] = result
                    if on_result is not None:
                        await on_result(attempt.job, result)
                waiting.task_done()

        async with self._one_batch:
            self._shipped = await asyncio.to_thread(self._ship, jobs)
            for position, job in enumerate(jobs):
                waiting.put_nowait(_Attempt(position, job))
            await _until_done(waiting.join(), [work(place) for place in self._places])
        return [results[position] for position in range(len(jobs))]

    # ------------------------------------------------------------ one job

    async def _run_job(self, place: _Place, attempt: _Attempt) -> BranchResult | _Attempt:
        """The result, or what is to be tried again since its worker was lost."""
        job = attempt.job
        try:
            reply, ended = await place.actor.run.remote(job.model_dump_json(), self._shipped[job.start])
        except RayError as error:  # the worker's process, its node, or the result on that node is gone
            self._drop(place)
            return _again(attempt, error)
        except BaseException:
            self._drop(place)  # it would go on with a job that nobody waits for
            raise
        parsed = parse_reply(reply)
        if isinstance(parsed, Exception):
            raise parsed
        result = result_of(job, parsed)
        await asyncio.to_thread(unpack_snapshot, ended, self._run_dir, job.end_state)
        return result

    def _ship(self, jobs: Sequence[BranchJob]) -> dict[str, Any]:
        """References to what the jobs start from; a fork's is kept for the next batch of the same fork."""
        forks = {job.fork for job in jobs}
        known = {start: reference for start, reference in self._shipped.items() if start in forks}
        for job in jobs:
            if job.start not in known:
                known[job.start] = self._put(job)
        return known

    def _put(self, job: BranchJob) -> Any:
        try:
            return ray.put(pack_snapshot(self._run_dir, job.start))
        except SnapshotError as error:  # a local worker finds out by itself, and says it in these words
            raise BranchError(f"branch {job.arm!r}, seed {job.seed}: {error}") from error

    # ------------------------------------------------------------ workers

    def _start(self, place: _Place) -> None:
        place.actor = self._worker.remote(*self._arguments)
        place.starting = asyncio.ensure_future(_answer(place.actor.ready.remote()))
        place.up = False

    def _drop(self, place: _Place) -> None:
        if place.actor is not None:
            place.starting.cancel()
            ray.kill(place.actor)
        place.actor, place.up = None, False

    def _forget(self) -> None:
        for place in self._places:
            self._drop(place)
        self._shipped = {}

    async def _until_up(self, place: _Place) -> None:
        """Until the place has a worker that answers; raises BranchError when that cannot be."""
        failures = 0
        while not place.up:
            if place.actor is None:
                self._start(place)
            try:
                found = await asyncio.wait_for(asyncio.shield(place.starting), READY_TIMEOUT_S)
            except TimeoutError as error:
                if not any(other.up for other in self._places):
                    raise BranchError(_no_room(len(self._places))) from error
            except RayError as error:
                self._drop(place)
                failures += 1
                if failures > MAX_RESTARTS:
                    raise BranchError(f"a worker died {failures} times at its start; {_words(error)}") from error
            else:
                _check_version(found)
                place.up = True


def _actor_class(secrets: Sequence[str]) -> Any:
    """`RayWorker` with one CPU and one thread. What a node's environment has of our secrets is blanked in it."""
    hidden = {*secrets, *(name for name in os.environ if name.endswith("_API_KEY"))}
    variables = {**dict.fromkeys(ONE_THREAD, "1"), **dict.fromkeys(hidden, "")}
    # We restart by ourselves: a restart of Ray's would be counted nowhere. SPREAD: a core each, and its caches.
    return ray.remote(RayWorker).options(
        num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD", runtime_env={"env_vars": variables}
    )


def _connect(address: str) -> None:
    if ray.is_initialized():
        raise ConfigError("branches.executor: 'ray' needs a process that is in no Ray yet; call ray.shutdown() first")
    _prepare_ray()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=LOG_ERRORS)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise ConfigError(
            f"branches.ray_address: must be a Ray cluster that this machine belongs to, got {address!r} ({error}); "
            "start it with `ray start`, with the same versions of Python and Ray on every node"
        ) from error


def _take_back_sigterm() -> None:
    """Ray's library puts a handler of its own below Python's, which ends the process before the run has ended well."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.siginterrupt(signal.SIGTERM, False)  # as asyncio has it


def _prepare_ray() -> None:
    """Two things that Ray has no public switch for."""
    from ray._private import worker
    from ray._raylet import AuthenticationTokenLoader, Config

    # Mode and token are read once, at import, which may be before `local_ray` has set them.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    # A lost worker or node is printed to standard output, which belongs to the command line.
    worker._worker_logs_enabled = False


async def _answer(reference: Any) -> str:
    return str(await reference)


def _again(attempt: _Attempt, error: RayError) -> _Attempt:
    """The attempt after this one; raises BranchError when there is none."""
    lost, job = attempt.lost + 1, attempt.job
    if lost > MAX_RESTARTS:
        raise BranchError(f"{lost} workers died on branch {job.arm!r}, seed {job.seed}; {_words(error)}") from error
    return _Attempt(attempt.position, job, lost)


def _words(error: RayError) -> str:
    return f"the last words: {str(error)[-WORDS:].strip()}"


def _no_room(workers: int) -> str:
    return (
        f"no branch worker was ready within {READY_TIMEOUT_S:g} s, {workers} with a CPU each were asked for; "
        "free CPUs on the cluster, or add nodes"
    )


def _check_version(found: str) -> None:
    if found != own_version():
        raise BranchError(f"workers must have {own_version()!r}, a node has {found!r}; install one version everywhere")


async def _until_done(done: Coroutine[Any, Any, None], work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Until `done` ends or the first of `work` raises; then cancel all of them and wait for them."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in (done, *work)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
