"""What every compute process does first."""

from __future__ import annotations

import os
import threading
import time

PARENT = "COSIGNAL_PARENT"  # environment variable: the pid of the process that starts a child


def one_thread() -> None:
    """One thread for torch's and numpy's products: with two and a second busy process, throughput falls to a sixth."""
    import numpy as np  # noqa: F401 its BLAS is limited once it is loaded
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def parent_pid() -> int:
    """Of the process that started this one. By its own word, for it may be gone before we are up to ask."""
    return int(os.environ.get(PARENT, os.getppid()))


def alive(pid: int) -> bool:
    """Is there such a process, whoever owns it?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def leave_with_parent(poll_s: float = 0.5) -> None:
    """End this process when the one that started it is gone, also after a kill -9."""
    parent = parent_pid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_s)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
