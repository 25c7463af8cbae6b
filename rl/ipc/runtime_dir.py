"""Private directories for sockets, and the removal of those that killed processes have left.

Whoever makes one holds a lock in it, which the kernel releases however the process ends: so nobody removes what a
living process uses, in another container too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import IO

RUNTIME_PREFIX = "cosignal-"
LOCK = "owner.lock"
MAX_SOCKET_PATH = 107  # bytes, of sockaddr_un
LONGEST_NAME = 20  # bytes, of a socket in the directory

_held: dict[Path, IO[str]] = {}  # the locks of this process


def make_runtime_dir() -> Path:
    """Make a private directory (mode 0700) for sockets, with a name short enough for their paths (107 bytes).

    What dead processes of this user have left beside it is removed.
    """
    path = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
    if len(os.fsencode(path)) > MAX_SOCKET_PATH - LONGEST_NAME:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir="/tmp"))
    # the lock is held before the file has its name, so that nobody takes the directory for a dead one's
    unlocked = path / "lock"
    file = unlocked.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    unlocked.rename(path / LOCK)
    _held[path] = file
    for other in path.parent.glob(f"{RUNTIME_PREFIX}*"):
        remove_if_dead(other)
    return path


def remove_runtime_dir(path: Path) -> None:
    """Remove a directory of this process with all that is in it. Safe to repeat."""
    shutil.rmtree(path, ignore_errors=True)
    if path in _held:
        _held.pop(path).close()


def remove_if_dead(path: Path) -> None:
    """Remove a runtime directory whose owner is dead. Any other directory stays, and one of another user."""
    with contextlib.suppress(OSError):  # another process removes it as well, or it is not ours
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or not path.name.startswith(RUNTIME_PREFIX):
            return
        with (path / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def remove_sockets(path: Path) -> None:
    """Remove the sockets of a process that is known to be dead, and their directory where nothing else is in it."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.name.startswith(RUNTIME_PREFIX):
            return
        for socket in path.iterdir():
            if stat.S_ISSOCK(socket.lstat().st_mode):
                socket.unlink()
        path.rmdir()
