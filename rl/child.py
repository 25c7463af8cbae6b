"""One question to a process of its own, where other people's code runs: what it prints, hangs at or ends is not ours.

    parent                            child, `python -m MODULE`
    Child(MODULE, request).answer() ──► Parent().request, from standard input
                                    ◄── at(…): where it stands, so that it is known to be alive    on a pipe of its own
                                    ◄── answer(…), or an error of ours

Whatever the child prints, by whatever means, goes to a file that the parent reads where something fails. It runs in a
session of its own, so that all that it started ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

from .. import errors
from ..errors import CosignalError
from .processes import child_environment, describe_exit, leave_with_parent, module_command

START_S = 60.0  # imports take seconds, on a busy machine many
CLOSE_S = 3.0  # from its answer on, for the child to close what it built and to end
POLL_S = 0.2
MAX_PRINTED, MAX_KEPT = 600, 4_000  # bytes of what it printed, in a message and in all
SAY_S = 0.1  # whoever stands where it stood says so no more often than this

Message = dict[str, Any]


class Child:
    """A process that answers one question.

    Args:
        module: what the process runs; it asks its `Parent`.
        request: the question.
        within_s: seconds until it must have answered, or said where it stands.
        secrets: environment variables that it must not see.
        variables: environment variables that it gets on top of ours.
        tell: is called with each new place where it stands.

    Attributes:
        at: where it stands, as in "building it".
        printed: the end of what it printed, on standard output or error, once it has ended.
    """

    def __init__(
        self,
        module: str,
        request: str,
        within_s: float = START_S,
        *,
        secrets: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.at, self.printed = "starting", ""
        self._within_s, self._module, self._request, self._tell = within_s, module, request, tell
        self._environment = child_environment(secrets) | dict(variables or {})
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._killed = False
        self._starting = threading.Lock()  # `kill` may come from another thread

    def start(self) -> None:
        """Start the process; `answer` does it where nobody has.

        Raises:
            ChildProcessError: somebody has called `kill`.
        """
        self._pipe, theirs = os.pipe()
        try:
            with self._starting:
                if self._killed:
                    raise ChildProcessError("its process was not wanted any more")
                self._output = tempfile.TemporaryFile()  # noqa: SIM115 it is closed by `_end`
                self._process = subprocess.Popen(
                    module_command(self._module, str(theirs)),
                    pass_fds=(theirs,),
                    stdin=subprocess.PIPE,
                    stdout=self._output,
                    stderr=self._output,
                    env=self._environment,
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as request:  # whoever has ended does not read
            request.write(self._request.encode())

    def answer(self) -> Any:
        """Return the answer, and end the process and all that it started.

        Raises:
            CosignalError: the process answered with it.
            ChildProcessError: it ended without an answer; the message has exit status or signal, where it stood, and
                the end of what it printed.
            TimeoutError: it neither answered nor said where it stands in time.
        """
        grace_s = 0.0
        try:
            if self._process is None:
                self.start()
            for message in self._messages():
                if "error" in message:
                    kind: type[CosignalError] = getattr(errors, message["error"])
                    raise kind(message["message"])
                if "answer" in message:
                    grace_s = CLOSE_S
                    return message["answer"]
                if message["at"] != self.at:
                    self.at = message["at"]
                    self._tell(self.at)
            raise ChildProcessError(f"its process ended with {self._ending()} ({self.at}){self._last_words()}")
        finally:
            self._end(grace_s)

    async def answer_soon(self) -> Any:
        """Do as `answer`, in a thread; where the task that waits is cancelled, the process ends at once."""
        try:
            return await asyncio.to_thread(self.answer)
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process and what it started, or do not let it start. Safe from any thread, and to repeat."""
        with self._starting:
            self._killed = True
            if self._process is not None:
                with suppress(ProcessLookupError, PermissionError):  # nobody is left
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _messages(self) -> Iterator[Message]:
        """Yield what the child says until it hangs up or ends; what it started may keep its end of the pipe open."""
        assert self._process is not None
        buffer, deadline = b"", time.monotonic() + self._within_s
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            if not select.select([self._pipe], [], [], 0.0 if ended else POLL_S)[0]:
                if ended:
                    return
                continue
            piece = os.read(self._pipe, 1 << 16)
            if not piece:
                return
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                message: Message = json.loads(line)
                self._within_s = message.get("within_s", self._within_s)
                deadline = time.monotonic() + self._within_s
                yield message
        raise TimeoutError(f"it took longer than {self._within_s:g} s ({self.at}){self._last_words()}")

    def _ending(self) -> str:
        """Return how the process ended, as in "exit status 3" or "SIGSEGV"."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):  # it has hung up, so it is on its way out
            self._process.wait(CLOSE_S)
        status = self._process.returncode
        return "a closed pipe" if status is None else describe_exit(status)

    def _last_words(self) -> str:
        words = " ".join(self._output_tail(MAX_PRINTED).split())
        return f", and printed last: {words}" if words else ""

    def _output_tail(self, most: int) -> str:
        """Return the last `most` bytes of what the process printed."""
        if self._output is None:
            return ""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - most))
        return self._output.read().decode(errors="replace")

    def _end(self, grace_s: float) -> None:
        """Give the process `grace_s` seconds to end by itself, then end it and what it started."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
            self.kill()
            self._process.wait()
        if self._output is not None:
            self.printed = self._output_tail(MAX_KEPT)
            self._output.close()
            self._output = None
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def answers_of(children: Sequence[Child]) -> list[Any]:
    """Return the answers of several processes that work at the same time; raises what one of them raises."""
    with ThreadPoolExecutor(len(children)) as threads:
        try:
            return list(threads.map(Child.answer, children))
        except BaseException:
            for child in children:
                child.kill()
            raise


# ---------------------------------------------------------------- in the child


class Parent:
    """Whoever asked this process. To be made first of all, before anybody else's code is imported.

    Attributes:
        request: the question.
        place: where this process stands.
    """

    def __init__(self) -> None:
        leave_with_parent()
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # with all that was started
        pipe = int(sys.argv[1])
        os.set_inheritable(pipe, False)  # what an environment starts must not keep it open
        self._pipe = os.fdopen(pipe, "w")
        self.place, self._said_at = "", 0.0
        self.request = sys.stdin.read()
        # From now on nobody is there to type.
        with open(os.devnull) as nothing:  # noqa: PTH123 a descriptor is needed
            os.dup2(nothing.fileno(), 0)

    def at(self, place: str, within_s: float) -> None:
        """Say where this process stands, as in "building it", and for how many seconds it may stay there."""
        now = time.monotonic()
        if place != self.place or now - self._said_at > SAY_S:
            self.place, self._said_at = place, now
            self._send({"at": place, "within_s": within_s})

    def answer(self, value: Any) -> None:
        """Answer. What is still to be closed has `CLOSE_S` seconds from then on."""
        self._send({"answer": value})

    @contextmanager
    def hears_errors(self) -> Iterator[None]:
        """Answer with the `CosignalError` that the block raises."""
        try:
            yield
        except CosignalError as error:
            self._send({"error": type(error).__name__, "message": str(error)})

    def _send(self, message: Message) -> None:
        with suppress(BrokenPipeError):  # whoever does not hear us has gone
            self._pipe.write(json.dumps(message) + "\n")
            self._pipe.flush()


def results_only() -> TextIO:
    """Return standard output for results alone: what else this process, or one that it starts, prints from now on goes
    to standard error."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return results
