"""The files of a run directory that is damaged, read-only, or made to do harm."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.errors import DamagedRunError, NotARunError
from cosignal.runs import run_files
from cosignal.runs.run_files import decode, query, read_json
from cosignal.runs.run_view import RunView
from cosignal.testing import build_run_directory


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run_directory(tmp_path_factory.mktemp("good") / "run")


@pytest.fixture
def run(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "run")


def test_numbers_that_are_not_finite_are_gaps_and_deep_nesting_is_refused() -> None:
    assert decode('[NaN, -Infinity, 1e999, 1.5, 2, "NaN"]') == [None, None, None, 1.5, 2, "NaN"]
    with pytest.raises(ValueError, match="nested too deeply"):
        decode("[" * 100_000)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_out(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text("{}")
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pipe, "no regular file"),
        (_link_out, "a link leads out of the directory"),
        (lambda path: path.symlink_to("/dev/urandom"), "a link leads out of the directory"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (Path.mkdir, "no regular file"),
        (lambda path: path.write_text(" " * 1_000_001), "at most 1000000 are read"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "utf-8"),
        (lambda path: path.write_text("[" * 100_000), "nested too deeply"),
        (lambda path: path.write_text("[]"), "got list"),
    ],
)
def test_a_json_file_that_is_none_is_one_line(run: Path, make: Callable[[Path], object], words: str) -> None:
    (run / "config.json").unlink()
    make(run / "config.json")
    with pytest.raises(DamagedRunError) as told:
        RunView(run)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_without_the_file_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotARunError) as told:
        read_json(tmp_path / "run.json")
    assert not isinstance(told.value, DamagedRunError)


@pytest.mark.parametrize("ending", ["", "-wal"])
def test_a_database_that_is_a_pipe_is_not_waited_for(run: Path, ending: str) -> None:
    for path in run.glob(f"loop.db{ending}*"):
        path.unlink()
    os.mkfifo(run / f"loop.db{ending}")
    with pytest.raises(DamagedRunError, match="no regular file"):
        RunView(run).calls()


def test_a_lock_that_is_a_pipe_is_not_waited_for(run: Path) -> None:
    os.mkfifo(run / "loop.lock")
    assert RunView(run).state() == "done"


def test_a_text_that_is_no_utf8_is_read(run: Path) -> None:
    with closing(sqlite3.connect(run / "loop.db")) as database, database:
        database.execute("UPDATE calls SET raw = CAST(x'61ff' AS TEXT)")
    assert RunView(run).calls()[0].raw == "a\ufffd"


def test_a_view_in_place_of_a_table_is_not_run(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database, database:
        database.execute("CREATE VIEW calls AS SELECT 1 AS id")
    assert list(query(tmp_path / "loop.db", "calls", "SELECT * FROM calls")) == []


# ---------------------------------------------------------------- directories that cannot be written


@pytest.mark.parametrize("log", [False, True])
def test_a_read_only_directory_is_read_with_what_its_log_holds(
    run: Path, monkeypatch: pytest.MonkeyPatch, log: bool
) -> None:
    """SQLite cannot make its index there, as it says with CANTOPEN or READONLY; root could, so the error is made up."""
    with closing(sqlite3.connect(run / "loop.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT OR REPLACE INTO run VALUES ('wall_s', '77.5')")
        writer.commit()
        copy = shutil.copytree(run, run.parent / "copy")
        assert (copy / "loop.db-wal").stat().st_size > 0
    if not log:  # the last one out has written it into the database
        copy = run
    real, asked = sqlite3.connect, list[str]()

    def connect(address: str, **options: object) -> sqlite3.Connection:
        asked.append(address)
        if "mode=ro" in address:
            address = f"file:{run.parent}/none?mode=ro"
        return real(address, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(run_files.sqlite3, "connect", connect)
    before = sorted(path.name for path in copy.iterdir())
    assert RunView(copy).values()["wall_s"] == 77.5
    assert ("immutable=1" in asked[-1]) is not log
    assert sorted(path.name for path in copy.iterdir()) == before


# ---------------------------------------------------------------- rows


def test_a_lenient_reader_gets_the_rows_that_can_be_read_and_a_line_about_the_others(run: Path) -> None:
    whole = RunView(run)
    rows = whole.branches()
    with closing(sqlite3.connect(run / "loop.db")) as database, database:
        database.execute("UPDATE branches SET result = '{}' WHERE rowid = 2")
    with closing(sqlite3.connect(run / "trainer.db")) as database, database:
        database.execute("UPDATE metrics SET data = '{bro' WHERE update_index = 5")
        database.execute("UPDATE counters SET value = 'NaN' WHERE name = 'steps_evaluation'")
    lenient = RunView(run, lenient=True)
    assert len(lenient.branches()) == len(rows) - 1
    assert [row["update"] for row in lenient.metrics()][:5] == [1, 2, 3, 4, 6]
    assert lenient.status()["steps_main"] == whole.count("steps_main")
    assert [line.split("'")[1] for line in lenient.damage] == ["branches", "metrics", "steps_evaluation"]
    assert "1 of" in lenient.damage[0]
    for read in (RunView.branches, RunView.metrics, RunView.status):
        with pytest.raises(DamagedRunError):
            read(RunView(run))


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", "1"), ("llm", None), ("llm", {}), ("trainer", []), ("trainer", {}), ("task", 7), ("adaptation", {})],
)
def test_a_config_of_other_types_is_one_line(run: Path, key: str, value: object) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(DamagedRunError, match=f"for '{key}"):
        RunView(run)
