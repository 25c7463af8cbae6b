"""SHA-256 digests of a folder's files: written with them, and checked whenever they are read.

`digests.json` has for each file how many of its bytes count, and the digest of these: a file of a replay grows after a
snapshot has linked it. Imports neither torch nor LangChain.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import SnapshotDamaged

DIGESTS = "digests.json"
CHUNK = 1 << 20
KNOWN = 256  # files
SETTLED_S = 2.0


class Digest(NamedTuple):
    """The digest of the first `size` bytes of a file."""

    size: int
    sha256: str


_known: dict[tuple[int | None, ...], Digest] = {}  # by what changes with a file's content, and `size`


def digest_of(path: Path, size: int | None = None) -> Digest:
    """Return the digest of the first `size` bytes of a file, of all of them where None.

    A file that has not changed is not read again: many branches of one process start at the same snapshot.
    """
    stat = path.stat()
    place = stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size, size
    if place in _known:
        return _known[place]
    sha, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK if size is None else min(CHUNK, size - read)):
            sha.update(chunk)
            read += len(chunk)
    digest = Digest(read, sha.hexdigest())
    # two changes within a tick of the clock have one time
    if time.time() - stat.st_mtime > SETTLED_S:
        if len(_known) >= KNOWN:
            _known.clear()
        _known[place] = digest
    return digest


def write_digests(folder: Path, known: Mapping[str, Digest]) -> None:
    """Write the digests of all files of the folder; those that are `known` are not read again."""
    names = sorted(path.name for path in folder.iterdir())
    digests = {name: known.get(name) or digest_of(folder / name) for name in names}
    (folder / DIGESTS).write_text(json.dumps(digests))


def check_digests(folder: Path, names: Sequence[str] = (), every: bool = True) -> bool:
    """Compare files with the digests that were written with them.

    Args:
        folder: of the files.
        names: files that must be there.
        every: all other files that have digests are compared as well.

    Returns:
        Whether there are digests; a snapshot of an older version has none.

    Raises:
        SnapshotDamaged: a file is missing, unreadable or another one.
    """
    try:
        text = (folder / DIGESTS).read_text()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise damaged(folder, str(error)) from error
    try:
        digests = {str(name): Digest(int(size), str(sha)) for name, (size, sha) in json.loads(text).items()}
        for name in {*names, *(digests if every else ())}:
            if Path(name).name != name or digest_of(folder / name, digests[name].size) != digests[name]:
                raise damaged(folder, f"{name!r} is not the file that was written")
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise damaged(folder, f"{error!r}") from error
    return True


def damaged(folder: Path, reason: str) -> SnapshotDamaged:
    """Return the error of a snapshot that cannot be used."""
    return SnapshotDamaged(f"no usable snapshot at {str(folder)!r}: {reason}; use another one, or restore its files")
