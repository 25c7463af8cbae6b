"""The runs that the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.errors import NotARunError
from cosignal.runs.page.run_index import RunIndex


def test_runs_are_found_in_folders_and_by_themselves(tmp_path: Path) -> None:
    folder, empty = tmp_path / "runs", tmp_path / "empty"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        (folder / name / "run.json").write_text("{}")
    empty.mkdir()
    assert set(RunIndex([folder]).runs()) == {"one", "two"}
    assert set(RunIndex([folder / "one"]).runs()) == {"one"}
    assert RunIndex([empty]).runs() == {}
    with pytest.raises(NotARunError, match="no folder at"):
        RunIndex([tmp_path / "nowhere"])
