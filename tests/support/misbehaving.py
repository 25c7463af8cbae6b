"""Environments that do to their process what they should not. `task.env` names them."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from small_tasks import Walk

print("hello from the community")  # noqa: T201


class Noisy(Walk):
    """Prints in every way that there is, wants the main thread, leaves threads and processes, and goes elsewhere."""

    def __init__(self, pids: str) -> None:
        super().__init__()
        print("built", flush=True)  # noqa: T201
        os.write(1, b"printed by C\n")
        subprocess.run(["echo", "printed by a program"], check=True)
        atexit.register(print, "goodbye")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert sys.stdin.read() == ""  # nobody types
        threading.Thread(target=time.sleep, args=(600,)).start()
        forked = os.fork()
        if forked == 0:
            time.sleep(600)
            os._exit(0)
        Path(pids).write_text(f"{forked} {subprocess.Popen(['sleep', '600']).pid}")
        os.chdir("/")


class Closed(Walk):
    """Writes down that it was closed; raises in its reset where it is told so."""

    def __init__(self, log: str, fails: bool = False) -> None:
        super().__init__()
        self.log, self.fails = Path(log), fails

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.fails:
            raise RuntimeError("no licence")
        return super().reset(seed, options)

    def close(self) -> None:
        with self.log.open("a") as log:
            log.write("closed\n")


class Leaving(Walk):
    """Ends its process in a step."""

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        print("that was it", flush=True)  # noqa: T201
        os._exit(3)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(600)


class Stuck(Walk):
    """Hangs in a step."""

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        hang()
        raise AssertionError
