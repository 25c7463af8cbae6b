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
import os
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from pydantic import BaseModel, ConfigDict

from ...agents.config import Role
from ...agents.llm.ledger import Call
from ...agents.llm.models import build_models, check_can_rank, check_given, check_models
from ...agents.llm.rate_limits import CallBudget
from ...agents.llm.secrets import key_variable_names
from ...config.run_config import RunConfig
from ...errors import ConfigError, SignalError
from ...rl.branches.executors import check_executor, executor_for
from ...rl.branches.local_pool import Executor, WorkerPool
from ...rl.envs.factory import plain_task_factory, task_spec
from ...rl.ipc.client import TrainerClient, wakeups
from ...rl.ipc.launcher import TrainerProcess, attach_or_start
from ...rl.processes import check_device
from ...rl.signals.scorer import FOLDER, Scorers
from ...rl.signals.shaping import CompiledSignal
from ...rl.task import TaskSpec
from ...runs.approvals import answer
from ...runs.events import ApprovalGiven, ApprovalNeeded, Event, Progress, RunFinished, RunStarted
from ...runs.report import write_report
from ...runs.store import LoopStore, RunState, RunView, provider
from ..context import Context
from ..intervention import levels
from ..tracing.otel import RunFacts, collector, spans_of
from .graph_runner import first_of, open_checkpoints, run_graph, watch_trainer
from .log import SENDING, open_log, tracing_variables
from .run_directory import RunDirectory, open_run

if TYPE_CHECKING:
    from ..tracing.spans import Spans

