"""The graph of a run from its start, or from its last checkpoint, to its end, with a human's answers on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from langsmith import tracing_context

from .approve import wait_for_answer
from .context import Ctx
from .events import ApprovalNeeded
from .loop import build_graph, thread
from .state import CHECKPOINT_TYPES, State
from .trace import VisitRecorder

KEEP_CHECKPOINTS = 20


@asynccontextmanager
async def open_checkpoints(run_dir: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """LangGraph's checkpoints in `loop.db`; only the listed types come back to life."""
    async with AsyncSqliteSaver.from_conn_string(str(run_dir / "loop.db")) as checkpoints:
        checkpoints.serde = JsonPlusSerializer(allowed_msgpack_modules=CHECKPOINT_TYPES)
        await checkpoints.setup()
        yield checkpoints


async def run_graph(ctx: Ctx, checkpoints: AsyncSqliteSaver, run_id: str) -> None:
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
