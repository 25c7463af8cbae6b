"""The loop's side of the interface to the trainer: one typed request, one typed reply.

Why nothing is lost, stale or applied twice:

* *Lost.* The trainer syncs a promotion or a rollback to its signal log before it answers, and a snapshot before it
  names it. A request that got no answer raises `TrainerGone`; the caller asks again after a restart.
* *Applied twice.* `Promote` and `Rollback` carry a key made of content. A repeated key is answered with
  `repeated=True` and changes nothing, so that asking again is always safe. All other requests change nothing, or
  (`Release`, `Stop`) are the same thing when sent twice.
* *Stale.* `Promote` and `Rollback` name the version they were decided on (compare-and-set), `Release` the point it
  leaves: a past point is ignored. A `Look` is one instant: status, evidence and snapshot belong together. A reply that
  comes after its request gave up carries an older request id and is dropped.

Not guaranteed: that a wake-up arrives. Wake-ups (PUB/SUB) only shorten the wait between two polls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal, Protocol, TypeVar

import zmq
import zmq.asyncio
from pydantic import ValidationError

from ...errors import ProtocolError, TrainerGone
from ..evidence.schema import Evidence
from ..signals.signal import Signal
from .messages import (
    ERRORS,
    PROTOCOL,
    REPLY,
    REQUEST,
    Ack,
    ErrorReply,
    EvidenceReply,
    GetEvidence,
    GetStatus,
    Hello,
    HelloReply,
    Look,
    LookReply,
    Promote,
    PromoteReply,
    Query,
    QueryReply,
    Release,
    Reply,
    Request,
    RequestHandler,
    Rollback,
    Stop,
    TrainerStatus,
    Wakeup,
)

ReplyT = TypeVar("ReplyT", HelloReply, TrainerStatus, EvidenceReply, LookReply, QueryReply, PromoteReply, Ack)


class Channel(Protocol):
    """Carries one request to the trainer and its reply back."""

    async def request(self, request: Request) -> Reply:
        """Send a request and return its reply.

        Raises:
            TrainerGone: no reply comes.
            ProtocolError: it cannot be read.
        """
        ...

    def close(self) -> None: ...


class MemoryChannel:
    """The in-memory twin of `ZmqChannel`: the same JSON round trip, without a socket or a process."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    async def request(self, request: Request) -> Reply:
        reply = self._handler.handle(REQUEST.validate_json(request.model_dump_json()))
        return REPLY.validate_json(reply.model_dump_json())

    def close(self) -> None:
        """Do nothing: nothing is open."""


class ZmqChannel:
    """A DEALER socket on the trainer's ROUTER; frames [request id, JSON]. One request is under way at a time.

    Attributes:
        timeout_s: how long a reply may take. The trainer answers between updates only, so this is far above an update.
    """

    def __init__(self, address: str, timeout_s: float = 60.0) -> None:
        self.timeout_s = timeout_s
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._address = address
        self._count = 0
        self._lock = asyncio.Lock()

    async def request(self, request: Request) -> Reply:
        async with self._lock:
            # a new id for every request, by which late replies are told apart
            self._count += 1
            request_id = str(self._count).encode()
            await self._socket.send_multipart([request_id, request.model_dump_json().encode()])
            try:
                # Python 3.11's `wait_for` would lose a cancellation that comes together with the answer.
                async with asyncio.timeout(self.timeout_s):
                    raw = await self._receive(request_id)
            except TimeoutError as error:
                raise TrainerGone(
                    f"the trainer at {self._address!r} did not answer {request.kind!r} within {self.timeout_s:g} s; "
                    "see trainer.out in the run directory, then run again with --resume"
                ) from error
        try:
            return REPLY.validate_json(raw)
        except ValidationError as error:
            raise ProtocolError(
                f"the trainer's answer is not of protocol {PROTOCOL}: {raw[:200]!r}; use one version"
            ) from error

    async def _receive(self, request_id: bytes) -> bytes:
        """Return the reply to this request; replies to earlier ones, which gave up waiting, are dropped."""
        while True:
            frames = await self._socket.recv_multipart()
            if len(frames) == 2 and frames[0] == request_id:
                return bytes(frames[1])

    def close(self) -> None:
        self._context.destroy(linger=0)


class TrainerClient:
    """The requests of the loop to the trainer, as methods. An `ErrorReply` is raised as the error it names."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def hello(self) -> HelloReply:
        """Introduce this process. Raises ProtocolError when the trainer speaks another protocol version."""
        reply = await self._ask(Hello(), HelloReply)
        if reply.protocol != PROTOCOL:
            raise ProtocolError(
                f"the trainer speaks protocol {reply.protocol!r}, this loop {PROTOCOL!r}; use one version"
            )
        return reply

    async def status(self) -> TrainerStatus:
        return await self._ask(GetStatus(), TrainerStatus)

    async def evidence(self) -> Evidence:
        return (await self._ask(GetEvidence(), EvidenceReply)).evidence

    async def look(self, episodes: bool = False) -> LookReply:
        """Return status and evidence of one instant.

        `status.snapshot` names the line's state then, to fork from. It stays until two later looks were taken.

        Args:
            episodes: whether fresh episodes are played for the evidence.
        """
        return await self._ask(Look(episodes=episodes), LookReply)

    async def query(
        self,
        what: Literal["metric_curve", "episode", "term_statistics", "feature_statistics"],
        name: str | None = None,
        points: int = 20,
    ) -> dict[str, object]:
        """Return evidence on demand; `points`: 2..100 rows of a curve."""
        return (await self._ask(Query(what=what, name=name, points=points), QueryReply)).data

    async def promote(
        self,
        key: str,
        base_version: int,
        signal: Signal,
        adopt: str | None = None,
        cause: Literal["promotion", "control", "offset"] = "promotion",
    ) -> PromoteReply:
        """Put a signal in force, or the state that `adopt` names, see `Promote`.

        Raises:
            VersionConflict: `base_version` is not in force.
            SignalError: the signal does not fit the task.
            SnapshotError: the state cannot be loaded.
        """
        request = Promote(key=key, base_version=base_version, signal=signal, adopt=adopt, cause=cause)
        return await self._ask(request, PromoteReply)

    async def rollback(self, key: str, base_version: int) -> PromoteReply:
        """Undo the promotion of `base_version`.

        Raises:
            VersionConflict: it is not in force.
            ProtocolError: it was no promotion.
            SnapshotError: the state before it is gone.
        """
        return await self._ask(Rollback(key=key, base_version=base_version), PromoteReply)

    async def release(self, update: int) -> None:
        """Let a waiting trainer go on from the adaptation point at `update`."""
        await self._ask(Release(update=update), Ack)

    async def stop(self) -> None:
        """Ask the trainer to checkpoint and leave."""
        await self._ask(Stop(), Ack)

    def close(self) -> None:
        self._channel.close()

    async def _ask(self, request: Request, expected: type[ReplyT]) -> ReplyT:
        reply = await self._channel.request(request)
        if isinstance(reply, ErrorReply):
            raise ERRORS[reply.error](reply.message)
        if not isinstance(reply, expected):
            raise ProtocolError(f"{request.kind!r} was answered with {reply.kind!r}; use one version on both sides")
        return reply


async def wakeups(address: str) -> AsyncIterator[Wakeup]:
    """Yield the trainer's wake-ups, for ever. They carry no truth: after one, ask for the status."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.SUB)
    with contextlib.closing(socket):
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(address)
            while True:
                yield Wakeup.model_validate_json(await socket.recv())
        finally:
            context.destroy(linger=0)
