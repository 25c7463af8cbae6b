"""Directories for sockets: those of dead processes go, those of living ones and of others stay."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cosignal.rl.ipc.runtime_dir import make_runtime_dir, remove_if_dead, remove_runtime_dir, remove_sockets
from cosignal.rl.processes import child_environment


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


def test_the_directory_of_a_killed_process_goes_when_the_next_one_is_made(temporary: Path) -> None:
    code = (
        "import time; from cosignal.rl.ipc.runtime_dir import make_runtime_dir;"
        " path = make_runtime_dir(); (path / 'pool').touch(); print(path, flush=True); time.sleep(60)"
    )
    environment = child_environment() | {"TMPDIR": str(temporary)}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    other = Path(child.stdout.readline().strip())
    strange = temporary / "cosignal-of-somebody"  # no lock: not made by this version, or no runtime directory at all
    strange.mkdir()
    mine = make_runtime_dir()
    assert other.exists()  # its owner lives
    child.send_signal(signal.SIGKILL)
    child.communicate()
    second = make_runtime_dir()
    assert not other.exists()
    assert {mine, second, strange} == set(temporary.iterdir())
    for path in (mine, second):
        remove_runtime_dir(path)
        remove_runtime_dir(path)
    assert [strange] == list(temporary.iterdir())


def test_links_and_other_names_are_left_alone(temporary: Path) -> None:
    mine = make_runtime_dir()
    real = temporary / "precious"
    mine.rename(real)
    link = temporary / "cosignal-link"
    link.symlink_to(real)
    for path in (link, real, temporary / "cosignal-nothing"):
        remove_if_dead(path)
        remove_sockets(path)
    assert real.is_dir()
    assert link.is_symlink()


def test_of_an_older_version_only_sockets_are_removed(temporary: Path) -> None:
    """`trainer.json` of a strange run directory may name any folder."""
    for name, others in (("cosignal-old", []), ("cosignal-work", ["thesis.tex"])):
        folder = temporary / name
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / "requests"))
        for other in others:
            (folder / other).touch()
        remove_sockets(folder)
    assert not (temporary / "cosignal-old").exists()
    assert [path.name for path in (temporary / "cosignal-work").iterdir()] == ["thesis.tex"]
