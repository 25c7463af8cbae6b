"""Start, follow, stop and resume a run: the loop process's side of everything.

    async with start(config) as run:
        async for event in run.events():
            print(event)
        result = await run.result()

Leaving the context ends trainer and workers within seconds, whatever the reason (done, error, Ctrl-C, SIGTERM), and
leaves a run that `start(config, resume=True)` continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langsmith import tracing_context
from pydantic import BaseModel, ConfigDict

from ..agents.config import Role
from ..agents.ledger import Call
from ..agents.llm import Door, build_models, check_models
from ..config import RunConfig
from ..errors import ConfigError, SignalError, TrainerGone
from ..rl.branches.pool import Executor, WorkerPool
from ..rl.envs import task_spec
from ..rl.ipc.client import TrainerClient, wakeups
from ..rl.ipc.process import TrainerProcess, attach_or_start, tail
from ..rl.signals.shaping import CompiledSignal
from ..rl.task import TaskSpec
from ..runs.report import write_report
from ..runs.store import LoopStore, RunState, RunView, provider
from .context import Ctx
from .directory import RunDirectory, open_run
from .events import Event, Progress, RunFinished, RunStarted
from .log import open_log, tracing_variables
from .loop import build_graph, thread
from .round import levels
from .state import CHECKPOINT_TYPES, State
from .trace import VisitRecorder

KEEP_CHECKPOINTS = 20
TICK_S = 1.0  # how often progress is told and wall time written down; a kill loses no more of it


class RunResult(BaseModel):
    """How a run ended. `sparse_return`, `success_rate`: of the last evaluation. `status`: `cosignal status --json`."""

    model_config = ConfigDict(frozen=True)

    path: Path
    state: str
    steps_main: int
    steps_total: int
    promotions: int
    sparse_return: float | None
    success_rate: float | None
    status: dict[str, Any]


class Run:
    """A run that is under way in this process. Made by `start`."""

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self.config = config
        self.path = directory.path
        self._directory = directory
        self._log = open_log(directory.path / "log.jsonl")
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._writing = threading.Lock()

    async def events(self) -> AsyncIterator[Event]:
        """What happens, until the run ends in whatever way. One reader; of unread progress only the last is kept."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._task is None or self._task.done():
                return
            self._news.clear()
            await self._news.wait()

    async def result(self) -> RunResult:
        """Wait for the end. Raises what ended the run, if it was an error."""
        assert self._task is not None
        await asyncio.wait({self._task})
        if not self._stopped:
            self._task.result()
        status = await asyncio.to_thread(RunView(self.path).status)
        return RunResult(**{name: status[name] for name in RunResult.model_fields if name != "status"}, status=status)

    async def stop(self) -> None:
        """End trainer and workers; the run can be resumed."""
        if self._task is None or self._task.done():
            return
        self._stopped = True
        self._task.cancel()
        await asyncio.wait({self._task})

    def begin(self, spec: TaskSpec) -> None:
        self._task = asyncio.create_task(self._main(spec))
        self._task.add_done_callback(lambda _: self._news.set())

    def close(self) -> None:
        self._log.close()
        self._directory.close()

    # ------------------------------------------------------------ the run itself

    async def _main(self, spec: TaskSpec) -> None:
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            stack.callback(self._directory.unlock)  # when all is written: else another loop could resume before that
            store = await LoopStore.open(self.path)
            stack.push_async_callback(store.close)
            clock = _Clock(store, began, await store.get("wall_s", 0.0))
            await store.close_visits()
            await clock.write(state="running", error=None)
            self._tell_start()
            try:
                await self._train(spec, store, clock)
                await clock.write()
                await self._report("done")
            except asyncio.CancelledError:
                await clock.write(state="stopped")
                await self._report("stopped")
                raise
            except Exception as error:
                words = f"{type(error).__name__}: {error}"
                self._log.write("failed", error=words)
                await clock.write(state="failed", error=words)
                await self._report("failed")
                raise
            await clock.write(state="done")  # last: what is done has its report and is not resumed
        self.emit(RunFinished(status=await asyncio.to_thread(RunView(self.path).status)))

    async def _report(self, state: RunState) -> None:
        """Write the report of a run that ends as `state`; takes seconds, so trainer and workers are gone by then."""
        await asyncio.to_thread(self._write_report, state)

    def _write_report(self, state: RunState) -> None:
        with self._writing:  # a stop does not end the thread that writes already; the later page must win
            write_report(self.path, state=state)

    async def _train(self, spec: TaskSpec, store: LoopStore, clock: _Clock) -> None:
        """Trainer and workers up, graph to its end, trainer and workers down."""
        secrets = key_variables(self.config)
        async with AsyncExitStack() as stack:
            pool = WorkerPool(self.path, self.config.branches.workers, secrets=secrets)
            if self.config.adaptation.enabled:
                await stack.enter_async_context(pool)
            trainer = await attach_or_start(self.path, self._directory.id, secrets)
            stack.push_async_callback(trainer.stop)
            ctx = await self._context(spec, store, trainer.client, pool)
            await _first_of(
                self._graph(ctx),
                self._tick(ctx, clock),
                self._wake(ctx, trainer),
                _dies(trainer, self.path / "trainer.out"),
            )
            self.emit(await _progress(ctx))

    async def _context(self, spec: TaskSpec, store: LoopStore, client: TrainerClient, pool: Executor) -> Ctx:
        calls: list[Call] = []
        door = Door(self.config.llm.limits, *await store.usage())
        models = await asyncio.to_thread(build_models, self.config.llm, door, calls.append)
        return Ctx(
            config=self.config,
            run_dir=self.path,
            client=client,
            pool=pool,
            store=store,
            models=models,
            spec=spec,
            calls=calls,
            emit=self.emit,
        )

    async def _graph(self, ctx: Ctx) -> None:
        async with open_checkpoints(self.path) as checkpoints:
            await run_graph(ctx, checkpoints, self._directory.id)

    async def _tick(self, ctx: Ctx, clock: _Clock) -> None:
        """Tell progress and write the wall time, also while the trainer waits and branches run."""
        while True:
            self.emit(await _progress(ctx))
            await clock.write()
            await asyncio.sleep(TICK_S)

    async def _wake(self, ctx: Ctx, trainer: TrainerProcess) -> None:
        """Wake the graph at the trainer's wake-ups."""
        async for wakeup in wakeups(trainer.events):
            if wakeup.waiting_at is not None:
                self.emit(await _progress(ctx))  # first: what happens at this point is shown at its steps
            ctx.wake.set()

    # ------------------------------------------------------------ telling

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress) and self._events and isinstance(self._events[-1], Progress):
            self._events.pop()
        self._events.append(event)
        self._news.set()
        if not isinstance(event, Progress):
            self._log.write(event.kind, **event.model_dump(mode="json", exclude={"kind"}))

    def _tell_start(self) -> None:
        ignored = tracing_variables()
        if ignored:
            self._log.write("tracing_off", variables=ignored, reason="prompts stay on this machine")
        self.emit(
            RunStarted(
                path=str(self.path),
                resumed=self._directory.resumed,
                provider=provider(self.config.llm.model_dump(mode="json")),
                steps_budget=self.config.trainer.steps,
            )
        )


