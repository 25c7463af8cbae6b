"""The parent's side of one process that hosts environments (`process_host`).

The child runs in a session of its own, so that Ctrl-C in a terminal does not reach it and so that what its environments
start can be ended with it. It gets our import path, one thread and no API keys. Plain `subprocess` and not
`multiprocessing`: that would import the parent's main module once more in every child, torch and all, and give it our
whole environment.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from .... import errors
from ....errors import CosignalError
from ...processes import child_environment, module_command
from ...task import TaskSpec
from ..config import TaskConfig
from .shared_memory import Block, new_memory
from .worker_host import Arrays, Message, receive, send

START_TIMEOUT_S = (
    180.0  # imports take seconds, on a busy machine many; and each environment may need its step_timeout_s
)
CLOSE_TIMEOUT_S = 3.0
STDERR = 2
Reply = tuple[Message, Arrays]


class Child:
    """One process with environments `rows` of the batch. `block` is shared with it, once it is ready.

    `losses`: restarts in a row, without a finished step between them. `restarted`: its environments have begun episodes
    that nobody has been told of.
    """

    def __init__(self, config: TaskConfig, rows: slice) -> None:
        self.config, self.rows, self.num_envs = config, rows, rows.stop - rows.start
        self.block: Block
        self.losses, self.restarted = 0, False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._memory = -1
        self._deadline = 0.0

    def launch(self) -> None:
        """Start the process; `ready` waits until it is up."""
        ours, theirs = socket.socketpair()
        self._pipe, self._memory = Connection(ours.detach()), new_memory()
        with theirs:
            handed = theirs.fileno(), self._memory
            self._process = subprocess.Popen(
                module_command("cosignal.rl.envs.pettingzoo.worker_host", *map(str, handed)), pass_fds=handed,
                stdin=subprocess.DEVNULL, stdout=STDERR, env=child_environment(), start_new_session=True,
            )  # fmt: skip
        setup = {"task": self.config.model_dump(), "num_envs": self.num_envs, "first_env": self.rows.start}
        self._send(START_TIMEOUT_S + self.num_envs * self.config.step_timeout_s, setup, {})

    def ready(self) -> TaskSpec:
        """Raises what `answer` may give, OSError or CosignalError."""
        answer = self.answer()
        if isinstance(answer, Exception):
            raise answer
        spec = TaskSpec.model_validate(answer[0]["spec"])
        self.block = Block(self._memory, spec, self.num_envs)
        os.close(self._memory)  # it lives as long as it is mapped
        self._memory = -1
        return spec

    def ask(self, do: str, steps: int = 1, payload: Arrays | None = None, **more: Any) -> None:
        """Send a request that takes up to `steps` joint steps; `answer` must be called next."""
        self._send(steps * self.config.step_timeout_s, {"do": do, **more}, payload or {})

    def _send(self, within_s: float, request: Message, payload: Arrays) -> None:
        assert self._pipe is not None
        self._deadline = time.monotonic() + within_s
        with suppress(OSError):  # whoever does not hear us does not answer either
            send(self._pipe, request | {"within_s": within_s}, payload)

    def answer(self) -> Reply | OSError | CosignalError:
        """The reply to the last request, with its arrays, or the error that the process answered with; OSError where it
        has ended, or does not answer in time. Errors are given and not raised, so that every answer can be read."""
        assert self._pipe is not None
        try:
            if not self._pipe.poll(max(self._deadline - time.monotonic(), 0.0)):
                return TimeoutError("its process did not answer in time")
            reply, payload = receive(self._pipe)
        except (EOFError, OSError):
            return ConnectionError(f"its process has ended ({self._ending()})")
        if "error" in reply:
            known: type[CosignalError] = getattr(errors, reply["error"])
            return known(reply["message"])
        return reply, payload

    def _ending(self) -> str:
        self.kill(grace_s=1.0)  # it is on its way out
        status = self._process.returncode if self._process is not None else 0
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def hang_up(self) -> None:
        """Let the process go: it closes its environments and ends. Safe to repeat."""
        if self._pipe is not None:
            self._pipe.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def kill(self, grace_s: float = 0.0) -> None:
        """End the process and what its environments started; returns when it has ended. Safe to repeat."""
        self.hang_up()
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def end_all(children: Iterable[Child]) -> None:
    """Let all processes close their environments, beside each other, and end those that do not. Safe to repeat."""
    for child in children:
        child.hang_up()
    for child in children:
        child.kill(CLOSE_TIMEOUT_S)
