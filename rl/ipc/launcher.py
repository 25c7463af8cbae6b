"""Processes that the loop owns: starting them, finding them again and ending them.

The trainer runs in its own session, so that Ctrl-C in a terminal reaches the loop only, which then stops the trainer
gracefully. Children get our import path, one thread each, and no API keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel

from ... import errors
from ...errors import CosignalError, ProtocolError, SeamError, StorageError, TrainerGone
from ...files import writing
from ..processes import CLOSE_TIMEOUT_S, child_environment, describe_exit, lock_is_held, module_command
from .client import TrainerClient, ZmqChannel
from .messages import HelloReply, Pid
from .runtime_dir import remove_if_dead, remove_sockets

START_TIMEOUT_S = 180.0  # importing torch takes seconds, on a busy machine many
REATTACH_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0  # a graceful stop writes one checkpoint
KILL_AFTER_S = CLOSE_TIMEOUT_S + 1
LAST_BYTES, LAST_CHARACTERS = 64_000, 1_500


class Pointer(BaseModel):
    """The content of `trainer.json`: where a live trainer listens."""

    pid: Pid
    address: str  # of requests
    events: str  # address of wake-ups


# ---------------------------------------------------------------- children


def printed_so_far(output: Path) -> int:
    """Return the size of the file that children print to: what comes later is of the next one."""
    return output.stat().st_size if output.exists() else 0


def last_words(output: Path, start: int = 0) -> str:
    """Return what a child says of its end, as part of a message; what others printed before byte `start` is left out.

    That is the message of our own error where it ends with one, where the interpreter crashed the line that it
    happened in, of another traceback its last line, else the end of what it printed.
    """
    text = _tail(output, start)
    own = _own_error(text)
    if own is not None:
        return f"{type(own).__name__}: {own}"
    # what faulthandler writes
    crash = re.search(r"Fatal Python error: ([^\n]*)\n(?:.*\n)*?  File \"(.*)\", line (\d+) in (\S+)", text)
    if crash is not None:
        what, file, line, function = crash.groups()
        return f"it was in {function!r} at line {line} of {file} ({what})"
    # of a traceback the last line has the error
    raised = re.findall(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", text, re.MULTILINE)
    if raised:
        return f"it raised {raised[-1].strip()[:LAST_CHARACTERS]}"
    printed = text[-LAST_CHARACTERS:].strip()
    return f"its last words: {printed}" if printed else "it printed nothing"


def error_message(text: str) -> str:
    """Return the message of our own error where `text` is a traceback that ends with one, else `text` as it is."""
    own = _own_error(text)
    return text if own is None else str(own)


def _own_error(text: str) -> CosignalError | None:
    """Return the error of ours that a traceback ends with. It names rule, value and remedy: no more is needed."""
    start = text.rfind("\ncosignal.errors.")
    if start < 0:
        return None
    name, _, message = text[start:].partition(": ")
    kind = getattr(errors, name.rpartition(".")[2], None)
    if not (isinstance(kind, type) and issubclass(kind, CosignalError)):
        return None
    return kind(message.strip())


def _tail(output: Path, start: int) -> str:
    """Return the end of a file from byte `start` on."""
    try:
        with output.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - LAST_BYTES))
            return "\n" + file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


async def start_child(command: Sequence[str], output: Path, secrets: Sequence[str]) -> asyncio.subprocess.Process:
    """Start `command` in its own session; what it prints is appended to `output`."""
    with writing(output):
        file = await asyncio.to_thread(output.open, "ab")
    environment = await asyncio.to_thread(child_environment, secrets)
    with file:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


async def end_child(process: asyncio.subprocess.Process, grace_s: float = 0.0) -> None:
    """Wait `grace_s` for the process to end by itself, then terminate it, then kill it; it has ended on return.

    So has the rest of its session: what environments have started does not outlive it.
    """
    for patience_s, end in ((grace_s, process.terminate), (KILL_AFTER_S, process.kill)):
        try:
            await asyncio.wait_for(process.wait(), patience_s)
            break
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                end()
    await process.wait()
    end_session(process.pid)


def end_session(pid: int) -> None:
    """Kill what is left of the session of a child that has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(pid, signal.SIGKILL)


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
        printed_before: int,
    ) -> None:
        self.client = client
        self.hello = hello
        self.events = pointer.events
        self._run_dir = run_dir
        self._lock = run_dir / "trainer.lock"
        self._process = process
        self._printed_before = printed_before

    @property
    def reattached(self) -> bool:
        return self._process is None

    async def gone(self) -> None:
        """Wait until the trainer's process has ended."""
        if self._process is not None:
            await self._process.wait()
        while lock_is_held(self._lock):  # noqa: ASYNC110 (another process holds it: there is no event)
            await asyncio.sleep(0.5)

    def end(self) -> CosignalError:
        """Return the error that says why the trainer, which is gone, has ended."""
        code = None if self._process is None else self._process.returncode
        return _end_of_trainer(self._run_dir, code, self._printed_before, "the trainer ended before the run did")

    async def stop(self) -> None:
        """Ask the trainer to checkpoint and leave, then terminate, then kill it; it is gone on return."""
        try:
            try:
                # one that has ended cannot answer
                if self._process is None or self._process.returncode is None:
                    await asyncio.wait_for(self.client.stop(), STOP_TIMEOUT_S)
            except (SeamError, TimeoutError):
                self._signal(signal.SIGTERM)
            # a process that was only found alive cannot be waited for, but by its lock
            if self._process is not None:
                await end_child(self._process, STOP_TIMEOUT_S + CLOSE_TIMEOUT_S)
            elif not await self._until_gone(STOP_TIMEOUT_S + CLOSE_TIMEOUT_S):
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
            leads = os.getpgid(self.hello.pid) == self.hello.pid
            if number == signal.SIGKILL and leads:
                os.killpg(self.hello.pid, number)
            else:
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
        trainer = await _try_hello(run_dir, None, 5.0, printed_so_far(run_dir / "trainer.out"))
        if trainer is not None:
            return trainer
        await asyncio.sleep(0.1)
    return None