class _Clock:
    """Writes the run's wall time, sessions before this one included, and with it what else is said, as the state."""

    def __init__(self, store: LoopStore, began: float, before_s: float) -> None:
        self._store = store
        self._began = began
        self._before_s = before_s

    async def write(self, **values: Any) -> None:
        await self._store.set(wall_s=self._before_s + time.monotonic() - self._began, **values)


@asynccontextmanager
async def start(config: RunConfig, resume: bool = False) -> AsyncIterator[Run]:
    """Start a run, or with `resume` continue the newest unfinished one of this config below `run_dir`.

    Raises ConfigError for what can be known before training (task, first signal, models), RunLockedError when another
    process is at the run. What goes wrong later is raised by `Run.result`.
    """
    spec = await asyncio.to_thread(_preflight, config)
    run = Run(config, await asyncio.to_thread(open_run, config, resume))
    with contextlib.closing(run), _cancelled_by_sigterm():
        run.begin(spec)
        try:
            yield run
        finally:
            await run.stop()


def key_variables(config: RunConfig) -> list[str]:
    """Environment variables with keys, which trainer and workers must not see."""
    roles: tuple[Role, ...] = ("critic", "generator", "ranker")
    return [name for role in roles if (name := config.llm.for_role(role).api_key_env) is not None]


