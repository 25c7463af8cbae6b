"""Whole runs in real processes: the same config and seed twice, and killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cosignal
import psutil
import pytest
from short_runs import short_config, story

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def start_run(config: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cosignal", "run", str(config), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def written(config: cosignal.RunConfig, path: Path) -> Path:
    path.write_text(config.resolved_json())
    return path


def only_run(run_dir: Path) -> Path:
    (path,) = run_dir.iterdir()
    return path


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


async def run_once(run_dir: Path) -> Path:
    async with cosignal.start(short_config(run_dir)) as run:
        kinds = {type(event).__name__ async for event in run.events()}
        result = await run.result()
    assert result.state == "done"
    assert {"RunStarted", "Progress", "Promoted", "RunFinished"} <= kinds
    return result.path


async def test_same_config_and_seed_give_the_same_run(tmp_path: Path) -> None:
    one, other = [story(await run_once(tmp_path / name)) for name in ("one", "other")]
    for part, rows in one.items():
        assert rows == other[part], part
    verdicts = {row[3] for row in one["decisions"]}
    assert "accept" in verdicts
    assert verdicts - {"accept"}, "the run must reject something too, or this shows too little"
    assert len(one["signals"]) >= 2


def test_ctrl_c_ends_everything_and_resume_continues(tmp_path: Path) -> None:
    config = written(short_config(tmp_path / "runs"), tmp_path / "config.json")
    process = start_run(config)
    while not list((tmp_path / "runs").glob("*/checkpoints/update_*")):
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.1)
    children = family(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"--resume" in out
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert cosignal.RunView(only_run(tmp_path / "runs")).status()["state"] == "stopped"
    resumed = start_run(config, "--resume")
    out, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, out.decode()
    status = cosignal.RunView(only_run(tmp_path / "runs")).status()
    assert (status["state"], status["steps_main"] >= 45_000) == ("done", True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_a_dozen_kills_at_random_instants_change_nothing(tmp_path: Path, seed: int) -> None:
    whole = await run_once(tmp_path / "whole")
    config = written(short_config(tmp_path / "killed"), tmp_path / "config.json")
    rng = random.Random(seed)
    for _ in range(12):
        process = start_run(config, "--resume")
        began = time.monotonic()
        until = rng.uniform(3.0, 14.0)  # start-up takes some of it
        while time.monotonic() - began < until and process.poll() is None:
            time.sleep(0.02)
        for victim in family(process):
            os.kill(victim.pid, signal.SIGKILL)
        process.communicate()
    last = start_run(config, "--resume")
    out, _ = last.communicate(timeout=600)
    assert last.returncode == 0, out.decode()
    killed = only_run(tmp_path / "killed")
    for part, rows in story(whole).items():
        assert rows == story(killed)[part], part
