"""The graph of a run from its start, or from its last checkpoint, to its end, and what runs beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command, StreamMode
from langsmith import tracing_context

from ...files import naming_disk_errors
from ...rl.ipc.launcher import TrainerProcess
from ..context import Context
from ..graph import build_graph, thread
from ..human_review import question_in
from ..nodes.approve import wait_for_answer
from ..state import CHECKPOINT_TYPES, State
from ..tracing.visits import VisitRecorder
from .directory_checks import write_row_counts

KEEP_CHECKPOINTS = 20


class GraphChunk(NamedTuple):
    """A chunk of LangGraph's stream of the graph; `data` is what the stream mode `mode` says."""

    mode: str
    data: Any


async def run_graph(
    ctx: Context,
    checkpoints: AsyncSqliteSaver,
    run_id: str,
    modes: Sequence[str] = (),
    forward: Callable[[GraphChunk], None] = lambda _: None,
) -> None:
    """Run the graph to its end, from its last checkpoint when there is one.

    What had ended for want of a budget that is larger now begins again with the next adaptation point. Where the graph
    asks a human, the answer is waited for and the graph goes on with it. Hosted tracing is off whatever the environment
    asks for, unless the config says `llm.tracing`.

    Args:
        ctx: what the nodes use.
        checkpoints: of the graph.
        run_id: name of the checkpoints' thread.
        modes: stream modes of LangGraph's that somebody wants to follow.
        forward: takes the chunks of those modes.
    """
    graph = build_graph(ctx.config, checkpoints)
    config = thread(run_id) | RunnableConfig(callbacks=[VisitRecorder(ctx.store, ctx.tell), *ctx.callbacks])
    saved = await graph.aget_state(thread(run_id))
    # `saved.next` would not do: a step whose writes are saved, but which was cut off before it ended, has none.
    step: State | Command[Any] | None = None if saved.created_at else {"done_point": -1}
    reopened = await _reopened(ctx, saved.values)
    if reopened:
        # Input leads from the start of the graph to `observe`, with all else in the state as it is.
        step = reopened
    elif saved.values.get("finished"):
        return
    counted: dict[str, int] = {}
    with tracing_context(enabled=ctx.config.llm.tracing):
        while True:
            wanted = cast("list[StreamMode]", [*dict.fromkeys([*modes, "updates"])])
            async for mode, data in graph.astream(step, config, context=ctx, durability="sync", stream_mode=wanted):
                if mode in modes:
                    forward(GraphChunk(mode, data))
                # Each update is a finished step, whose checkpoint is on the disk.
                if mode != "updates":
                    continue
                await ctx.store.prune_checkpoints(run_id, KEEP_CHECKPOINTS)
                counts = await ctx.store.row_counts()
                if counts != counted:
                    await asyncio.to_thread(write_row_counts, ctx.run_dir, counts)
                    counted = counts
            # The stream ends at the graph's end, or where a node has interrupted itself with a question to a human.
            questions = (await graph.aget_state(thread(run_id))).interrupts
            if not questions:
                return
            answer = await wait_for_answer(ctx, question_in(questions[0].value))
            step = Command(resume=answer.model_dump())


async def _reopened(ctx: Context, saved: dict[str, Any]) -> State:
    """Return what is not over any more in the saved state.

    That is the run, where the trainer has steps left, and adaptation, where a limit is higher than when it ended.
    """
    reopened: State = {}
    if saved.get("finished") and (await ctx.client.status()).state != "finished":
        reopened["finished"] = False
    limits = ctx.config.llm.limits.model_dump(mode="json")
    if saved.get("adaptation_over") and any(limits[name] > then for name, then in saved.get("limits", {}).items()):
        reopened |= {"finished": False, "adaptation_over": False}
    return reopened


@asynccontextmanager
async def open_checkpoints(run_dir: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """Open LangGraph's checkpoints in `loop.db`; only CHECKPOINT_TYPES are restored as objects.

    Raises:
        StorageError: a checkpoint cannot be written.
    """
    path = run_dir / "loop.db"
    with naming_disk_errors(path):
        async with AsyncSqliteSaver.from_conn_string(str(path)) as checkpoints:
            checkpoints.serde = JsonPlusSerializer(allowed_msgpack_modules=CHECKPOINT_TYPES)
            await checkpoints.setup()
            yield checkpoints


# ---------------------------------------------------------------- beside the graph


async def run_guarded(main: Coroutine[Any, Any, None], *guards: Coroutine[Any, Any, None]) -> None:
    """Run `main` with `guards` beside it until the first of them ends; all are over when this returns.

    asyncio.TaskGroup would wrap the error in an ExceptionGroup and lose a cancellation that comes with it.

    Raises:
        Exception: what ended it. Where `main` and a guard fail together, it is the guard's, which says why.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in (main, *guards)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Whatever has ended the wait, a cancellation from outside too: nothing may go on by itself.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # Guards go before `main`; what a task raises while it is cancelled does not count.
    for task in reversed(tasks):
        if task in done:
            task.result()


async def watch_trainer(trainer: TrainerProcess) -> None:
    """Wait until the trainer's process ends.

    Raises:
        TrainerGone: it has ended; this function never returns.
        CosignalError: it has ended by this error of its own.
    """
    await trainer.gone()
    raise await asyncio.to_thread(trainer.end)
