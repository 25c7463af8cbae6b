"""The graph of a run from its start, or from its last checkpoint, to its end, with a human's answers on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from langsmith import tracing_context

from ...errors import TrainerGone
from ...rl.ipc.launcher import TrainerProcess, tail
from ...runs.events import ApprovalNeeded
from ..context import Context
from ..graph import build_graph, thread
from ..nodes.approve import wait_for_answer
from ..state import CHECKPOINT_TYPES, State
from ..tracing.visits import VisitRecorder

# ---------------------------------------------------------------- MERGED graphs.drive

KEEP_CHECKPOINTS = 20


@asynccontextmanager
async def open_checkpoints(run_dir: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """LangGraph's checkpoints in `loop.db`; only the listed types come back to life."""
    async with AsyncSqliteSaver.from_conn_string(str(run_dir / "loop.db")) as checkpoints:
        checkpoints.serde = JsonPlusSerializer(allowed_msgpack_modules=CHECKPOINT_TYPES)
        await checkpoints.setup()
        yield checkpoints


async def run_graph(ctx: Context, checkpoints: AsyncSqliteSaver, run_id: str) -> None:
    """Run the graph to its end, from its last checkpoint when there is one. Where it asks a human, wait for the answer
    and go on with it. Hosted tracing is off whatever the environment asks for, but with `llm.tracing`."""
    graph = build_graph(ctx.config, checkpoints)
    config = thread(run_id) | RunnableConfig(callbacks=[VisitRecorder(ctx.store, ctx.emit), *ctx.callbacks])
    saved = await graph.aget_state(thread(run_id))
    if saved.values.get("finished"):
        return
    # `next` would not do: a step whose writes are saved, but which was cut off before it ended, has none
    step: State | Command[Any] | None = None if saved.created_at else {"done_point": -1}
    with tracing_context(enabled=ctx.config.llm.tracing):
        while True:
            async for _ in graph.astream(step, config, context=ctx, durability="sync", stream_mode="updates"):
                await ctx.store.prune_checkpoints(run_id, KEEP_CHECKPOINTS)
            asked = (await graph.aget_state(thread(run_id))).interrupts
            if not asked:
                return
            yes = await wait_for_answer(ctx, ApprovalNeeded.model_validate(asked[0].value))
            step = Command(resume={"yes": yes})


# ---------------------------------------------------------------- MERGED graphs.beside
# DOC """What runs beside the graph, and what ends it from outside."""


async def first_of(main: Coroutine[Any, Any, None], *guards: Coroutine[Any, Any, None]) -> None:
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


async def watch_trainer(trainer: TrainerProcess, output: Path) -> None:
    """Returns never: raises TrainerGone when the trainer's process ends."""
    await trainer.gone()
    words = await asyncio.to_thread(tail, output)
    raise TrainerGone(f"the trainer ended before the run did; use --resume to continue; its last words: {words}")
