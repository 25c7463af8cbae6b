"""Whether the files of a run that goes on belong together, and none of them leads elsewhere.

`loop.json` says how many rows `loop.db` had after the last node, so that an older copy of it is noticed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from ...errors import NotARunError, ResumeError
from ...files import is_unusable, storage_error, write_whole, writing
from ...runs.run_files import read_json
from ...runs.store import COUNTED

ROW_COUNTS = "loop.json"


# ---------------------------------------------------------------- where files lead


def check_nothing_leads_out(path: Path) -> None:
    """Check that whatever a run writes to below its directory is a file or a folder there; no link is followed.

    Raises:
        ResumeError: a link leads out of the directory, or there is a pipe or a device.
    """
    real = Path(os.path.realpath(path))
    for folder, names, files in os.walk(real):
        for entry in (Path(folder, name) for name in (*names, *files)):
            try:
                mode = entry.lstat().st_mode
            except FileNotFoundError:  # a trainer that is alive still writes, and renames what is whole
                continue
            if stat.S_ISLNK(mode):
                target = Path(os.path.realpath(entry))  # what is not there yet would be made by writing
                if not target.is_relative_to(real):
                    raise ResumeError(
                        f"--resume: {str(path)!r} must hold all that the run writes, but {str(entry)!r} is a link to "
                        f"{str(target)!r} outside of it; put what it leads to in its place"
                    )
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ResumeError(
                    f"--resume: {str(path)!r} must hold files and folders, but {str(entry)!r} is neither; remove it"
                )


# ---------------------------------------------------------------- loop.db


def write_row_counts(path: Path, counts: Mapping[str, int]) -> None:
    """Write down how many rows each table of `loop.db` has; call it when they are on the disk.

    Raises:
        StorageError: the file cannot be written.
    """
    with writing(path / ROW_COUNTS):
        write_whole(path / ROW_COUNTS, json.dumps(counts), sync=False)


def check_belongs_together(path: Path, run_id: str) -> None:
    """Check that `loop.db` is whole, this run's and not an older one, with the graph's checkpoints.

    Call it under the run's lock.

    Raises:
        ResumeError: with it the run would go on wrongly.
        StorageError: it cannot be read since the disk is full, read-only or broken.
    """
    database = path / "loop.db"
    # The loop opens its database before it starts the trainer.
    if not (path / "trainer.db").exists() and not any((path / "checkpoints").glob("*")):
        return
    if not database.exists():
        raise _wrong(database, "be there", "it is missing")
    if not database.is_file():
        raise _wrong(database, "be a whole database", "it is a folder")
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            _check_loop(database, run_id, connection)
    except (sqlite3.Error, ValueError) as error:  # ValueError: a value that is no JSON
        if isinstance(error, sqlite3.Error) and is_unusable(error):
            raise storage_error(database, error) from error
        raise _wrong(database, "be a whole database", str(error)) from error


def _check_loop(database: Path, run_id: str, connection: sqlite3.Connection) -> None:
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _wrong(database, "be a whole database", str(problem))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"run", "visits", "diagnoses", "decisions"} <= tables:
        raise _wrong(database, "hold the loop's tables", "they are missing")
    values = {name: json.loads(text) for name, text in connection.execute("SELECT name, value FROM run")}
    if "state" not in values:
        raise _wrong(database, "hold what the loop wrote", "it is empty")
    # Versions that wrote no id have only the names of the graph's checkpoints.
    threads = (
        {name for (name,) in connection.execute("SELECT DISTINCT thread_id FROM checkpoints")}
        if ("checkpoints" in tables)
        else set()
    )
    owners = {values["id"]} if "id" in values else threads
    if owners and run_id not in owners:
        raise _wrong(database, f"be of the run {run_id!r}", f"it is of {sorted(owners)[0]!r}")
    if run_id not in threads:
        [(looked,)] = connection.execute("SELECT COUNT(*) FROM diagnoses")
        if looked:
            raise _wrong(database, "hold the checkpoints of the graph", f"none is there after {looked} interventions")
    _check_not_older(database, tables, connection)


def _check_not_older(database: Path, tables: set[str], connection: sqlite3.Connection) -> None:
    """Check that the database has what it had, by what was written elsewhere after it."""
    for table, least in _row_counts(database.parent).items():
        found = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] if table in tables else 0
        if found < least:
            raise _wrong(database, f"hold the {least} rows of {table!r} that it had", f"it has {found}")

    # Versions that wrote no counts have the signal log: what it says was decided, on branches, before.
    decided = {winner for (winner,) in connection.execute("SELECT winner FROM decisions")}
    ends = set[str]()
    if "branches" in tables:
        ends = {end for (end,) in connection.execute("SELECT json_extract(result, '$.end_state') FROM branches")}
    for cause, key, adopt in _signal_log(database.with_name("trainer.db")):
        arm = key.rpartition(":")[0]
        if cause in ("promotion", "offset") and arm not in decided:
            raise _wrong(database, f"hold the decision to promote {arm!r}", "it is older than trainer.db")
        if cause in ("promotion", "control") and adopt is not None and adopt not in ends:
            raise _wrong(database, f"hold the branch that ended at {adopt!r}", "it is older than trainer.db")


def _row_counts(path: Path) -> dict[str, int]:
    """Read how many rows each table had; nothing where the run was made by a version that wrote none."""
    if not (path / ROW_COUNTS).exists():
        return {}
    try:
        counts = read_json(path / ROW_COUNTS)
    except NotARunError as error:
        raise ResumeError(f"--resume: {error}; or remove it, then nothing says that loop.db is the newest") from error
    if not all(name in COUNTED and isinstance(count, int) for name, count in counts.items()):
        raise ResumeError(
            f"--resume: {str(path / ROW_COUNTS)!r} must hold the number of rows of tables, got {counts!r:.80}; restore "
            "it from a copy, or remove it, then nothing says that loop.db is the newest"
        )
    return counts


def _signal_log(database: Path) -> list[tuple[str, str, str | None]]:
    """Return (cause, key, adopted state) of each entry; none where the trainer will refuse its own database."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            rows = connection.execute("SELECT cause, key, adopt FROM signals ORDER BY version").fetchall()
    except sqlite3.Error:
        return []
    return [(str(cause), str(key), adopt) for cause, key, adopt in rows]


def _wrong(database: Path, rule: str, found: str) -> ResumeError:
    return ResumeError(
        f"{str(database)!r} must {rule} since the run has begun, but {found}: its steps, budgets and decisions would "
        "be lost; restore the file from a copy, or leave out --resume for a new run"
    )