async def _start(run_dir: Path, secrets: Sequence[str], command: Command) -> TrainerProcess:
    await asyncio.to_thread(_remove_stale, run_dir)
    output = run_dir / "trainer.out"
    printed_before = printed_so_far(output)
    process = await start_child(command(run_dir), output, secrets)
    ended = asyncio.ensure_future(process.wait())
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ended.done() and time.monotonic() < deadline:
            hello = asyncio.ensure_future(_try_hello(run_dir, process, 30.0, printed_before))
            try:
                await asyncio.wait({hello, ended}, return_when=asyncio.FIRST_COMPLETED)
                trainer = hello.result() if hello.done() else None
            finally:
                hello.cancel()
                await asyncio.gather(hello, return_exceptions=True)
            if trainer is not None:
                return trainer
            await asyncio.sleep(0.05)
    except BaseException:
        await end_child(process)
        raise
    finally:
        ended.cancel()
    await end_child(process)
    raise await asyncio.to_thread(
        _end_of_trainer, run_dir, process.returncode, printed_before, "the trainer did not start"
    )


def _remove_stale(run_dir: Path) -> None:
    """Remove what a killed trainer has left: its sockets' directory and the file that names it."""
    stale = _read_pointer(run_dir)
    if stale is not None:
        sockets = Path(stale.address.removeprefix("ipc://")).parent
        remove_if_dead(sockets)
        remove_sockets(sockets)
    (run_dir / "trainer.json").unlink(missing_ok=True)


def _end_of_trainer(run_dir: Path, code: int | None, printed_before: int, what: str) -> CosignalError:
    """Return the error of a trainer that has ended: its own where it raised one of ours, else `TrainerGone`."""
    output = run_dir / "trainer.out"
    own = _own_error(_tail(output, printed_before))
    if own is not None:
        return own
    # On a full disk it may have had no room for last words.
    if code == os.EX_IOERR:
        return StorageError(
            f"the trainer could not write to {str(run_dir)!r}; make room there, then go on with --resume"
        )
    remedy = "use --resume to continue"
    if code is not None and not _hosts_environments_apart(run_dir):
        remedy = (
            "where an environment ends its process, or crashes it, set task.workers to 1 or more, so that it costs an "
            "episode and not the run; use --resume to continue"
        )
    words = last_words(output, printed_before)
    return TrainerGone(f"{what} ({describe_exit(code)}); {remedy}; {words}")


def _hosts_environments_apart(run_dir: Path) -> bool:
    """Return whether the run's environments have processes of their own, or need none."""
    try:
        task = json.loads((run_dir / "training.json").read_text())["task"]
        return bool(task.get("workers")) or not task.get("env")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return True


async def _try_hello(
    run_dir: Path, process: asyncio.subprocess.Process | None, timeout_s: float, printed_before: int
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
    client = TrainerClient(ZmqChannel(pointer.address))
    return TrainerProcess(run_dir, client, hello, pointer, process, printed_before)


def _read_pointer(run_dir: Path) -> Pointer | None:
    """Return the content of `trainer.json`, None where there is none that can be used."""
    try:
        return Pointer.model_validate(json.loads((run_dir / "trainer.json").read_text()))
    except (FileNotFoundError, ValueError):  # a ValidationError is a ValueError
        return None
