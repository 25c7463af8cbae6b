"""The files of a run directory as a reader finds them: damaged, read-only, still being written, or made to do harm.

No link is followed out of the directory, no pipe is waited for, and whatever is wrong becomes a `DamagedRunError` with
one line that names the file.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import DamagedRunError, NotARunError
from ..files import file_inside

BUSY_TIMEOUT_S = 30.0
LONGEST_JSON = 1_000_000  # bytes; the files that are read whole have some thousand
# How SQLite's errors begin where it could not make its index beside the database.
NOT_WRITABLE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR_SHM")
RUN_FILES = ("run.json", "loop.db", "trainer.db")  # any of them makes a directory one that is, or was, a run
SQLITE_FILES = ("", "-wal", "-shm")  # endings of the files of one database
# What reading data of another shape raises where no check has foreseen it.
DAMAGE = (
    sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
    AssertionError,
)  # fmt: skip


@contextmanager
def damage_in_words(run_dir: Path) -> Iterator[None]:
    """Turn whatever reading the run raises in the block, but for our own errors, into a `DamagedRunError`."""
    try:
        yield
    except DAMAGE as error:
        raise DamagedRunError(
            f"the run {str(run_dir)!r} must be one that can be read, got {type(error).__name__}: {error!s:.200}; it "
            "was damaged, or made by another version of cosignal"
        ) from error


def run_directories(path: Path) -> list[Path]:
    """Return `path` where it is a run directory, else those in the folder; none where it is neither."""
    return [path] if os.path.lexists(path / "run.json") else [found.parent for found in path.glob("*/run.json")]


# ---------------------------------------------------------------- JSON


def decode(text: str | bytes) -> Any:
    """Read JSON. A number that is not finite becomes None.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Read the object in a file of a run directory.

    Raises:
        NotARunError: there is no such file; a `DamagedRunError` where there is no object in it, or one without the
            `needed` keys.
    """
    try:
        data = decode(file_inside(path.parent, path.name, LONGEST_JSON).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if any((path.parent / name).exists() for name in RUN_FILES):
            raise NotARunError(
                f"{str(path)!r} must be there, but it is missing; restore the file from a copy, or name another run"
            ) from error
        raise NotARunError(
            f"{str(path.parent)!r} is not a run directory (it has no {path.name}); "
            "name one that `cosignal run` has made"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise DamagedRunError(
            f"{str(path)!r} must be the JSON file of a run, got {error}; restore the file or name another run"
        ) from error
    missing = [key for key in needed if key not in data] if isinstance(data, dict) else list(needed)
    if missing or not isinstance(data, dict):
        without = f" without {missing!r}" if missing else ""
        raise DamagedRunError(
            f"{str(path)!r} must be the JSON object of a run, got {type(data).__name__}{without}; "
            "name a directory that `cosignal run` has made"
        )
    return data


# ---------------------------------------------------------------- SQLite


def query(database: Path, table: str, statement: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a read-only query; none while the writer has not made the database or the table yet.

    A directory that cannot be written is read all the same, though SQLite would keep its index of the log there.

    Raises:
        OSError, sqlite3.Error: it cannot be read, maybe not to its end.
    """
    for ending in SQLITE_FILES:
        with suppress(FileNotFoundError):
            file_inside(database.parent, database.name + ending)
    if not database.exists():
        return
    try:
        with closing(_connect(f"{database.absolute().as_uri()}?mode=ro")) as connection:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            yield from _rows(connection, table, statement)
            return
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith(NOT_WRITABLE):
            raise
    log = database.with_name(f"{database.name}-wal")
    if not (log.exists() and log.stat().st_size):
        with closing(_connect(f"{database.absolute().as_uri()}?immutable=1")) as connection:
            yield from _rows(connection, table, statement)
            return
    # A killed run has left a log, which only a copy can be read with.
    with tempfile.TemporaryDirectory(prefix="cosignal-view-") as folder:
        for path in (database, log):
            shutil.copyfile(path, Path(folder) / path.name)
        with closing(_connect(str(Path(folder) / database.name), uri=False)) as connection:
            yield from _rows(connection, table, statement)


def _connect(address: str, uri: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=uri, timeout=BUSY_TIMEOUT_S)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda text: text.decode(errors="replace")
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may be anybody's
    return connection


def _rows(connection: sqlite3.Connection, table: str, statement: str) -> Iterator[dict[str, Any]]:
    # Trainer and loop make their tables when they first write.
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    if known.fetchone() is not None:
        yield from map(dict, connection.execute(statement))
