"""The set-up that compute processes share: start, end, one thread, device, parent, lock and log."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, TextIO

import structlog

from ..errors import ConfigError

PARENT = "COSIGNAL_PARENT"  # environment variable: the pid of the process that starts a child
HASH_SEED = "PYTHONHASHSEED"
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
CLOSE_TIMEOUT_S = 10.0  # for closing environments; whoever ends a process waits somewhat longer
MAX_PID = 2**31 - 1


# ---------------------------------------------------------------- starting a process


def child_environment(secrets: Sequence[str] = (), here_last: bool = False) -> dict[str, str]:
    """Return our environment for a child: no variable named in `secrets` or like *_API_KEY, one thread, our import
    path, and one seed for the order of sets of strings.

    With `here_last` the current directory comes last in it, so that nothing there stands for a module of Python's or of
    a package.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in secrets and not name.endswith("_API_KEY")
    }
    environment.update(dict.fromkeys(ONE_THREAD, "1"))
    environment[HASH_SEED] = hash_seed()
    environment[PARENT] = str(os.getpid())
    here = str(Path.cwd())
    paths = [entry or here for entry in sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(sorted(paths, key=lambda entry: here_last and entry == here))
    return environment


def hash_seed() -> str:
    """Return what children get as PYTHONHASHSEED: the user's, else 0.

    The order of a set of strings follows from it. Where an environment draws in that order, a seed must mean the same
    episode in every process.
    """
    return os.environ.get(HASH_SEED) or "0"


def module_command(module: str, *arguments: str) -> list[str]:
    """Return `python -m module`, with our import path and nothing put in front of it (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


# ---------------------------------------------------------------- in the process


def run_process(main: Callable[[ExitStack], int | None]) -> NoReturn:
    """Run `main` as the whole of this process, and end the process with the exit code that it returns.

    Whatever ends `main` (an error, SIGTERM too, which raises Terminated in it), what it has pushed on its stack is
    closed, environments above all. What environments leave running, threads and processes of our session, does not
    outlive us, and all of it takes CLOSE_TIMEOUT_S at most. A crash prints the line of Python that it happened in.
    """
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGTERM, _leave)
    closing, code = ExitStack(), 1
    try:
        code = main(closing) or 0
    except Terminated:
        code = 128 + signal.SIGTERM
    except BaseException:  # noqa: BLE001 SystemExit of an environment is an error as any other
        traceback.print_exc()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watchdog = threading.Timer(CLOSE_TIMEOUT_S, _end_unclosed, [code])
    watchdog.daemon = True
    watchdog.start()
    try:
        closing.close()
    except BaseException:  # noqa: BLE001 the others are closed, and the process ends as it would have
        traceback.print_exc()
    atexit._run_exitfuncs()
    _end(code)


class Terminated(BaseException):
    """SIGTERM has come. It is no Exception and no SystemExit, which environments raise and catch themselves."""


def _leave(_number: int, _frame: object) -> NoReturn:
    raise Terminated


def _end_unclosed(code: int) -> NoReturn:
    """End this process though not everything is closed."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"closing took longer than {CLOSE_TIMEOUT_S:g} s; some environments are not closed\n")
    _end(code)


def _end(code: int) -> NoReturn:
    """End this process, its threads, and the other processes of the session that it leads. SIGTERM is ignored here."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk, or an environment that has closed it
            stream.flush()
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGTERM)
    os._exit(code)


def one_thread() -> None:
    """Limit torch's and numpy's products to one thread.

    With two, and a second busy process, throughput falls to a sixth.
    """
    import numpy as np  # noqa: F401 its BLAS is limited once it is loaded
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def check_device(device: str) -> None:
    """Raise ConfigError where torch cannot use the device. Imports torch only for another than the CPU."""
    if device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.device: must be one that torch {torch.__version__} can use, got {device!r}; set it to cpu, or "
            "install a CUDA build of torch on a machine with a GPU"
        )


def parent_pid() -> int:
    """Return the pid of the process that started this one.

    The parent itself wrote it into the environment, for it may be gone before we are up to ask.
    """
    return int(os.environ.get(PARENT, os.getppid()))


def leave_with_parent(poll_s: float = 0.5) -> None:
    """End this process when the one that started it is gone, also after a kill -9.

    It gets SIGTERM, and after CLOSE_TIMEOUT_S it is ended with all processes of the session that it leads.
    """
    parent = parent_pid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_s)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(CLOSE_TIMEOUT_S + 1)
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


# ---------------------------------------------------------------- looking at others


def describe_exit(code: int | None) -> str:
    """-11 → SIGSEGV, 7 → exit status 7, as `returncode` has it; None where another process has started the child."""
    if code is None:
        return "nobody knows its exit status"
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}: somebody, or the system for want of memory, has killed it" if code == -signal.SIGKILL else name


def process_is_alive(pid: int) -> bool:
    """Return whether such a process runs, whoever owns it; no number below 1 or above MAX_PID is one.

    One that has ended and that nobody has waited for (a zombie) does not.
    """
    if not 0 < pid <= MAX_PID:
        return False
    with contextlib.suppress(OSError):  # no /proc on this system, or no such process
        status = Path(f"/proc/{pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] not in ("Z", "X")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock_is_held(path: Path) -> bool:
    """Return whether another open file holds the flock on `path`; a run's processes hold one each."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe of that name is not waited for
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


# ---------------------------------------------------------------- logs: one JSON object a line

JSON_LINES: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(),
)


def json_logger(stream: TextIO, process: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger apart from the process's configuration, with the name `process` on every line.

    It is for a process that is not ours alone, such as a server that hosts the loop.
    """
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream), processors=JSON_LINES, process=process
    )
    return logger


def log_to(path: Path, process: str) -> None:
    """Send everything that this process logs with structlog to `path`, with the name `process` on every line."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *JSON_LINES],
        logger_factory=structlog.WriteLoggerFactory(file=path.open("a", buffering=1)),
    )
    structlog.contextvars.bind_contextvars(process=process)
