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
import contextvars
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.config import var_child_runnable_config
from pydantic import BaseModel, ConfigDict

from ...agents.config import Role
from ...agents.llm.hosted_tracing import hidden_from_children, tracing_variables
from ...agents.llm.ledger import Call
from ...agents.llm.models import build_models
from ...agents.llm.rate_limits import CallBudget
from ...config.run_config import RunConfig
from ...errors import NotARunError, StorageError
from ...files import naming_disk_errors, write_whole
from ...rl.branches.executors import executor_for
from ...rl.branches.jobs import Executor
from ...rl.branches.local_pool import WorkerPool
from ...rl.envs.load_env import check_not_importing
from ...rl.envs.probe import probe_task_soon
from ...rl.ipc.client import TrainerClient, wakeups
from ...rl.ipc.launcher import TrainerProcess, attach_or_start
from ...rl.signals.scorer import FOLDER, Scorers
from ...rl.task import TASK_FILE, TaskSpec
from ...runs.approvals import answer
from ...runs.events import ApprovalGiven, ApprovalNeeded, Event, Progress, RunFinished, RunStarted
from ...runs.report import write_report
from ...runs.run_view import RunState, RunView, provider
from ...runs.steps import RunSteps
from ...runs.store import LoopStore
from ..context import REPLAY, Context
from ..graph import loop_topology
from ..tracing.otel import RunFacts, collector_address, open_spans
from .checks import check_before_start
from .graph_runner import GraphChunk, open_checkpoints, run_graph, run_guarded, watch_trainer
from .run_directory import RunDirectory, open_run
from .run_log import RunLog

if TYPE_CHECKING:
    from ..tracing.spans import Spans

# What the root span says of the run's end, by the keys of `cosignal status --json`.
OUTCOME = ("sparse_return", "success_rate", "promotions", "rollbacks", "steps_main", "steps_total", "llm_calls")
TICK_S = 1.0  # how often progress is emitted and wall time written down; a kill loses no more of it


@asynccontextmanager
async def start(
    config: RunConfig, resume: bool | str | Path = False, chat_models: Mapping[Role, BaseChatModel] | None = None
) -> AsyncIterator[Run]:
    """Start a run, or continue an unfinished one, for as long as the context is open.

    Args:
        config: the config of the run.
        resume: True continues the newest run of this config below `run_dir` that is not done, or whose budget the
            config has raised; where the task has no run there, a new one starts. A path continues the run in that
            directory. What `config` says holds from then on; it must decide the same results (`config.identity`).
        chat_models: LangChain chat models of your own for some or all roles, in place of what `config.llm` would
            build; limits, timeouts and ledger are those of the config. The run directory does not hold them: resume
            with them again.

    Raises:
        ConfigError: what can be known before training (task, spans, device, first signal, executor, models). It is a
            MissingGuard where the script that calls this holds the environment too, and starts a run when imported.
        RunLockedError: another process is at the run.
        NotARunError: the path of `resume` is no run directory.
        ResumeError: no run there can be continued with this config, or its files do not belong together.
        StorageError: the run directory cannot be written.

    What goes wrong later is raised by `Run.result`.
    """
    check_not_importing()
    with _cancelled_by_sigterm():
        async with open_session(config, resume, chat_models) as run:
            yield run


@asynccontextmanager
async def open_session(
    config: RunConfig,
    resume: bool | str | Path = False,
    chat_models: Mapping[Role, BaseChatModel] | None = None,
    *,
    run_id: str | None = None,
    modes: Sequence[str] = (),
) -> AsyncIterator[Run]:
    """Start or continue a run as `start` does, in a process whose signals are somebody else's.

    Args:
        config: as in `start`.
        resume: as in `start`.
        chat_models: as in `start`.
        run_id: name of a new run, which its directory's name ends with; None for the time and something random.
        modes: stream modes of LangGraph's whose chunks `Run.items` yields between the events.
    """
    task = await probe_task_soon(config.task, hidden_from_children(config.llm))
    await asyncio.to_thread(check_before_start, config, task, chat_models or {})
    resume = resume if isinstance(resume, bool) else Path(resume)
    directory = await asyncio.to_thread(open_run, config, resume, run_id)
    run = await asyncio.to_thread(Run, config, directory, chat_models, modes)
    with contextlib.closing(run):
        run.begin(task.spec)
        try:
            yield run
        finally:
            await run.stop()


