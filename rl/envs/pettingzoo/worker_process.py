"""The parent's side of one process that hosts environments (`worker_host`).

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

from .... import errors
from ....errors import CosignalError
from ...processes import child_environment, describe_exit, module_command
from ...task import TaskSpec
from ..config import TaskConfig
from .shared_memory import Block, new_memory
from .worker_host import CLOSE_TIMEOUT_S, LAST_WORD_S, Arrays, Reply, Request, Setup, receive, send

# Imports take seconds, on a busy machine many; each environment may need its step_timeout_s on top.
START_TIMEOUT_S = 180.0
STDERR = 2

Answer = tuple[Reply, Arrays]


class WorkerProcess:
    """One process with some environments of the batch.

    Args:
        config: of the task.
        rows: environments of the batch that it hosts.

    Attributes:
        block: the arrays that are shared with it, once it is ready.
        losses: restarts in a row, without a finished step between them.
        fruitless: the same without an episode between them that came to its end.
        restarted: whether its environments have begun episodes that nobody has been told of.
    """

    def __init__(self, config: TaskConfig, rows: slice) -> None:
        self.config, self.rows, self.num_envs = config, rows, rows.stop - rows.start
        self.block: Block
        self.losses, self.fruitless, self.restarted = 0, 0, False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._memory = -1
        self._deadline = 0.0

    def launch(self) -> None:
        """Start the process; `ready` waits until it is up."""
        # The pipe and the memory are inherited as open files.
        ours, theirs = socket.socketpair()
        self._pipe, self._memory = Connection(ours.detach()), new_memory()
        with theirs:
            handed = theirs.fileno(), self._memory
            self._process = subprocess.Popen(
                module_command("cosignal.rl.envs.pettingzoo.worker_host", *map(str, handed)),
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                env=child_environment(),
                start_new_session=True,
            )
        within_s = START_TIMEOUT_S + self.num_envs * self.config.step_timeout_s
        setup: Setup = {
            "task": self.config.model_dump(),
            "num_envs": self.num_envs,
            "first_env": self.rows.start,
            "within_s": within_s,
        }
        self._send(within_s, setup, {})

    def ready(self) -> TaskSpec:
        """Wait until the environments are built; return the task's spec.

        Raises:
            OSError: the process has ended, or does not answer in time.
            CosignalError: the environments cannot be built.
        """
        answer = self.answer()
        if isinstance(answer, Exception):
            raise answer
        spec = TaskSpec.model_validate(answer[0]["spec"])
        self.block = Block(self._memory, spec, self.num_envs)
        os.close(self._memory)  # it lives as long as it is mapped
        self._memory = -1
        return spec

    def ask(self, request: Request, arrays: Arrays | None = None, steps: int = 1) -> None:
        """Send a request that takes up to `steps` joint steps; `answer` must be called next."""
        within_s = steps * self.config.step_timeout_s
        self._send(within_s, {**request, "within_s": within_s}, arrays or {})

    def _send(self, within_s: float, message: Setup | Request, arrays: Arrays) -> None:
        assert self._pipe is not None
        self._deadline = time.monotonic() + within_s
        with suppress(OSError):  # whoever does not hear us does not answer either
            send(self._pipe, message, arrays)

    def answer(self) -> Answer | OSError | CosignalError:
        """Return the reply to the last request with its arrays, or the error that the process answered with.

        It is an OSError where the process has ended, or does not answer in time. Errors are returned and not raised, so
        that every answer can be read.
        """
        assert self._pipe is not None
        try:
            if not self._pipe.poll(max(self._deadline - time.monotonic(), 0.0)):
                return TimeoutError("its process did not answer in time")
            reply, arrays = receive(self._pipe)
        except (EOFError, OSError):
            self.kill(grace_s=1.0)  # it is on its way out
            status = None if self._process is None else self._process.returncode
            return ConnectionError(f"its process has ended ({describe_exit(status)})")
        # A class of `errors`, by its name.
        if "error" in reply:
            kind: type[CosignalError] = getattr(errors, reply["error"])
            return kind(reply["message"])
        return reply, arrays

    def hang_up(self) -> None:
        """Let the process go: it closes its environments and ends. Safe to repeat."""
        if self._pipe is not None:
            self._pipe.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def kill(self, grace_s: float = 0.0) -> None:
        """End the process and what its environments started; return when it has ended. Safe to repeat."""
        self.hang_up()
        # Nothing to end.
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def end_all(children: Iterable[WorkerProcess]) -> None:
    """Let all processes close their environments, beside each other, and end those that do not. Safe to repeat."""
    for child in children:
        child.hang_up()
    for child in children:
        child.kill(CLOSE_TIMEOUT_S + 2 * LAST_WORD_S)
