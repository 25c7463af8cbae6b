"""Who is at work on a run, by the locks its processes hold."""

from __future__ import annotations

import fcntl
from pathlib import Path


def lock_is_held(path: Path) -> bool:
    """Whether another open file holds the flock on `path`."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
