"""Templates of other people are compiled and rendered here, in a process of its own that is stopped at its limits.

The process (`sandbox.py`) is started for the first such template and answers one request after the other. It ends with
this one, whose end closes its input.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from . import sandbox
from .sandbox import MAX_CHARS, MAX_MEMORY, MAX_SECONDS, TemplateFailure

P = ParamSpec("P")
T = TypeVar("T")

LIMITS = (
    f"a template may take at most {MAX_SECONDS} s of processor time, {MAX_MEMORY // 1024**2} MiB of memory and "
    f"{MAX_CHARS:_} characters"
)
MAX_WAIT_S = 60.0  # for processor time, on a machine that has other things to do
_THREAD = ThreadPoolExecutor(1, "prompts")  # of its own: those who wait here keep no thread from anybody else


def used_variables(parts: Sequence[str]) -> list[str]:
    """Return the variables that the parts use, as `sandbox.used_variables` does, within the limits."""
    return _PROCESS.ask({"parts": parts, "variables": None})


def fill(parts: Sequence[str], variables: Mapping[str, Any]) -> list[str]:
    """Return the parts, filled, as `sandbox.fill` does, within the limits."""
    return _PROCESS.ask({"parts": parts, "variables": variables})


async def off_the_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that loads or renders templates in the thread for that, one at a time."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: function(*args, **kwargs))


class _Process:
    """The process; started when it is needed and is not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any]) -> list[str]:
        """Return what the process makes of a request. Raises TemplateFailure, also where it reached its limits."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            output = self._process.stdout
            assert self._process.stdin is not None
            assert output is not None
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
                line = output.readline() if select.select([output], [], [], MAX_WAIT_S)[0] else ""
            except BrokenPipeError:
                line = ""
            if not line.endswith("\n"):  # the system has ended it, or it is stuck
                self._end()
                raise TemplateFailure("more time or memory")
        answer = json.loads(line)
        if "failure" in answer:
            raise TemplateFailure(answer["failure"], answer["part"], answer["line"])
        done: list[str] = answer["done"]
        return done

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _start() -> subprocess.Popen[str]:
    # Our import path, and nothing else of our environment: no keys.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", str(sandbox.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": path} | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        encoding="utf-8",
    )


_PROCESS = _Process()
atexit.register(_PROCESS.close)
