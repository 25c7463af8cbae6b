"""Who was at work when: every visit of a node, written to the store and told as events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler

from ..runs.store import LoopStore
from .events import Event, NodeEntered, NodeLeft


class VisitRecorder(AsyncCallbackHandler):
    """A callback handler of the graph. A visit is named by LangGraph's task id, which stays the same when the node runs
    again after a crash, so that the second run replaces the first one's row."""

    raise_error = True  # LangChain logs errors of handlers and goes on; a visit that cannot be written is an error
    run_inline = True

    def __init__(self, store: LoopStore, emit: Callable[[Event], None]) -> None:
        self._store = store
        self._emit = emit
        self._open: dict[UUID, dict[str, Any]] = {}

    async def on_chain_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 (LangChain's signature)
        inputs: Any,
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        metadata = kwargs.get("metadata") or {}
        node = metadata.get("langgraph_node")
        if node is None or kwargs.get("name") != node:
            return
        row = {"task_id": str(metadata["langgraph_checkpoint_ns"]).rpartition(":")[2], "node": node}
        row |= _place(inputs if isinstance(inputs, dict) and node != "observe" else {}, None, 0)
        row |= {"started": time.time(), "ended": None, "status": "running", "detail": None}
        self._open[run_id] = row
        await self._store.write("visits", row)
        self._emit(NodeEntered(node=node, point=row["point"], round=row["round"]))

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        await self._leave(run_id, "ok", outputs if isinstance(outputs, dict) else {})

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        await self._leave(run_id, "error", {"note": {"error": f"{type(error).__name__}: {error}"[:2000]}})

    async def _leave(self, run_id: UUID, status: str, outputs: dict[str, Any]) -> None:
        row = self._open.pop(run_id, None)
        if row is None:
            return
        row |= _place(outputs if row["node"] == "observe" else {}, row["point"], row["round"])
        row |= {"ended": time.time(), "status": status, "detail": outputs.get("note", {})}
        await self._store.write("visits", row)
        left = NodeLeft(node=row["node"], point=row["point"], round=row["round"], status=status, detail=row["detail"])
        self._emit(left)


def _place(values: dict[str, Any], point: int | None, round_: int) -> dict[str, Any]:
    return {"point": values.get("point", point), "round": values.get("round", round_)}
