"""A process that hosts some environments of a batch: `python -m cosignal.rl.envs.pettingzoo.worker_host PIPE MEMORY`.

PIPE and MEMORY are open files that `process_child` hands over. Requests and replies are JSON, one at a time; a state
and the actions of an episode go with them as one more message (safetensors). Arrays of a step lie in the memory. What
an environment prints goes to standard error.

The process ends when its parent hangs up, or is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ....errors import CosignalError
from ...processes import leave_with_parent
from ..config import TaskConfig
from ..load_env import wrapped_task
from .shared_memory import Block, copy_rows

LAST_WORD_S = 2.0  # after the parent's patience has ended
Message = dict[str, Any]
Arrays = dict[str, NDArray[np.generic]]


class Host:
    """The environments of this process and what may be asked about them. `losses`: (environment, error) of those that
    raised since the last reply."""

    def __init__(self, memory: int, setup: Message) -> None:
        self.losses: list[tuple[int, str]] = []
        self.payload: Arrays = {}
        config, num_envs = TaskConfig.model_validate(setup["task"]), setup["num_envs"]
        self.task = wrapped_task(
            config, num_envs, setup["first_env"], lambda env, words: self.losses.append((env, words))
        )
        self.block = Block(memory, self.task.spec, num_envs)
        self.answers: dict[str, Callable[[Message], Message]] = {
            "step": self._step, "begin": self._begin, "reseed": self._reseed, "state": self._state,
            "load": self._load, "text": self._text,
        }  # fmt: skip

    def answer(self, request: Message) -> Message:
        reply = self.answers[request["do"]](request)
        self.block.episodes[:] = self.task.episodes
        return reply

    def _show(self) -> Message:
        copy_rows(self.task.observe(), self.block.step, slice(None))
        return {}

    def _step(self, _: Message) -> Message:
        copy_rows(self.task.step(self.block.actions), self.block.step, slice(None))
        return {}

    def _begin(self, request: Message) -> Message:
        self.task.begin(request["base_seed"], self.block.episodes.tolist())
        return self._show()

    def _reseed(self, request: Message) -> Message:
        self.task.reseed(request["base_seed"])
        return {}

    def _state(self, _: Message) -> Message:
        self.payload = self.task.state_dict()
        return {"payload": True}

    def _load(self, _: Message) -> Message:
        self.task.load_state_dict(self.payload)
        return self._show()

    def _text(self, request: Message) -> Message:
        actions = [self.payload[str(g)] for g in range(len(self.payload))]
        return {"lines": self.task.episode_text(request["seed"], actions)}


def serve(pipe: Connection, memory: int) -> None:
    """Answer until the parent hangs up (EOFError). The first request is the setup."""
    setup, _ = receive(pipe)
    with _ended_by_the_kernel(setup["within_s"]):
        try:
            host = Host(memory, setup)
        except CosignalError as error:
            send(pipe, _told(error), {})
            return
    send(pipe, {"spec": host.task.spec.model_dump(), "losses": host.losses}, {})
    try:
        while True:
            _serve_one(pipe, host)
    finally:
        with _ended_by_the_kernel(0.0), suppress(Exception):
            host.task.close()


def _serve_one(pipe: Connection, host: Host) -> None:
    request, host.payload = receive(pipe)
    host.losses.clear()
    with _ended_by_the_kernel(request["within_s"]):
        try:
            reply = host.answer(request)
        except CosignalError as error:
            reply = _told(error)
    send(pipe, reply | {"losses": host.losses}, host.payload if reply.get("payload") else {})


def _told(error: CosignalError) -> Message:
    return {"error": type(error).__name__, "message": str(error), "losses": []}


@contextmanager
def _ended_by_the_kernel(within_s: float) -> Iterator[None]:
    """Where C code hangs and holds the interpreter, no thread of ours can notice that the parent is gone."""
    signal.setitimer(signal.ITIMER_REAL, within_s + LAST_WORD_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def send(pipe: Connection, message: Message, payload: Arrays) -> None:
    """A message and the arrays that go with it."""
    pipe.send_bytes(json.dumps(message | {"payload": bool(payload)}).encode())
    if payload:
        pipe.send_bytes(save({name: np.ascontiguousarray(array) for name, array in payload.items()}))


def receive(pipe: Connection) -> tuple[Message, Arrays]:
    """What `send` sent."""
    message: Message = json.loads(pipe.recv_bytes())
    return message, load(pipe.recv_bytes()) if message["payload"] else {}


def main(pipe: int, memory: int) -> None:
    leave_with_parent()
    for descriptor in (pipe, memory):  # what an environment starts must not keep them open
        os.set_inheritable(descriptor, False)
    with suppress(EOFError, ConnectionError):  # the parent has hung up
        serve(Connection(pipe), memory)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
