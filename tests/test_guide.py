"""The guide's code is run as a reader would: its files, its commands, and what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent / "docs" / "your_own_task.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ("--set", "trainer.steps=8_000", "--set", "adaptation.enabled=false", "--json")


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if found == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has who copied every file."""
    for text in [*blocks("python"), *blocks("yaml")]:
        name = text.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def command(folder: Path, *words: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "cosignal", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_guide_has_the_files_and_commands_that_it_is_tested_for(folder: Path) -> None:
    names = {"vault.py", "vault.yaml", "vault_task.py", "vault_task.yaml"}
    assert {path.name for path in folder.iterdir()} == names
    told = [line for text in blocks("sh") for line in text.splitlines()]
    assert told == [
        f"cosignal {word} {config}.yaml" for config in ("vault", "vault_task") for word in ("doctor", "run")
    ]


def test_its_picture_shows_who_stands_where(folder: Path) -> None:
    script = "from vault_task import *; task = VaultTask(); task.env.reset(seed=0);"
    script += "task.env.at = {'north': (12, 0), 'south': (11, 11)}; print(task.render_text())"
    run = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    rows = run.stdout.splitlines()
    assert rows[:3] == ["............n", "._...........", "............."] and rows[11] == "...........s."
    assert rows[13:] == ["n north, s south, _ a plate"]


@pytest.mark.timeout(240)
def test_doctor_says_what_the_guide_says_it_does(folder: Path) -> None:
    said = command(folder, "doctor", "vault.yaml")
    for line in blocks("text")[0].splitlines():
        start = line.partition("…")[0]
        assert start in said, start
    assert "problem " not in command(folder, "doctor", "vault_task.yaml")


@pytest.mark.integration
@pytest.mark.timeout(240)
@pytest.mark.parametrize("config", ["vault.yaml", "vault_task.yaml"])
def test_both_configs_run(folder: Path, config: str) -> None:
    assert '"state": "done"' in command(folder, "run", config, *SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_with_features_the_vault_is_opened_and_without_them_it_stays_shut(folder: Path) -> None:
    assert "success 0 %, 0 promotions" in command(folder, "run", "vault.yaml")
    said = command(folder, "run", "vault_task.yaml").splitlines()
    done = next(line for line in said if line.startswith("done:"))
    assert re.search(r"success (9\d|100) %, [1-9] promotion", done), done
