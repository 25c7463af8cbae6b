"""Writing files so that a reader sees the old content or the new one, also after a kill, or where the disk is full.

And reading those of a folder that may come from anybody: no link is followed out of it, no pipe is waited for.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StorageError

UNFINISHED = ".partial"  # what a file or a folder ends with while it is being written
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a disk says of itself, and not of the path that was asked for.
DISK_ERRORS = (*NO_ROOM, errno.EROFS, errno.EIO)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What keeps SQLite from reading a database that may be whole.
UNUSABLE = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
)  # fmt: skip


def write_whole(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write `content` beside `path` and rename it into place; nothing is left of a write that fails.

    Args:
        path: the file that appears, or is replaced, in one step.
        content: text is written as UTF-8.
        sync: whether the content is on the disk before the rename, so that a power cut loses neither.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    file = unfinished.open("wb")
    try:
        with file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write files into; it becomes `folder`, synced, when the block ends well, and goes when not.

    Where another process has finished `folder` first, its folder stays: the same name has the same content.
    """
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}{UNFINISHED}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in unfinished.iterdir():
            _sync(path)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _sync(folder.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half written in `folder` and below it. No process may be writing there."""
    for path in list(folder.rglob(f"*{UNFINISHED}")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_inside(folder: Path, name: str | Path, longest: int | None = None) -> Path:
    """Return the path of a file in `folder`, after a look at what it leads to.

    Args:
        folder: may come from anybody.
        name: relative to it.
        longest: the most bytes that are read.

    Raises:
        FileNotFoundError: there is none.
        OSError: a link leads out of the folder, it is no regular file, or it is longer.
    """
    path = folder / name
    found = path_inside(folder, name).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    if longest is not None and found.st_size > longest:
        raise OSError(f"it has {found.st_size} bytes, and at most {longest} are read")
    return path


def path_inside(folder: Path, name: str | Path) -> Path:
    """Return what `name` in `folder` leads to, a file or a folder. Raises OSError where it is gone, or outside."""
    real = Path(os.path.realpath(folder / name, strict=True))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise OSError(f"a link leads out of the directory, to {str(real)!r}")
    return real


# ---------------------------------------------------------------- errors


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise StorageError where the block cannot write to `path`, a file, a folder or an SQLite database."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error
    except sqlite3.DatabaseError as error:
        if not is_disk_error(error):
            raise
        raise storage_error(path, error) from error


@contextmanager
def naming_disk_errors(path: Path) -> Iterator[None]:
    """Raise StorageError where the block fails since the disk of `path` is full, read-only or broken.

    Other errors of the block stay what they are, so that it may be long.
    """
    try:
        yield
    except (OSError, sqlite3.DatabaseError) as error:
        if not is_disk_error(error):
            raise
        raise storage_error(path, error) from error


def is_disk_error(error: OSError | sqlite3.Error) -> bool:
    """Tell whether an error is the disk's (full, read-only, broken) or a damaged database's, and no defect of ours."""
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    return isinstance(error, sqlite3.OperationalError) or _code(error) in DAMAGED


def is_unusable(error: sqlite3.Error) -> bool:
    """Tell whether the disk, or another process, keeps a database from being read: nothing is known of its content."""
    return _code(error) in UNUSABLE


def storage_error(path: Path, error: OSError | sqlite3.Error) -> StorageError:
    """Make the error that says what cannot be written, why, and what to do."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    code = error.errno if isinstance(error, OSError) else _code(error)
    if code in (NO_ROOM if isinstance(error, OSError) else (sqlite3.SQLITE_FULL,)):
        remedy = "make room there, then go on with --resume"
    elif isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        remedy = "move away what is in its place, then go on with --resume"
    elif not isinstance(error, OSError) and code in DAMAGED:
        remedy = "restore it from a copy, or start a new run"
    else:
        remedy = "make sure that it can be written and that the disk has room, then go on with --resume"
    return StorageError(f"{str(path)!r} must be written, but cannot be ({reason}); {remedy}")


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's code of an error; the low byte is its kind, the rest would say more about it."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


# ---------------------------------------------------------------- files of lines


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines after those that are there, and onto the disk; a last line that a crash cut off makes room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    # Cut behind the last whole line, and write on from there.
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines in order, none where there is no file; a last one without an end, cut off, is left out."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
