"""The graph as a LangGraph server runs it: `langgraph dev`, Studio, interfaces that speak its protocol.

`langgraph.json` names `make_graph`, which the server enters for every request: to draw the graph, to read a thread, to
run it. A thread is a run. Its directory is below the config's `run_dir` and is called after the thread; its state is
the run's own, in the checkpoints of `loop.db`, and not the server's. So a run goes on in the same directory when the
server was restarted, `cosignal run --resume` goes on with it too, and status, page and report read it as any other.

    POST runs, input {}            starts the run, or goes on from its last checkpoint
    POST runs, command.resume      answers the question of `approve: human` and goes on
    the server cancels, or stops   trainer and workers end; the run can go on

The chunks are those of the run's graph in the modes that were asked for; `custom` has every event of the run
(`runs.events.stream_chunk`), also those that nobody's node tells.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from ...config.run_config import RunConfig
from ...errors import ConfigError, CosignalError, ResumeError
from ...examples import example_names
from ...runs.approvals import answer
from ...runs.events import ApprovalNeeded, stream_chunk
from ...runs.run_files import read_json
from ...runs.run_view import RunView
from ..graph import Graph, build_graph
from ..human_review import answer_in
from ..state import State
from .graph_runner import GraphChunk, open_checkpoints
from .run import open_session

CONFIG_VARIABLE = "COSIGNAL_CONFIG"  # names the config of all threads whose assistant names none
CONFIG_KEY = "config"  # of an assistant's `configurable`
THREAD = re.compile(r"[\w-]{1,64}")  # it becomes a part of the name of a directory
INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")


@asynccontextmanager
async def make_graph(config: RunnableConfig) -> AsyncIterator[ServedGraph]:
    """Make the graph for one request to a server.

    Args:
        config: of the request. `configurable` has the thread, if it is about one, and may have `config`: the name of a
            packaged example, or a file below the directory that the server was started in. Without it the variable
            COSIGNAL_CONFIG names the file, and without that the default config holds.

    Raises:
        RuntimeError: the config cannot be used, or is named from outside of that directory.
    """
    configurable: Mapping[str, Any] = config.get("configurable") or {}
    with _told_to_clients():
        run_config = await asyncio.to_thread(_load_config, configurable.get(CONFIG_KEY))
        thread_id = configurable.get("thread_id")
        path = None if thread_id is None else await asyncio.to_thread(_run_of, run_config, str(thread_id))
    async with AsyncExitStack() as stack:
        checkpoints = None
        if path is not None and await asyncio.to_thread((path / "loop.db").exists):
            checkpoints = await stack.enter_async_context(open_checkpoints(path))
        yield ServedGraph.of(build_graph(run_config, checkpoints), run_config)


@contextmanager
def _told_to_clients() -> Iterator[None]:
    """Raise our errors as a RuntimeError: of others the server keeps the words from its clients."""
    try:
        yield
    except CosignalError as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _load_config(named: Any) -> RunConfig:
    """Load the config of a request; whoever reaches the port can name no file of somebody else's."""
    if named is None:
        path = os.environ.get(CONFIG_VARIABLE)
        return RunConfig() if not path else RunConfig.load(path)
    here = Path.cwd()
    is_own = isinstance(named, str) and (here / named).resolve().is_relative_to(here)
    if named not in example_names() and not is_own:
        raise ConfigError(
            f"{CONFIG_KEY}: must be the name of a packaged example or a file below {str(here)!r}, got {named!r}; start "
            f"the server elsewhere, or name the file by {CONFIG_VARIABLE}"
        )
    return RunConfig.load(named)


def _run_of(config: RunConfig, thread_id: str) -> Path | None:
    """Return the run directory of a thread, None where it has none yet."""
    if not THREAD.fullmatch(thread_id):
        raise ConfigError(
            f"thread_id: must be at most 64 letters, digits, '_' and '-', got {thread_id!r:.80}; leave it to the server"
        )
    for path in sorted(config.run_dir.absolute().glob(f"*-{thread_id}")):
        if read_json(path / "run.json").get("id") == thread_id:  # other runs have a name of their own
            return path
    return None


