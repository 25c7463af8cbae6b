"""Who was at work when: every visit of a node, written to the store and told as events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphInterrupt

from ...runs.events import Event, NodeEntered, NodeLeft
from ...runs.store import LoopStore


class VisitRecorder(AsyncCallbackHandler):
    """A callback handler of the graph. A visit is named by LangGraph's task id, which stays the same when the node runs
    again after a crash, so that the second run replaces the first one's row."""

    raise_error = True  # LangChain logs errors of handlers and goes on; a visit that cannot be written is an error
    run_inline = True

    def __init__(self, store: LoopStore, emit: Callable[[Event], None]) -> None:
        self._store = store
        self._emit = emit
        self._open: dict[UUID, dict[str, Any]] = {}
        self._asked: dict[UUID, list[Any]] = {}  # the messages that a node was given

    async def on_chain_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 (LangChain's signature)
        inputs: Any,
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        node = visited_node(kwargs)
        if node is None:
            return
        row: dict[str, Any] = {
            "task_id": str(kwargs["metadata"]["langgraph_checkpoint_ns"]).rpartition(":")[2],
            "node": node,
        }
        row |= _place(inputs if isinstance(inputs, dict) and node != "observe" else {}, None, 0)
        row |= {"started": time.time(), "ended": None, "status": "running", "detail": None}
        self._open[run_id] = row
        self._asked[run_id] = inputs.get("messages", []) if isinstance(inputs, dict) else []
        await self._store.write("visits", row)
        self._emit(NodeEntered(node=node, point=row["point"], round=row["round"]))

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        await self._leave(run_id, "ok", outputs if isinstance(outputs, dict) else {})

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        if isinstance(error, GraphInterrupt):  # the node waits for an answer, and runs again with it
            await self._leave(run_id, "waiting", {})
        else:
            await self._leave(run_id, "error", {"note": {"error": f"{type(error).__name__}: {error}"[:2000]}})

    async def _leave(self, run_id: UUID, status: str, outputs: dict[str, Any]) -> None:
        row = self._open.pop(run_id, None)
        if row is None:
            return
        row |= _place(outputs if row["node"] == "observe" else {}, row["point"], row["round"])
        called = tool_calls(self._asked.pop(run_id, []), outputs.get("messages", []))
        note = {"calls": called} if called else outputs.get("note", {})
        row |= {"ended": time.time(), "status": status, "detail": note}
        await self._store.write("visits", row)
        left = NodeLeft(node=row["node"], point=row["point"], round=row["round"], status=status, detail=row["detail"])
        self._emit(left)


def visited_node(kwargs: dict[str, Any]) -> str | None:
    """The node whose visit begins, of the keyword arguments of `on_chain_start`; None where a part of a node begins."""
    node: str | None = (kwargs.get("metadata") or {}).get("langgraph_node")
    return node if node is not None and kwargs.get("name") == node else None


def tool_calls(asked: list[Any], answers: list[Any]) -> list[dict[str, Any]]:
    """What tools were called with, and how much each answered: the record of a visit of the evidence tools.

    `status`: error where the call was refused or could not be read. `chars`: of the answer that the model reads.
    """
    last = asked[-1] if asked else None
    calls = {call["id"]: call["args"] for call in last.tool_calls} if isinstance(last, AIMessage) else {}
    return [
        {
            "name": answer.name,
            "args": calls.get(answer.tool_call_id, {}),
            "status": answer.status,
            "chars": len(str(answer.content)),
        }
        for answer in answers
        if isinstance(answer, ToolMessage)
    ]


def _place(values: dict[str, Any], point: int | None, round_: int) -> dict[str, Any]:
    return {"point": values.get("point", point), "round": values.get("round", round_)}
