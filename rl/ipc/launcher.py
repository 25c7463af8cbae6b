"""Processes that the loop owns: how they are started, found again and ended.

The trainer runs in its own session, so that Ctrl-C in a terminal reaches the loop only, which then stops the trainer
gracefully. Children get our import path, one thread each, and no API keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pydantic import BaseModel

from ...errors import ProtocolError, SeamError, TrainerGone
from ..processes import child_environment, lock_is_held, module_command
from .client import TrainerClient, ZmqChannel
from .messages import HelloReply

RUNTIME_PREFIX = "cosignal-"
MAX_SOCKET_PATH = 107  # bytes, of sockaddr_un
START_TIMEOUT_S = 180.0  # importing torch takes seconds, on a busy machine many
REATTACH_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0  # a graceful stop writes one checkpoint
KILL_AFTER_S = 3.0


class Pointer(BaseModel):
    """`trainer.json`: where a live trainer listens."""

    pid: int
    address: str
    events: str


# ---------------------------------------------------------------- children


def runtime_dir() -> Path:
    """A new private directory (mode 0700) for sockets, short enough for their paths (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH - 20:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir="/tmp"))


def tail(path: Path, characters: int = 1500) -> str:
    """The end of what a child printed."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return our_words(text[-characters:]).strip() or "(it printed nothing)"


def our_words(text: str) -> str:
    """Of a traceback that ends with one of our errors, which say all that is to be said, only that error's message."""
    start = text.rfind("\ncosignal.errors.")
    return text if start < 0 else text[start:].partition(": ")[2]


async def start_child(command: Sequence[str], output: Path, secrets: Sequence[str]) -> asyncio.subprocess.Process:
    """Start `command` in its own session; what it prints is appended to `output`."""
    file = await asyncio.to_thread(output.open, "ab")
    with file:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=child_environment(secrets),
            start_new_session=True,
        )


async def end_child(process: asyncio.subprocess.Process, grace_s: float = 0.0) -> None:
    """Wait `grace_s` for the process to end by itself, then terminate it, then kill it; returns when it has ended."""
    for patience_s, end in ((grace_s, process.terminate), (KILL_AFTER_S, process.kill)):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)
            return
        with contextlib.suppress(ProcessLookupError):
            end()
    await process.wait()


# ---------------------------------------------------------------- the trainer


class TrainerProcess:
    """The trainer of one run, started here or found alive, with a client that speaks to it."""

    def __init__(
        self,
        run_dir: Path,
        client: TrainerClient,
        hello: HelloReply,
        pointer: Pointer,
        process: asyncio.subprocess.Process | None,
    ) -> None:
        self.client = client
        self.hello = hello
        self.events = pointer.events
        self._lock = run_dir / "trainer.lock"
        self._process = process

    @property
    def reattached(self) -> bool:
        return self._process is None

    async def gone(self) -> None:
        """Returns when the trainer's process has ended."""
        if self._process is not None:
            await self._process.wait()
        while lock_is_held(self._lock):  # noqa: ASYNC110 (another process holds it: there is no event)
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Ask the trainer to checkpoint and leave, then terminate, then kill it; returns when it is gone."""
        try:
            await self._stop()
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            self.client.close()

    async def _stop(self) -> None:
        try:
            await asyncio.wait_for(self.client.stop(), STOP_TIMEOUT_S)
        except (SeamError, TimeoutError):
            self._signal(signal.SIGTERM)
        if self._process is not None:
            await end_child(self._process, STOP_TIMEOUT_S)
        elif not await self._until_gone(STOP_TIMEOUT_S):
            self._signal(signal.SIGKILL)
            await self._until_gone(KILL_AFTER_S)

    def _signal(self, number: signal.Signals) -> None:
        """A trainer that we did not start is ours while it holds the run's lock; its pid is the one it told us."""
        if self._process is None and not lock_is_held(self._lock):
            return
        if self._process is not None and self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.hello.pid, number)

    async def _until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while lock_is_held(self._lock):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True


Command = Callable[[Path], list[str]]


def trainer_command(run_dir: Path) -> list[str]:
    return module_command("cosignal.rl.trainer", str(run_dir))


async def attach_or_start(
    run_dir: Path, run_id: str, secrets: Sequence[str] = (), command: Command = trainer_command
) -> TrainerProcess:
    """The live trainer of this run when there is one, else a new one that continues from the run directory.

    Raises TrainerGone with the end of what the trainer printed when it dies before it answers, ProtocolError when it
    belongs to another run.
    """
    live = await _reattach(run_dir)
    found = live or await _start(run_dir, secrets, command)
    if found.hello.run_id != run_id:
        await found.stop() if live is None else found.client.close()
        raise ProtocolError(
            f"the trainer in {str(run_dir)!r} runs {found.hello.run_id!r}, not {run_id!r}; stop it first"
        )
    return found


async def _reattach(run_dir: Path) -> TrainerProcess | None:
    """A trainer that holds the lock either answers, or is leaving: then wait until it is gone."""
    deadline = time.monotonic() + REATTACH_TIMEOUT_S
    while lock_is_held(run_dir / "trainer.lock"):
        if time.monotonic() > deadline:
            raise TrainerGone(
                f"another trainer holds {str(run_dir / 'trainer.lock')!r} and does not answer; end it and use --resume"
            )
        answered = await _try_hello(run_dir, None, timeout_s=5.0)
        if answered is not None:
            return answered
        await asyncio.sleep(0.1)
    return None


async def _start(run_dir: Path, secrets: Sequence[str], command: Command) -> TrainerProcess:
    _clear_pointer(run_dir)
    output = run_dir / "trainer.out"
    process = await start_child(command(run_dir), output, secrets)
    try:
        async for _ in _ticks(START_TIMEOUT_S):
            if process.returncode is not None:
                break
            answered = await _try_hello(run_dir, process, timeout_s=30.0)
            if answered is not None:
                return answered
    except BaseException:
        await end_child(process)
        raise
    await end_child(process)
    words = await asyncio.to_thread(tail, output)
    raise TrainerGone(f"the trainer did not start (exit status {process.returncode}); its last words: {words}")


async def _try_hello(
    run_dir: Path, process: asyncio.subprocess.Process | None, timeout_s: float
) -> TrainerProcess | None:
    """None while there is no pointer file, or nobody answers at the address in it."""
    pointer = _read_pointer(run_dir)
    if pointer is None:
        return None
    client = TrainerClient(ZmqChannel(pointer.address, timeout_s))
    try:
        hello = await client.hello()
    except TrainerGone:
        client.close()
        return None
    except BaseException:
        client.close()
        raise
    client.close()
    return TrainerProcess(run_dir, TrainerClient(ZmqChannel(pointer.address)), hello, pointer, process)


def _clear_pointer(run_dir: Path) -> None:
    """Remove what a killed trainer left: its sockets' directory and the file that names it."""
    pointer = _read_pointer(run_dir)
    if pointer is None:
        return
    sockets = Path(pointer.address.removeprefix("ipc://")).parent
    if sockets.name.startswith(RUNTIME_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)
    (run_dir / "trainer.json").unlink()


def _read_pointer(run_dir: Path) -> Pointer | None:
    try:
        return Pointer.model_validate(json.loads((run_dir / "trainer.json").read_text()))
    except FileNotFoundError:
        return None


async def _ticks(timeout_s: float) -> AsyncIterator[None]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        await asyncio.sleep(0.05)