class ServedGraph(CompiledStateGraph[State, None, State, State]):
    """The graph of a run for a server. Streaming it drives the run; its state is read from the run's checkpoints.

    It has no context schema, since the live things that nodes use have no JSON schema: the run brings them.
    """

    def __init__(self, *, run_config: RunConfig, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.run_config = run_config

    @classmethod
    def of(cls, graph: Graph, run_config: RunConfig) -> Self:
        """Return `graph` for a server that runs it as `run_config` says."""
        attributes = {name: value for name, value in vars(graph).items() if name != "__orig_class__"}
        return cls(run_config=run_config, **attributes | {"context_schema": None})

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """Return a copy with some attributes replaced, but never the checkpoints: those are the run's."""
        return super().copy({name: value for name, value in (update or {}).items() if name != "checkpointer"})

    async def astream(  # type: ignore[override]
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        stream_mode: str | Sequence[str] | None = None,
        subgraphs: bool = False,
        version: str = "v1",
        **_: Any,
    ) -> AsyncIterator[Any]:
        """Start the run of the thread, or go on with it, and yield its chunks until it ends or asks a human.

        What else LangGraph's `astream` takes is left out: the run brings its own context, a checkpoint is written after
        each node, and a run that stops at a node stops nowhere else.

        Args:
            input: nothing, since a run has its own state; a `Command` with `resume` answers what it has asked.
            config: names the thread.
            stream_mode: one mode, whose chunks come bare, or several, whose chunks come as pairs.
            subgraphs: puts the namespace before, which is empty: there is one graph.
            version: "v2" gives objects with `type`, `ns` and `data` instead.

        Raises:
            RuntimeError: the run cannot go on, or not from where it is asked to; the answer is none, or nothing waits
                for one; or what ended the run.
        """
        is_single = stream_mode is None or isinstance(stream_mode, str)
        modes = ["updates"] if stream_mode is None else [stream_mode] if isinstance(stream_mode, str) else stream_mode
        with _told_to_clients():
            async with aclosing(self._chunks(input, config or {}, modes)) as chunks:
                async for chunk in chunks:
                    yield _shaped(chunk, is_single, subgraphs, version)

    async def _chunks(
        self, answer_or_none: Any, config: RunnableConfig, modes: Sequence[str]
    ) -> AsyncGenerator[GraphChunk, None]:
        """Yield the chunks of `astream`, and raise what it tells in errors of ours."""
        configurable: Mapping[str, Any] = config.get("configurable") or {}
        thread_id = str(configurable.get("thread_id"))
        if configurable.get("checkpoint_id"):
            _refuse("a run goes on from its last checkpoint", f"checkpoint_id {configurable['checkpoint_id']!r}")
        path = await asyncio.to_thread(_run_of, self.run_config, thread_id)
        if isinstance(answer_or_none, Command):
            if path is None:
                raise ResumeError(f"an answer needs a run that asks, got thread {thread_id!r} without one; start it")
            await asyncio.to_thread(_answer, path, answer_or_none)

        own_modes = [mode for mode in modes if mode != "custom"]
        async with open_session(self.run_config, path or False, run_id=thread_id, modes=own_modes) as run:
            async for item in run.items():
                chunk = item if isinstance(item, GraphChunk) else GraphChunk("custom", stream_chunk(item))
                if chunk.mode in modes:
                    yield chunk
                # The thread waits for a human; so does the run, without its processes.
                if isinstance(item, ApprovalNeeded):
                    return
            await run.result()

    def stream(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Refuse: a run needs an event loop."""
        raise NotImplementedError("a run is streamed by `astream`")

    async def abulk_update_state(self, config: RunnableConfig, supersteps: Any) -> NoReturn:
        """Refuse, as `bulk_update_state` does, on which `update_state` and `aupdate_state` rest."""
        self.bulk_update_state(config, supersteps)

    def bulk_update_state(self, config: RunnableConfig, supersteps: Any) -> NoReturn:  # noqa: ARG002
        """Refuse: trainer and tables have what the state says."""
        _refuse("the state of a run is written by its nodes", "an update of it")


def _refuse(rule: str, got: str) -> NoReturn:
    raise ResumeError(
        f"{rule}, which trainer and tables belong to, got {got}; ask a recorded question again with `cosignal replay`, "
        "which tries its proposals from the snapshot of that point"
    )


def _answer(path: Path, command: Command[Any]) -> None:
    """Answer what waits in the run, as `cosignal approve` does."""
    resume = command.resume
    if command.update or command.goto:
        _refuse("a command may answer a question", f"{command!r:.80}")
    # Clients may name the interrupt that they answer; a run has one at most.
    if isinstance(resume, Mapping) and len(resume) == 1 and INTERRUPT_ID.fullmatch(next(iter(resume))):
        [resume] = resume.values()
    given, waiting = answer_in(resume), RunView(path).waiting_for()
    if waiting is None or given.yes is None:
        raise ResumeError(
            f"an answer needs a question that waits and says yes or no, got {resume!r:.80}; go on without"
        )
    answer(path, waiting["id"], given.yes, given.because)


def _shaped(chunk: GraphChunk, is_single: bool, subgraphs: bool, version: str) -> Any:
    """Return the chunk as `astream` gives it under these arguments."""
    if version == "v2":
        part: dict[str, Any] = {"type": chunk.mode, "ns": (), "data": chunk.data}
        if chunk.mode == "values":
            interrupts = chunk.data.pop("__interrupt__", ()) if isinstance(chunk.data, dict) else ()
            part["interrupts"] = interrupts
        return part
    parts = [*([()] if subgraphs else []), *([] if is_single else [chunk.mode]), chunk.data]
    return tuple(parts) if len(parts) > 1 else chunk.data
