"""`cosignal export` in a process of its own, after a run in another one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from cosignal.cli import app
from cosignal.errors import ExportError
from typer.testing import CliRunner

SHORT = (
    "trainer.steps=2_048", "trainer.envs=8", "trainer.rollout=16", "adaptation.enabled=false", "run_dir=runs",
    "task.n_max=20", "signal.terms=[{name: door, kind: potential, expression: -dist_door / 9}]",
)  # fmt: skip


def called(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *words], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.integration
def test_a_run_is_exported_and_its_policy_plays(tmp_path: Path) -> None:
    sets = chain.from_iterable(("--set", setting) for setting in SHORT)
    ran = called("-m", "cosignal", "run", "two_switch", "--json", *sets, cwd=tmp_path)
    run = json.loads(ran.stdout)["path"]
    exported = called("-m", "cosignal", "export", run, "--out", "taken", cwd=tmp_path)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert exported.stdout == "wrote taken; README.md in it says what is there\n"
    assert (tmp_path / "taken" / "policy.safetensors").stat().st_size > 10_000
    assert "* potential door: -dist_door / 9 (weight 1)" in (tmp_path / "taken" / "README.md").read_text()
    played = subprocess.run(
        [sys.executable, "taken/play.py", "--episodes", "2"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert re.fullmatch(r"(episode \d: return -?\d\.\d{3}, success (True|False)\n){2}", played.stdout)
    # once more: the folder is there already
    again = called("-m", "cosignal", "export", run, "--out", "taken", cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)
    assert "'taken' exists; remove it, or name another one with --out" in again.stderr


def test_the_options_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def export_run(*arguments: object) -> Path:
        asked.extend(arguments)
        raise ExportError("enough")

    monkeypatch.setattr("cosignal.export.write.export_run", export_run)
    words = ["export", "run", "--out", "there", "--snapshot", "update_1", "--allow-env", "a:b"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stderr) == (2, "cosignal: enough\n")
    path, out, snapshot, trust = asked
    assert (path, out, snapshot) == (Path("run"), Path("there"), "update_1")
    assert trust.envs == {"a:b"}  # type: ignore[attr-defined]
