"""Processes that the loop owns: starting them, finding them again and ending them.

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
from collections.abc import Callable, Sequence
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
    """The content of `trainer.json`: where a live trainer listens."""

    pid: int
    address: str  # of requests
    events: str  # address of wake-ups


# ---------------------------------------------------------------- children


def make_runtime_dir() -> Path:
    """Make a private directory (mode 0700) for sockets, with a name short enough for their paths (107 bytes)."""
    # 20 bytes are for the name of a socket in it
    path = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH - 20:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir="/tmp"))


def output_tail(path: Path, characters: int = 1500) -> str:
    """Return the end of what a child printed."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return error_message(text[-characters:]).strip() or "(it printed nothing)"


def error_message(text: str) -> str:
    """Return the message of our own error where `text` is a traceback that ends with one, else `text` as it is.

    Our errors name rule, value and remedy, so that nothing else of the traceback is needed.
    """
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
    """Wait `grace_s` for the process to end by itself, then terminate it, then kill it; it has ended on return."""
    for patience_s, end in ((grace_s, process.terminate), (KILL_AFTER_S, process.kill)):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)
            return
        with contextlib.suppress(ProcessLookupError):
            end()
    await process.wait()


# ---------------------------------------------------------------- the trainer


class TrainerProcess:
    """The trainer of one run, started here or already alive, with a client that speaks to it."""

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
        """Wait until the trainer's process has ended."""
        if self._process is not None:
            await self._process.wait()
        while lock_is_held(self._lock):  # noqa: ASYNC110 (another process holds it: there is no event)
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Ask the trainer to checkpoint and leave, then terminate, then kill it; it is gone on return."""
        try:
            try:
                await asyncio.wait_for(self.client.stop(), STOP_TIMEOUT_S)
            except (SeamError, TimeoutError):
                self._signal(signal.SIGTERM)
            # a process that was only found alive cannot be waited for, but by its lock
            if self._process is not None:
                await end_child(self._process, STOP_TIMEOUT_S)
            elif not await self._until_gone(STOP_TIMEOUT_S):
                self._signal(signal.SIGKILL)
                await self._until_gone(KILL_AFTER_S)
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            self.client.close()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the trainer. One that we did not start is ours while it holds the run's lock, and sent us its pid."""
        if self._process is None and not lock_is_held(self._lock):
            return
        if self._process is not None and self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.hello.pid, number)

    async def _until_gone(self, timeout_s: float) -> bool:
        """Wait until nobody holds the run's lock; false where somebody still does after `timeout_s`."""
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
    """Return the live trainer of this run when there is one, else a new one that continues from the run directory.

    Args:
        run_dir: of the run.
        run_id: that the trainer must be of.
        secrets: names of environment variables that the trainer does not get.
        command: starts a trainer.

    Raises:
        TrainerGone: it died before it answered, with the end of what it printed; or a live one does not answer.
        ProtocolError: it belongs to another run.
    """
    live = await _reattach(run_dir)
    trainer = live or await _start(run_dir, secrets, command)
    if trainer.hello.run_id != run_id:
        await trainer.stop() if live is None else trainer.client.close()
        raise ProtocolError(
            f"the trainer in {str(run_dir)!r} runs {trainer.hello.run_id!r}, not {run_id!r}; stop it first"
        )
    return trainer


async def _reattach(run_dir: Path) -> TrainerProcess | None:
    """Return the trainer that holds the lock, None where nobody does; one that is leaving is waited for."""
    deadline = time.monotonic() + REATTACH_TIMEOUT_S
    while lock_is_held(run_dir / "trainer.lock"):
        if time.monotonic() > deadline:
            raise TrainerGone(
                f"another trainer holds {str(run_dir / 'trainer.lock')!r} and does not answer; end it and use --resume"
            )
        trainer = await _try_hello(run_dir, None, timeout_s=5.0)
        if trainer is not None:
            return trainer
        await asyncio.sleep(0.1)
    return None


async def _start(run_dir: Path, secrets: Sequence[str], command: Command) -> TrainerProcess:
    # a killed trainer left its sockets' directory and the file that names it
    stale = _read_pointer(run_dir)
    if stale is not None:
        sockets = Path(stale.address.removeprefix("ipc://")).parent
        if sockets.name.startswith(RUNTIME_PREFIX):
            shutil.rmtree(sockets, ignore_errors=True)
        (run_dir / "trainer.json").unlink()

    output = run_dir / "trainer.out"
    process = await start_child(command(run_dir), output, secrets)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.returncode is None and time.monotonic() < deadline:
            trainer = await _try_hello(run_dir, process, timeout_s=30.0)
            if trainer is not None:
                return trainer
            await asyncio.sleep(0.05)
    except BaseException:
        await end_child(process)
        raise
    await end_child(process)
    printed = await asyncio.to_thread(output_tail, output)
    raise TrainerGone(f"the trainer did not start (exit status {process.returncode}); its last words: {printed}")


async def _try_hello(
    run_dir: Path, process: asyncio.subprocess.Process | None, timeout_s: float
) -> TrainerProcess | None:
    """Return the trainer that the pointer file names; None while there is no such file, or nobody answers there."""
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
    # a client with the usual patience
    client.close()
    return TrainerProcess(run_dir, TrainerClient(ZmqChannel(pointer.address)), hello, pointer, process)


def _read_pointer(run_dir: Path) -> Pointer | None:
    """Return the content of `trainer.json`, None where there is none."""
    try:
        return Pointer.model_validate(json.loads((run_dir / "trainer.json").read_text()))
    except FileNotFoundError:
        return None
