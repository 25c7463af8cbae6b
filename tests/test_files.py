"""Files appear whole or not at all, and a write that fails leaves nothing and says what cannot be written."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.errors import StorageError
from cosignal.files import naming_disk_errors, remove_unfinished, whole_folder, write_whole, writing

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which nothing can be synced."""

    def refuse(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.usefixtures("full")
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.usefixtures("full")
def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), whole_folder(tmp_path / "a") as folder:
        (folder / "b").write_text("new")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_where_another_process_was_first_its_folder_stays(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a") as folder:
        (folder / "mine").touch()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "theirs"]


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    (tmp_path / "a.1.partial").touch()
    (tmp_path / "b" / "c.1.partial").mkdir(parents=True)
    (tmp_path / "b" / "c.1.partial" / "d").touch()
    (tmp_path / "partial").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "partial"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FULL, r"No space left on device\); make room there, then go on with --resume"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded.*make room"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "Is a directory.*move away what is in its place"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied.*make sure that it can be written"),
    ],
)
def test_an_error_names_the_file_the_reason_and_the_remedy(error: OSError, words: str) -> None:
    with (
        pytest.raises(StorageError, match=rf"^'runs/a' must be written, but cannot be \({words}"),
        writing(Path("runs/a")),
    ):
        raise error


def test_a_full_database_is_one(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("CREATE TABLE a(b)")
        database.execute("PRAGMA max_page_count = 2")
        with (
            pytest.raises(StorageError, match=r"a\.db.*database or disk is full.*make room"),
            writing(tmp_path / "a.db"),
        ):
            database.execute("INSERT INTO a VALUES (zeroblob(100000))")


def test_a_damaged_database_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"x" * 5000)
    with (
        closing(sqlite3.connect(tmp_path / "a.db")) as database,
        pytest.raises(StorageError, match="file is not a database.*restore it from a copy"),
        writing(tmp_path / "a.db"),
    ):
        database.execute("SELECT * FROM a")


def test_a_wrong_statement_stays_a_defect(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "a.db")) as database,
        pytest.raises(sqlite3.ProgrammingError),
        writing(tmp_path / "a.db"),
    ):
        database.execute("SELECT ?")


def test_around_much_only_what_the_disk_says_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), naming_disk_errors(tmp_path):
        raise FULL
    for error in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), FileNotFoundError(errno.ENOENT, "gone")):
        with pytest.raises(type(error)), naming_disk_errors(tmp_path):
            raise error