def _preflight(config: RunConfig) -> TaskSpec:
    """What can be known before training: task, first signal, models."""
    spec = task_spec(config.task)
    try:
        CompiledSignal(config.signal.to_signal(), spec)
    except SignalError as error:
        raise ConfigError(f"signal.terms: {error}") from error
    if config.adaptation.enabled:
        levels(config)
        check_models(config.llm)
    return spec


@contextlib.contextmanager
def _cancelled_by_sigterm() -> Any:
    """SIGTERM cancels the task that entered, as Ctrl-C does under asyncio.run; only the main thread may ask for it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    try:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    except (ValueError, RuntimeError):  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


# ---------------------------------------------------------------- the graph


@asynccontextmanager
async def open_checkpoints(run_dir: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """LangGraph's checkpoints in `loop.db`; only the listed types come back to life."""
    async with AsyncSqliteSaver.from_conn_string(str(run_dir / "loop.db")) as checkpoints:
        checkpoints.serde = JsonPlusSerializer(allowed_msgpack_modules=CHECKPOINT_TYPES)
        await checkpoints.setup()
        yield checkpoints


async def run_graph(ctx: Ctx, checkpoints: AsyncSqliteSaver, run_id: str) -> None:
    """Run the graph to its end, from its last checkpoint when there is one."""
    graph = build_graph(ctx.config, checkpoints)
    config = thread(run_id) | RunnableConfig(callbacks=[VisitRecorder(ctx.store, ctx.emit)])
    saved = await graph.aget_state(thread(run_id))
    if saved.values.get("finished"):
        return
    # `next` would not do: a step whose writes are saved, but which was cut off before it ended, has none
    first: State | None = None if saved.created_at else {"done_point": -1}
    with tracing_context(enabled=False):
        async for _ in graph.astream(first, config, context=ctx, durability="sync", stream_mode="updates"):
            await ctx.store.prune_checkpoints(run_id, KEEP_CHECKPOINTS)


# ---------------------------------------------------------------- beside the graph


async def _first_of(main: Coroutine[Any, Any, None], *guards: Coroutine[Any, Any, None]) -> None:
    """Wait for `main`; a guard that raises ends it, with the guard's error. All are over when this returns."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in (main, *guards)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in sorted(done, key=tasks.index, reverse=True):  # a guard knows better why
        task.result()


async def _dies(trainer: TrainerProcess, output: Path) -> None:
    """Returns never: raises TrainerGone when the trainer's process ends."""
    await trainer.gone()
    words = await asyncio.to_thread(tail, output)
    raise TrainerGone(f"the trainer ended before the run did; use --resume to continue; its last words: {words}")


async def _progress(ctx: Ctx) -> Progress:
    status = await ctx.client.status()
    branch_steps = await ctx.store.branch_steps()
    return Progress(
        steps_main=status.steps_main,
        steps_total=status.steps_main + status.steps_evaluation + branch_steps - status.steps_adopted,
        steps_budget=status.steps_budget,
        sparse_return=status.sparse_return,
        success_rate=status.success_rate,
        stage=status.stage,
        signal_version=status.signal.version,
        waiting=status.waiting_at is not None,
    )