class RunResult(BaseModel):
    """The end of a run, and where it had come to by then.

    Attributes:
        path: the run directory.
        state: done, or stopped where `Run.stop` ended it.
        steps_main: environment steps of the main line.
        steps_total: all environment steps, those of branches, evaluations and rankings too.
        promotions: how many signals were put in force.
        sparse_return: mean sparse return of the last evaluation, None before the first.
        success_rate: success rate of the last evaluation, 0..1, None where there is none.
        status: everything that `cosignal status --json` says.
    """

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
    """A run that is under way in this process. Made by `start`.

    Attributes:
        config: the config of the run.
        path: the run directory.
    """

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        chat_models: Mapping[Role, BaseChatModel] | None = None,
        modes: Sequence[str] = (),
    ) -> None:
        self.config = config
        self._modes = modes
        self._chat_models = chat_models or {}
        self.path = directory.path
        self._directory = directory
        try:
            self._log = RunLog(directory.path / "log.jsonl")
        except StorageError:
            directory.close()
            raise
        self._items: deque[Event | GraphChunk] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._writing = threading.Lock()
        self._wake_graph = asyncio.Event()
        self._waiting_for: ApprovalNeeded | None = None

    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens until the run ends in whatever way.

        There may be one reader. Of several unread `Progress` events in a row only the last is kept.
        """
        async for item in self.items():
            if not isinstance(item, GraphChunk):
                yield item

    async def items(self) -> AsyncIterator[Event | GraphChunk]:
        """Yield what `events` does and, between the events, the chunks of the graph in the modes of this session."""
        while True:
            while self._items:
                yield self._items.popleft()
            # The task has emitted its last event when it is over, so nothing can come after an empty queue here.
            if self._task is None or self._task.done():
                return
            self._news.clear()
            await self._news.wait()

    async def result(self) -> RunResult:
        """Wait for the end and return what came of the run.

        Raises:
            CosignalError: what ended the run, if it was an error; a defect is raised as whatever it is.
        """
        assert self._task is not None
        await asyncio.wait({self._task})
        # A task that `stop` has cancelled raises CancelledError, which is what the caller has asked for.
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

    @property
    def waiting_for(self) -> ApprovalNeeded | None:
        """The promotion that waits for `approve`, with all that is needed to answer; None where none waits."""
        return self._waiting_for

    async def approve(self, key: str, yes: bool, because: str = "") -> None:
        """Answer a promotion that waits, as `cosignal approve` does from another process.

        The same answer twice is one answer, with the reason of the first.

        Args:
            key: the id of the promotion, as `waiting_for` has it.
            yes: whether to promote it.
            because: why it is declined, which later prompts show; kept as one line of at most 500 characters.

        Raises:
            ApprovalError: none of that id waits, it has the other answer, or a reason goes with a yes.
        """
        await asyncio.to_thread(answer, self.path, key, yes, because)
        self._wake_graph.set()

    # ------------------------------------------------------------ called by `start` and by the graph

    def begin(self, spec: TaskSpec) -> None:
        """Start the run's task in the running event loop.

        It is no part of a graph that it may be started in: its own graph has a stream and checkpoints of its own.
        """
        # so that readers know the task without loading it
        write_whole(self.path / TASK_FILE, spec.model_dump_json(indent=2).encode())
        context = contextvars.copy_context()
        context.run(var_child_runnable_config.set, None)
        self._task = asyncio.create_task(self._main(spec), context=context)
        self._task.add_done_callback(lambda _: self._news.set())

    def close(self) -> None:
        """Close the log and the lock of the run directory."""
        self._log.close()
        self._directory.close()

    def emit(self, event: Event) -> None:
        """Hand `event` to the reader of `events` and, unless it is progress, to the log."""
        # Progress that nobody has read yet is replaced by newer progress, so that a slow reader is not left behind.
        if isinstance(event, Progress) and self._items and isinstance(self._items[-1], Progress):
            self._items.pop()
        if isinstance(event, ApprovalNeeded | ApprovalGiven):
            self._waiting_for = event if isinstance(event, ApprovalNeeded) else None
        self._forward(event)
        if not isinstance(event, Progress):
            self._log.write(event.kind, **event.model_dump(mode="json", exclude={"kind"}))

    def _forward(self, item: Event | GraphChunk) -> None:
        self._items.append(item)
        self._news.set()

    # ------------------------------------------------------------ the run itself

    async def _main(self, spec: TaskSpec) -> None:
        """Train to the end, and write down how the run ends: done, stopped or failed."""
        began = time.monotonic()
        llms = {str(role): chat._llm_type for role, chat in self._chat_models.items()}
        model_provider = provider(self.config.model_dump(mode="json"), llms)

        def outcome() -> dict[str, Any]:
            status = RunView(self.path).status()
            return {name: status[name] for name in OUTCOME}

        async with AsyncExitStack() as stack:
            # The lock goes last, when all is written: else another loop could resume before that.
            stack.callback(self._directory.unlock)
            store = await LoopStore.open(self.path)
            stack.push_async_callback(store.close)
            clock = _Clock(store, began, await store.get("wall_s", 0.0))
            # A session that was killed has left a visit open.
            await store.close_visits()
            await clock.write(id=self._directory.id, provider=model_provider, state="running", error=None)

            try:
                # The first event says what leaves this machine: prompts by tracing, and spans.
                address = await asyncio.to_thread(collector_address, self.config)
                tracing = self.config.llm.tracing
                self.emit(
                    RunStarted(
                        path=str(self.path),
                        resumed=self._directory.resumed,
                        provider=model_provider,
                        steps_budget=self.config.trainer.steps,
                        tracing=tracing,
                        tracing_ignored=[] if tracing else tracing_variables(),
                        spans_to=address,
                        spans_content=self.config.otel.content,
                        changes={key: (before, now) for key, before, now in self._directory.changes},
                        notes=list(self._directory.notes),
                    )
                )
                facts = RunFacts(self._directory.id, model_provider, self._directory.resumed, outcome)
                spans = await stack.enter_async_context(open_spans(self.config, address, facts, self.emit))
                with naming_disk_errors(self.path):
                    await self._train(spec, store, clock, spans)
                await clock.write()
                await self._report("done")
            except asyncio.CancelledError:
                await self._write_end(clock, "stopped")
                raise
            except Exception as error:
                await self._write_end(clock, "failed", f"{type(error).__name__}: {error}")
                raise
            # A run is done when its report is there, and is not resumed from then on.
            await clock.write(state="done")
        self.emit(RunFinished(status=await asyncio.to_thread(RunView(self.path).status)))

    async def _write_end(self, clock: _Clock, state: RunState, error: str | None = None) -> None:
        """Write down how the run ends, and its report.

        Where the disk is full or a row damaged, what ended the run is what is raised, and as much is written as can be.
        """
        with contextlib.suppress(StorageError):
            if error is not None:
                self._log.write(state, error=error)
        with contextlib.suppress(StorageError):
            await clock.write(state=state, error=error)
        with contextlib.suppress(StorageError, NotARunError):  # rows that cannot be read
            await self._report(state)

    async def _report(self, state: RunState) -> None:
        """Write the report of a run that ends as `state`; takes seconds, so trainer and workers are gone by then."""
        await asyncio.to_thread(self._write_report, state)

    def _write_report(self, state: RunState) -> None:
        with self._writing:  # a stop does not end the thread that writes already; the later page must win
            write_report(self.path, loop_topology(), state)

    async def _train(self, spec: TaskSpec, store: LoopStore, clock: _Clock, spans: Spans | None) -> None:
        """Bring trainer and workers up, run the graph to its end, and bring them down."""
        secrets = hidden_from_children(self.config.llm)
        async with AsyncExitStack() as stack:
            # Without adaptation nothing branches: a pool without workers, which is never started, stands for it.
            pool: Executor = WorkerPool(self.path, 0)
            if self.config.adaptation.enabled:
                pool = await stack.enter_async_context(executor_for(self.config.branches, self.path, secrets))
            trainer = await attach_or_start(self.path, self.path.name, secrets)
            if trainer.reattached and self._directory.trains_differently:
                await trainer.stop()  # it trains as the config of before says
                trainer = await attach_or_start(self.path, self.path.name, secrets)
            stack.push_async_callback(trainer.stop)
            ctx = await self._context(spec, store, trainer.client, pool, spans)
            stack.push_async_callback(ctx.models.aclose)
            for warning in trainer.hello.warnings:
                await ctx.warn(warning, warning)
            checkpoints = await stack.enter_async_context(open_checkpoints(self.path))
            await run_guarded(
                run_graph(ctx, checkpoints, self._directory.id, self._modes, self._forward),
                self._tick(ctx, clock),
                self._wake(ctx, trainer),
                watch_trainer(trainer),
            )
            self.emit(await _progress(ctx))

    async def _context(
        self, spec: TaskSpec, store: LoopStore, client: TrainerClient, pool: Executor, spans: Spans | None
    ) -> Context:
        """Make what the nodes of the graph use. Each model call becomes a row to be stored, and a span where wanted."""
        calls: list[Call] = []

        # A call is recorded when it is over; the node that made it writes `calls` to the store.
        def record(call: Call) -> None:
            calls.append(call)
            if spans is not None:
                spans.call(call)

        # Calls of the sessions before this one count against the same limits.
        budget = CallBudget(self.config.llm.limits, *await store.usage())
        models = await asyncio.to_thread(build_models, self.config.llm, budget, record, self._chat_models)
        return Context(
            config=self.config,
            run_dir=self.path,
            client=client,
            pool=pool,
            store=store,
            models=models,
            spec=spec,
            scorers=Scorers(self.path / FOLDER),
            calls=calls,
            tell=self.emit,
            callbacks=[] if spans is None else [spans.handler],
            wake=self._wake_graph,
        )

    async def _tick(self, ctx: Context, clock: _Clock) -> None:
        """Emit progress and write the wall time, also while the trainer waits and branches run."""
        while True:
            self.emit(await _progress(ctx))
            await clock.write()
            await asyncio.sleep(TICK_S)

    async def _wake(self, ctx: Context, trainer: TrainerProcess) -> None:
        """Wake the graph where the trainer waits or is over. While it trains there is nothing new to ask it."""
        async for wakeup in wakeups(trainer.events):
            if wakeup.waiting_at is not None:
                # Progress comes first, so that what happens at this point is shown at its steps.
                self.emit(await _progress(ctx))
            if wakeup.waiting_at is not None or wakeup.state != "training":
                ctx.wake.set()


class _Clock:
    """Writes the run's wall time, sessions before this one included, and the run's values that change with it."""

    def __init__(self, store: LoopStore, began: float, before_s: float) -> None:
        self._store = store
        self._began = began
        self._before_s = before_s

    async def write(self, **values: Any) -> None:
        """Write the wall time and `values` (state, error, provider) at once."""
        await self._store.set(wall_s=self._before_s + time.monotonic() - self._began, **values)


@contextlib.contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel the task that entered, as Ctrl-C does under asyncio.run."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    try:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    except (ValueError, RuntimeError):
        # Only the main thread may ask for signals; elsewhere they are left to who owns them.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _progress(ctx: Context) -> Progress:
    status = await ctx.client.status()
    if status.replay_difference is not None:
        await ctx.warn(REPLAY, status.replay_difference)
    extra = await ctx.store.extra_steps()
    return Progress(
        steps_main=status.steps_main,
        steps_total=RunSteps(status.steps_trained, status.steps_main, status.steps_evaluation, extra).total,
        steps_budget=status.steps_budget,
        sparse_return=status.sparse_return,
        success_rate=status.success_rate,
        evaluated_at=status.evaluation.steps if status.evaluation else None,
        stage=status.stage,
        signal_version=status.signal.version,
        waiting=status.waiting_at is not None,
    )
