"""Writing files so that a reader sees the old content or the new one, also after a kill or a power cut.

And reading those of a folder that may come from anybody: no link is followed out of it, no pipe is waited for.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".partial"  # what a file or a folder ends with while it is being written


def write_whole(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write `content` beside `path` and rename it into place.

    Args:
        path: the file that appears, or is replaced, in one step.
        content: text is written as UTF-8.
        sync: whether the content is on the disk before the rename, so that a power cut loses neither.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    with unfinished.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    unfinished.replace(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write files into; it becomes `folder`, synced, when the block ends well.

    Where another process has finished `folder` first, its folder stays: the same name has the same content.
    """
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}{UNFINISHED}")
    unfinished.mkdir(parents=True)
    yield unfinished
    for path in unfinished.iterdir():
        _sync(path)
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)
        if not folder.exists():
            raise
    _sync(folder.parent)


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