OUTCOME = ("sparse_return", "success_rate", "promotions", "rollbacks", "steps_main", "steps_total", "llm_calls")
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

    def __init__(
        self, config: RunConfig, directory: RunDirectory, chat_models: Mapping[Role, BaseChatModel] | None = None
    ) -> None:
        self.config = config
        self._chat_models = chat_models or {}
        self.path = directory.path
        self._directory = directory
        self._log = open_log(directory.path / "log.jsonl")
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._writing = threading.Lock()
        self._wake_graph = asyncio.Event()
        self._waiting_for: ApprovalNeeded | None = None

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

    @property
    def waiting_for(self) -> ApprovalNeeded | None:
        """The promotion that waits for `approve`, with all that is needed to answer; None where none waits."""
        return self._waiting_for

    async def approve(self, key: str, yes: bool) -> None:
        """Answer the promotion whose id is `key`, as `cosignal approve` does from another process. The same answer
        twice is one answer. Raises ApprovalError where none of that id waits, or where it has the other answer."""
        await asyncio.to_thread(answer, self.path, key, yes)
        self._wake_graph.set()

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
            await clock.write(provider=self._provider(), state="running", error=None)
            address = await asyncio.to_thread(collector, self.config)
            self._tell_start(address)
            spans = await stack.enter_async_context(spans_of(self.config, address, self._facts(), self.emit))
            try:
                await self._train(spec, store, clock, spans)
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

    async def _train(self, spec: TaskSpec, store: LoopStore, clock: _Clock, spans: Spans | None) -> None:
        """Trainer and workers up, graph to its end, trainer and workers down."""
        secrets = hidden_from_children(self.config)
        async with AsyncExitStack() as stack:
            pool = await self._executor(stack, secrets)
            trainer = await attach_or_start(self.path, self._directory.id, secrets)
            stack.push_async_callback(trainer.stop)
            ctx = await self._context(spec, store, trainer.client, pool, spans)
            await first_of(
                self._graph(ctx),
                self._tick(ctx, clock),
                self._wake(ctx, trainer),
                watch_trainer(trainer, self.path / "trainer.out"),
            )
            self.emit(await _progress(ctx))

    async def _executor(self, stack: AsyncExitStack, secrets: Sequence[str]) -> Executor:
        if not self.config.adaptation.enabled:
            return WorkerPool(self.path, 0)  # never started: nothing branches
        return await stack.enter_async_context(executor_for(self.config.branches, self.path, secrets))

    async def _context(
        self, spec: TaskSpec, store: LoopStore, client: TrainerClient, pool: Executor, spans: Spans | None
    ) -> Context:
        calls: list[Call] = []

        def record(call: Call) -> None:
            calls.append(call)
            if spans is not None:
                spans.call(call)

        door = CallBudget(self.config.llm.limits, *await store.usage())
        models = await asyncio.to_thread(build_models, self.config.llm, door, record, self._chat_models)
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
            emit=self.emit,
            callbacks=[] if spans is None else [spans.handler],
            wake=self._wake_graph,
        )

    async def _graph(self, ctx: Context) -> None:
        async with open_checkpoints(self.path) as checkpoints:
            await run_graph(ctx, checkpoints, self._directory.id)

    async def _tick(self, ctx: Context, clock: _Clock) -> None:
        """Tell progress and write the wall time, also while the trainer waits and branches run."""
        while True:
            self.emit(await _progress(ctx))
            await clock.write()
            await asyncio.sleep(TICK_S)

    async def _wake(self, ctx: Context, trainer: TrainerProcess) -> None:
        """Wake the graph where the trainer waits or is over. While it trains there is nothing new to ask it."""
        async for wakeup in wakeups(trainer.events):
            if wakeup.waiting_at is not None:
                self.emit(await _progress(ctx))  # first: what happens at this point is shown at its steps
            if wakeup.waiting_at is not None or wakeup.state != "training":
                ctx.wake.set()

    # ------------------------------------------------------------ telling

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress) and self._events and isinstance(self._events[-1], Progress):
            self._events.pop()
        if isinstance(event, ApprovalNeeded | ApprovalGiven):
            self._waiting_for = event if isinstance(event, ApprovalNeeded) else None
        self._events.append(event)
        self._news.set()
        if not isinstance(event, Progress):
            self._log.write(event.kind, **event.model_dump(mode="json", exclude={"kind"}))

    def _provider(self) -> str:
        given = {str(role): chat._llm_type for role, chat in self._chat_models.items()}
        return provider(self.config.llm.model_dump(mode="json"), given)

    def _facts(self) -> RunFacts:
        return RunFacts(self._directory.id, self._provider(), self._directory.resumed, self._outcome)

    def _outcome(self) -> dict[str, Any]:
        status = RunView(self.path).status()
        return {name: status[name] for name in OUTCOME}

    def _tell_start(self, spans_to: str | None) -> None:
        tracing = self.config.llm.tracing
        self.emit(
            RunStarted(
                path=str(self.path),
                resumed=self._directory.resumed,
                provider=self._provider(),
                steps_budget=self.config.trainer.steps,
                tracing=tracing,
                tracing_ignored=[] if tracing else tracing_variables(),
                spans_to=spans_to,
                spans_content=self.config.otel.content,
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
async def start(
    config: RunConfig, resume: bool = False, chat_models: Mapping[Role, BaseChatModel] | None = None
) -> AsyncIterator[Run]:
    """Start a run, or with `resume` continue the newest unfinished one of this config below `run_dir`.

    `chat_models`: LangChain chat models of your own for some or all roles, in place of what `config.llm` would build;
    limits, timeouts and ledger are those of the config. The run directory does not hold them: resume with them again.

    Raises ConfigError for what can be known before training (spans, device, task, first signal, executor,
    models), RunLockedError when another process is at the run. What goes wrong later is raised by `Run.result`.
    """
    spec = await asyncio.to_thread(_preflight, config, chat_models or {})
    run = Run(config, await asyncio.to_thread(open_run, config, resume), chat_models)
    with contextlib.closing(run), _cancelled_by_sigterm():
        run.begin(spec)
        try:
            yield run
        finally:
            await run.stop()


def hidden_from_children(config: RunConfig) -> list[str]:
    """Environment variables that trainer and workers must not see: keys, and what would make them post something."""
    return [*key_variable_names(config.llm), *(name for name in os.environ if name.startswith(SENDING))]


def _preflight(config: RunConfig, given: Mapping[Role, BaseChatModel]) -> TaskSpec:
    """What can be known before training: spans, device, task, first signal, executor, models."""
    collector(config)
    check_device(config.trainer.device)
    spec = task_spec(config.task)
    try:
        CompiledSignal(config.signal.to_signal(), spec, Scorers(config.signal.scorers))
    except SignalError as error:
        raise ConfigError(f"signal.terms: {error}") from error
    if config.adaptation.enabled:
        levels(config)
        check_executor(config.branches)
        check_given(given)
        check_models(config.llm, frozenset(given))
        _check_ranker(config, frozenset(given))
    return spec


def _check_ranker(config: RunConfig, given: frozenset[Role]) -> None:
    """Whoever is to rank single agents' moves can."""
    ranker = config.preferences.ranker
    if ranker == "model":
        check_can_rank(config.llm, given)
    if ranker == "task_heuristic":
        task = plain_task_factory(config.task)()
        task.env.close()
        if task.heuristic is None:
            raise ConfigError(
                f"preferences.ranker 'task_heuristic' needs a task that carries a heuristic, {task.name!r} has none; "
                "set it to model or none, or write one"
            )


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


async def _progress(ctx: Context) -> Progress:
    status = await ctx.client.status()
    branch_steps = await ctx.store.branch_steps()
    return Progress(
        steps_main=status.steps_main,
        steps_total=status.steps_main + status.steps_evaluation + branch_steps - status.steps_adopted,
        steps_budget=status.steps_budget,
        sparse_return=status.sparse_return,
        success_rate=status.success_rate,
        evaluated_at=status.evaluation.steps if status.evaluation else None,
        stage=status.stage,
        signal_version=status.signal.version,
        waiting=status.waiting_at is not None,
    )
