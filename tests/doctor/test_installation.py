"""Python, packages, cores and a run directory that can be written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from cosignal.doctor import installation
from examined import looked_at, one
from packaging.requirements import Requirement

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_a_package_that_is_missing_or_old_is_named() -> None:
    requirements = [Requirement(text) for text in ("no-such-package>=1", "pydantic<2", 'x; extra == "dev"', "rich")]
    missing, old = installation.check_packages(requirements)
    assert (missing.state, missing.name, missing.message) == (
        "problem", "package no-such-package", "must be >=1, got none"
    )  # fmt: skip
    assert missing.remedy == "pip install 'no-such-package>=1'"
    assert old.message.startswith("must be <2, got 2.")


def test_an_old_python_is_a_problem() -> None:
    assert installation.check_python(">=3.99").state == "problem"
    assert installation.check_python(">=3.11").state == "ok"


def test_a_run_dir_that_cannot_be_written(tmp_path: Path) -> None:
    assert one(looked_at("run_dir=/etc/hostname"), "run_dir").state == "problem"
    assert one(looked_at(f"run_dir={tmp_path}/new/er"), "run_dir").state == "ok"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("free_mib", "state"), [(5_000, "ok"), (500, "warning"), (5, "problem")])
def test_little_disk_space(monkeypatch: pytest.MonkeyPatch, free_mib: int, state: str) -> None:
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mib * 2**20))
    assert one(looked_at(), "run_dir").state == state


def test_more_processes_than_cores() -> None:
    assert one(looked_at("branches.workers=4"), "cores").state == "ok"
    assert one(looked_at("branches.workers=5"), "cores").remedy == "set branches.workers=4"
    beside = one(looked_at("branches.workers=4", "clock=overlap"), "cores")
    assert (beside.state, beside.remedy) == ("warning", "set branches.workers=3")
