"""A process that hosts some environments of a batch: `python -m cosignal.rl.envs.pettingzoo.worker_host PIPE MEMORY`.

PIPE and MEMORY are open files that `worker_process` hands over. Requests and replies are JSON, one at a time; a state
and the actions of an episode go with them as one more message (safetensors). Arrays of a step lie in the memory. What
an environment prints goes to standard error.

The process closes its environments and ends when its parent hangs up, or is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ....errors import CosignalError
from ...processes import parent_pid
from ..config import TaskConfig
from ..load_env import pettingzoo_task
from .shared_memory import Block, copy_rows

LAST_WORD_S = 2.0  # after the parent's patience has ended
CLOSE_TIMEOUT_S = 5.0  # for all environments of one process
PARENT_POLL_S = 0.5
EVERY_ROW = slice(None)
Arrays = dict[str, NDArray[np.generic]]
Verb = Literal["step", "begin", "reseed", "state", "load", "text", "frames"]


class Setup(TypedDict):
    """The first request: what to host."""

    task: dict[str, Any]  # a `TaskConfig`
    num_envs: int
    first_env: int
    within_s: float  # the parent waits so long


class Request(TypedDict, total=False):
    """Any later request."""

    do: Verb
    base_seed: int  # for begin and reseed
    seed: int  # for text and frames
    states: list[int]  # to be drawn, for text and frames
    fresh: bool  # for load
    within_s: float  # the parent waits so long


class Reply(TypedDict, total=False):
    """A reply. One to the setup has a spec, one to `text` has lines and pictures, one to `load` a difference.

    A failure has an error.
    """

    losses: list[tuple[int, str]]  # (environment, error) of those that raised since the last reply
    spec: dict[str, Any]  # a `TaskSpec`
    lines: list[str]
    pictures: dict[str, str]  # by state
    difference: str | None  # of a replay
    error: str  # name of a class in `errors`
    message: str


class Host:
    """The environments of this process, and the answers to requests about them.

    Attributes:
        task: the batch.
        block: what the parent sees of it.
        losses: (environment, error) of those that raised since the last reply.
    """

    def __init__(self, memory: int, setup: Setup) -> None:
        self.losses: list[tuple[int, str]] = []
        config, num_envs = TaskConfig.model_validate(setup["task"]), setup["num_envs"]
        self.task = pettingzoo_task(
            config, num_envs, setup["first_env"], lambda env, error: self.losses.append((env, error))
        )
        self.block = Block(memory, self.task.spec, num_envs)

    def answer(self, request: Request, arrays: Arrays) -> tuple[Reply, Arrays]:
        """Do what a request asks, given the arrays that came with it; return the reply and its arrays."""
        task, block = self.task, self.block
        reply: Reply = {}
        payload: Arrays = {}
        match request["do"]:
            case "step":
                copy_rows(task.step(block.actions), block.step, EVERY_ROW)
            case "begin":
                task.begin(request["base_seed"], block.episodes.tolist())
                copy_rows(task.observe(), block.step, EVERY_ROW)
            case "reseed":
                task.reseed(request["base_seed"])
            case "state":
                payload = task.state_dict()
            case "load":
                reply["difference"] = task.load_state_dict(arrays, request["fresh"])
                copy_rows(task.observe(), block.step, EVERY_ROW)
            case "text":
                actions = [arrays[str(g)] for g in range(len(arrays))]
                text = task.episode_text(request["seed"], actions, request["states"])
                reply["lines"] = text.lines
                reply["pictures"] = {str(state): picture for state, picture in text.pictures.items()}
            case "frames":
                actions = [arrays[str(g)] for g in range(len(arrays))]
                frames = task.episode_frames(request["seed"], actions, request["states"])
                payload = {str(state): frame for state, frame in frames.items()}
        block.episodes[:] = task.episodes
        return reply, payload


def serve(pipe: Connection, memory: int) -> None:
    """Answer until the parent hangs up (EOFError). The first request is the setup."""
    setup: Setup
    request: Request
    reply: Reply
    setup, _ = receive(pipe)
    # Building environments may hang, as any step may.
    with _ended_by_the_kernel(setup["within_s"]):
        try:
            host = Host(memory, setup)
        except CosignalError as error:
            send(pipe, _failure(error), {})
            return
    reply = {"spec": host.task.spec.model_dump(), "losses": host.losses}
    send(pipe, reply, {})
    try:
        while True:
            request, arrays = receive(pipe)
            host.losses.clear()
            payload: Arrays = {}
            with _ended_by_the_kernel(request["within_s"]):
                try:
                    reply, payload = host.answer(request, arrays)
                except CosignalError as error:
                    reply = _failure(error)
            # Also with an error: what raised before it must be told.
            reply["losses"] = host.losses
            send(pipe, reply, payload)
    finally:
        with _ended_by_the_kernel(CLOSE_TIMEOUT_S):
            host.task.close()


def _failure(error: CosignalError) -> Reply:
    return {"error": type(error).__name__, "message": str(error), "losses": []}


@contextmanager
def _ended_by_the_kernel(within_s: float) -> Iterator[None]:
    """Let the kernel end this process where the block takes longer than the parent waits.

    Where C code hangs and holds the interpreter, no thread of ours can notice that the parent is gone.
    """
    signal.setitimer(signal.ITIMER_REAL, within_s + LAST_WORD_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def send(pipe: Connection, message: Mapping[str, Any], arrays: Arrays) -> None:
    """Send a message and the arrays that go with it."""
    pipe.send_bytes(json.dumps({**message, "payload": bool(arrays)}).encode())
    if arrays:
        pipe.send_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def receive(pipe: Connection) -> tuple[Any, Arrays]:
    """Receive a message and the arrays that go with it."""
    message = json.loads(pipe.recv_bytes())
    return message, load(pipe.recv_bytes()) if message["payload"] else {}


def _end_after_parent() -> None:
    """End this process when its parent has been gone for as long as closing may take, whatever it does."""
    parent = parent_pid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        time.sleep(CLOSE_TIMEOUT_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def main(pipe: int, memory: int) -> None:
    """Serve on two open files, given by their descriptors."""
    _end_after_parent()
    for descriptor in (pipe, memory):  # what an environment starts must not keep them open
        os.set_inheritable(descriptor, False)
    with suppress(EOFError, ConnectionError):  # the parent has hung up
        serve(Connection(pipe), memory)
    # A thread of an environment that goes on must not keep the process.
    signal.setitimer(signal.ITIMER_REAL, LAST_WORD_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
