"""The dispatcher of requests: whatever arrives, a reply leaves, and the trainer goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.server import TrainerServer, answered
from cosignal.rl.trainer.process import Trainer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from training_lines import small_config

ABSURD: tuple[Any, ...] = (
    0, -1, 2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"), True, None, "", "7", "x" * 10_000, "\0",
    "../../etc", "/etc/passwd", "branches/nowhere", [], [[]], {}, {"a": {}}, -0.0,
)  # fmt: skip
FIELDS = (
    "protocol", "pid", "what", "name", "points", "key", "base_version", "signal", "adopt", "cause", "update", "extra",
)  # fmt: skip
KINDS = ("hello", "get_status", "get_evidence", "look", "query", "promote", "rollback", "release", "stop", "none")
TERMS = [{"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}]
SOUND: dict[str, Any] = {
    "what": "metric_curve", "key": "k", "base_version": 0, "signal": {"terms": TERMS}, "update": 2,
}  # fmt: skip

values = st.sampled_from(ABSURD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
requests = st.builds(
    lambda kind, sound, absurd: {"kind": kind} | {name: SOUND[name] for name in sound} | absurd,
    st.sampled_from(KINDS),
    st.sets(st.sampled_from(sorted(SOUND))),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """Two updates old, with a loop that lives."""
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / "training.json").write_text(small_config().model_dump_json())
    with ExitStack() as closing:
        found = Trainer(run_dir, closing)
        found.start()
        for _ in range(2):
            found.main.update()
        yield found
        found.main.close()


def check_answered(trainer: Trainer, body: bytes) -> m.Reply:
    reply = answered(trainer, body)
    assert m.REPLY.validate_json(reply.model_dump_json()).kind == reply.kind
    assert len(reply.message if isinstance(reply, m.ErrorReply) else "") < 5_000
    trainer._watch_loop()
    trainer.stopping = False
    return reply


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests)
def test_absurd_requests_get_a_reply_and_end_nothing(trainer: Trainer, request: dict[str, Any]) -> None:
    updates = trainer.main.line.update_index
    check_answered(trainer, json.dumps(request).encode())
    assert trainer.main.line.update_index == updates
    assert isinstance(check_answered(trainer, b'{"kind": "get_status"}'), m.TrainerStatus)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_noise_is_not_a_request_and_ends_nothing(trainer: Trainer, body: bytes) -> None:
    assert isinstance(check_answered(trainer, body), m.ErrorReply)


def test_deep_and_long_json_is_refused_shortly(trainer: Trainer) -> None:
    terms = ",".join(["{}"] * 10_000)
    for body in (
        "[" * 100_000,
        f'{{"kind": "promote", "key": "k", "base_version": 0, "signal": {{"terms": [{terms}]}}}}',
    ):
        assert isinstance(check_answered(trainer, body.encode()), m.ErrorReply)


@pytest.mark.parametrize("pid", [0, -1, -(2**63), 2**31, 10**30, 1.5, "x", None, [1]])
def test_a_loop_has_the_pid_of_a_process(trainer: Trainer, pid: Any) -> None:
    before = trainer.loop_pid
    assert isinstance(check_answered(trainer, json.dumps({"kind": "hello", "pid": pid}).encode()), m.ErrorReply)
    assert trainer.loop_pid == before
    with pytest.raises(ValidationError):
        m.HelloReply(pid=pid, run_id="r", spec=trainer.main.line.spec)  # else the loop would signal such a one


@pytest.mark.parametrize("adopt", ["/etc", "../other", "branches/../../x", "", "a\0b"])
def test_what_is_adopted_lies_in_the_run_directory(adopt: str) -> None:
    with pytest.raises(ValidationError):
        m.Promote.model_validate({"key": "k", "base_version": 0, "signal": {}, "adopt": adopt})


def test_what_cannot_be_answered_for_another_reason_is_an_error_reply(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("cosignal.rl.trainer.process.build_evidence", broken)
    reply = trainer.handle(m.GetEvidence())
    assert isinstance(reply, m.ErrorReply)
    assert "ZeroDivisionError('a defect')" in reply.message


def test_a_change_that_is_logged_and_cannot_be_made_ends_the_trainer(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next trainer makes it; nobody goes on with half of it."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(trainer.main.line, "apply_signal", broken)
    version = trainer.main.line.signal.version
    with pytest.raises(ZeroDivisionError):
        trainer.handle(m.Promote.model_validate({"key": "half", "base_version": version, "signal": {"terms": TERMS}}))


def test_frames_of_any_number_are_survived(tmp_path: Path) -> None:
    class Handler:
        def handle(self, request: m.Request) -> m.Reply:
            return m.Ack()

    server = TrainerServer(tmp_path)
    address = json.loads((tmp_path / "trainer.json").read_text())["address"]
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        for frames in ([b"1"], [b"1", b"{"], [b""] * 9, [b"1", b'{"kind": "get_', b'status"}']):
            socket.send_multipart(frames)
            while not server.poll(Handler(), timeout_ms=1_000):
                pass
            assert socket.recv_multipart()[0] == frames[0]
    server.close()
    server.close()
    assert not (tmp_path / "trainer.json").exists()
