"""The client over a real ROUTER socket and over its in-memory twin."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from cosignal.errors import CosignalError, ProtocolError, SignalError, SnapshotError, TrainerGone, VersionConflict
from cosignal.rl.evidence.schema import Evidence, SparseEvidence
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.client import Channel, MemoryChannel, TrainerClient, ZmqChannel, wakeups
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import GroupSpec, TaskSpec
from pydantic import TypeAdapter

SPEC = TaskSpec(name="t", description="", groups=(GroupSpec(name="g", agents=("a",), obs_size=1, n_actions=2),))
STATUS = m.TrainerStatus(
    state="waiting", update=3, steps_main=30, steps_evaluation=4, steps_repeated=0, steps_trained=30, steps_budget=100,
    waiting_at=3, snapshot="checkpoints/update_000000003", stage="exploring", signal=Signal(),
    sparse_return=float("nan"), success_rate=None,
)  # fmt: skip


EVIDENCE = Evidence(
    task={"name": "t"}, steps=30, steps_budget=100, stage="exploring", stage_reason="", signal=Signal(),
    sparse=SparseEvidence(
        return_now=None, return_best=None, return_range=None, trend=None, spread=None, success_rate=None,
        window_steps=10, curve=[],
    ),
    behaviour=[], features=[], events=[], terms=[], key_moments=[],
)  # fmt: skip


class Handler:
    """Answers by kind; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[m.Request] = []
        self.error: m.ErrorReply | None = None
        self.protocol = m.PROTOCOL

    def handle(self, request: m.Request) -> m.Reply:
        self.asked.append(request)
        if self.error is not None:
            return self.error
        match request:
            case m.Hello():
                return m.HelloReply(protocol=self.protocol, pid=1, run_id="r", spec=SPEC)
            case m.GetStatus():
                return STATUS
            case m.Query():
                return m.QueryReply(data={"what": request.what})
            case m.Look():
                return m.LookReply(status=STATUS, evidence=EVIDENCE)
            case m.Promote() | m.Rollback():
                return m.PromoteReply(
                    version=request.base_version + 1, applied_at_update=3, steps_main=9, repeated=False
                )
        return m.Ack()


@contextmanager
def router(address: str, handler: Handler, noise: bool = False) -> Iterator[None]:
    """A server in a thread. With `noise` it first answers every request under another request's id."""
    stop, ready = threading.Event(), threading.Event()

    def serve() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(address)
            ready.set()
            while not stop.is_set():
                if not socket.poll(20):
                    continue
                identity, request_id, body = socket.recv_multipart()
                if noise:
                    socket.send_multipart([identity, b"older", m.Ack().model_dump_json().encode()])
                reply = handler.handle(TypeAdapter(m.Request).validate_json(body))
                socket.send_multipart([identity, request_id, reply.model_dump_json().encode()])

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(params=["memory", "zmq", "noisy zmq"])
async def both_ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[TrainerClient, Handler]]:
    handler = Handler()
    if request.param == "memory":
        yield TrainerClient(MemoryChannel(handler)), handler
        return
    address = f"ipc://{tmp_path}/s"
    with router(address, handler, noise="noisy" in request.param):
        client = TrainerClient(ZmqChannel(address, timeout_s=5))
        yield client, handler
        client.close()


async def test_requests_and_replies_make_the_round_trip(both_ends: tuple[TrainerClient, Handler]) -> None:
    client, handler = both_ends
    assert (await client.hello()).spec == SPEC
    status = await client.status()
    assert status == STATUS.model_copy(update={"sparse_return": None})  # JSON has no NaN
    assert await client.query("metric_curve", points=7) == {"what": "metric_curve"}
    reply = await client.promote("p1:0", 0, Signal(version=1), adopt="branches/x")
    assert (reply.version, reply.repeated) == (1, False)
    look = await client.look()
    assert (look.status, look.evidence) == (status, EVIDENCE)
    assert (await client.rollback("undo", 1)).version == 2
    await client.release(3)
    await client.stop()
    assert [request.kind for request in handler.asked] == [
        "hello", "get_status", "query", "promote", "look", "rollback", "release", "stop",
    ]  # fmt: skip
    promote = handler.asked[3]
    assert isinstance(promote, m.Promote)
    assert (promote.key, promote.adopt, promote.signal.version) == ("p1:0", "branches/x", 1)
    assert promote.cause == "promotion"
    assert handler.asked[5] == m.Rollback(key="undo", base_version=1)


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("version_conflict", VersionConflict),
        ("signal", SignalError),
        ("snapshot", SnapshotError),
        ("protocol", ProtocolError),
        ("bad_request", ProtocolError),
    ],
)
async def test_an_error_reply_is_raised_as_what_it_names(
    both_ends: tuple[TrainerClient, Handler], kind: m.ErrorKind, raised: type[CosignalError]
) -> None:
    client, handler = both_ends
    handler.error = m.ErrorReply(error=kind, message="because")
    with pytest.raises(raised, match="because"):
        await client.status()


async def test_another_protocol_is_refused(both_ends: tuple[TrainerClient, Handler]) -> None:
    client, handler = both_ends
    handler.protocol = 99
    with pytest.raises(ProtocolError, match="99"):
        await client.hello()


async def test_a_reply_to_something_else_is_refused() -> None:
    class Confused:
        def handle(self, request: m.Request) -> m.Reply:
            return m.Ack()

    with pytest.raises(ProtocolError, match="'get_status' was answered with 'ack'"):
        await TrainerClient(MemoryChannel(Confused())).status()


async def test_no_answer_means_that_the_trainer_is_gone(tmp_path: Path) -> None:
    channel: Channel = ZmqChannel(f"ipc://{tmp_path}/nobody", timeout_s=0.05)
    client = TrainerClient(channel)
    with pytest.raises(TrainerGone, match=r"did not answer 'get_status' within 0\.05 s"):
        await client.status()
    client.close()


async def test_a_late_reply_is_not_taken_for_the_next_request(tmp_path: Path) -> None:
    """The first request times out; its reply comes later, before the second one's."""
    address = f"ipc://{tmp_path}/s"
    channel = ZmqChannel(address, timeout_s=0.1)
    client = TrainerClient(channel)
    with pytest.raises(TrainerGone):
        await client.query("episode")
    channel.timeout_s = 5.0
    handler = Handler()
    with router(address, handler):
        assert (await client.status()).update == 3
        assert handler.asked[0].kind == "query"
    client.close()


async def test_wakeups_come_from_the_publisher(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/events"
    said = m.Wakeup(update=1, steps_main=2, waiting_at=None, state="training")
    stop = threading.Event()

    def publish() -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.bind(address)
            while not stop.wait(0.01):  # PUB drops what comes before the subscription
                socket.send(said.model_dump_json().encode())

    thread = threading.Thread(target=publish)
    thread.start()
    heard = wakeups(address)
    assert await anext(heard) == said
    await heard.aclose()
    stop.set()
    thread.join()


def test_a_status_that_an_older_version_wrote_down_can_be_read() -> None:
    """It counted the main steps that branches had trained."""
    older = STATUS.model_dump(mode="json", exclude={"steps_trained"}) | {"steps_adopted": 12}
    assert m.TrainerStatus.model_validate(older) == STATUS.model_copy(update={"steps_trained": 30 - 12})
