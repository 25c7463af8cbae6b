"""Record every visit of a node, with its times and what came of it, in the store and as events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphInterrupt

from ...errors import StorageError
from ...runs.events import Event, NodeEntered, NodeLeft
from ...runs.records import VisitRecord, VisitStatus
from ...runs.store import LoopStore

MAX_ERROR_CHARS = 2000


class VisitRecorder(AsyncCallbackHandler):
    """A callback handler of the graph that records visits of nodes.

    A visit is named by LangGraph's task id, which stays the same when the node runs again after a crash, so that the
    second run replaces the first one's row.
    """

    raise_error = True  # LangChain logs errors of handlers and goes on; a visit that cannot be written is an error
    run_inline = True

    def __init__(self, store: LoopStore, emit: Callable[[Event], None]) -> None:
        self._store = store
        self._emit = emit
        # By the id of LangChain's run: the visit, and the messages that the node was handed.
        self._open: dict[UUID, tuple[VisitRecord, list[Any]]] = {}

    async def on_chain_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 (LangChain's signature)
        inputs: Any,
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Write the visit that begins; a part of a node is none."""
        node = visited_node(kwargs)
        if node is None:
            return
        state = inputs if isinstance(inputs, dict) else {}
        # `observe` is handed the last point and decides which one comes next.
        place = {} if node == "observe" else state
        visit = VisitRecord(
            task_id=str(kwargs["metadata"]["langgraph_checkpoint_ns"]).rpartition(":")[2],
            node=node,
            point=place.get("point"),
            round=place.get("round", 0),
            started=time.time(),
            ended=None,
            status="running",
            detail=None,
        )
        self._open[run_id] = visit, state.get("messages", [])
        await self._store.write(visit)
        self._emit(NodeEntered(node=node, point=visit.point, round=visit.round))

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Write that the visit is over, and what the node did."""
        await self._leave(run_id, "ok", outputs if isinstance(outputs, dict) else {})

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Write that the visit failed or was cut, or that the node waits for an answer and runs again with it."""
        if isinstance(error, GraphInterrupt):
            await self._leave(run_id, "waiting", {})
        elif isinstance(error, asyncio.CancelledError):  # the run ends, and says itself why
            await self._leave(run_id, "killed", {})
        else:
            message = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
            with contextlib.suppress(StorageError):  # the node's own error is what ends the run
                await self._leave(run_id, "error", {"note": {"error": message}})

    async def _leave(self, run_id: UUID, status: VisitStatus, outputs: dict[str, Any]) -> None:
        """Write the end of the visit, if one is open: LangChain tells of the ends of a node's parts too."""
        if run_id not in self._open:
            return
        visit, messages = self._open.pop(run_id)
        place = outputs if visit.node == "observe" else {}
        calls = tool_call_records(messages, outputs.get("messages", []))
        detail = {"calls": calls} if calls else outputs.get("note", {})
        end = {"ended": time.time(), "status": status, "detail": detail}
        end |= {"point": place.get("point", visit.point), "round": place.get("round", visit.round)}
        visit = visit.model_copy(update=end)
        await self._store.write(visit)
        self._emit(NodeLeft(node=visit.node, point=visit.point, round=visit.round, status=status, detail=detail))


def visited_node(kwargs: dict[str, Any]) -> str | None:
    """Return the node whose visit begins; None where a part of a node begins.

    Args:
        kwargs: the keyword arguments of `on_chain_start`.
    """
    # LangGraph names the node in the metadata of everything inside it, and the node itself by its own name too.
    node: str | None = (kwargs.get("metadata") or {}).get("langgraph_node")
    return node if node is not None and kwargs.get("name") == node else None


def tool_call_records(messages: list[Any], answers: list[Any]) -> list[dict[str, Any]]:
    """Return the record of a visit of the evidence tools: a dict for each answer, in their order.

    `name` and `args` say what was called with what, `status` is error where the call was refused or could not be read,
    and `chars` is the length of the answer that the model reads.

    Args:
        messages: those that the node was handed; the last one made the calls.
        answers: those that the node returned.
    """
    last = messages[-1] if messages else None
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
