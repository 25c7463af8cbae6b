"""A real run, killed with everything that belongs to it and resumed, ends as one that was never killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from cosignal.config import RunConfig
from cosignal.graphs.directory import newest_unfinished
from cosignal.runs.store import RunView

pytestmark = pytest.mark.integration

RUN = """
import asyncio, sys, cosignal

async def main():
    config = cosignal.RunConfig.load(sys.argv[1])
    async with cosignal.start(config, resume=True) as run:
        async for event in run.events():
            print(event.kind, getattr(event, "node", ""), flush=True)
        await run.result()

asyncio.run(main())
"""


def config_in(folder: Path) -> Path:
    """100 updates of 128 steps, a pause every tenth, interventions that cost a few seconds."""
    folder.mkdir()
    config = {
        "seed": 2,
        "run_dir": str(folder / "runs"),
        "task": {"name": "two_switch", "n_max": 30},
        "trainer": {"steps": 12_800, "envs": 8, "rollout": 16, "evaluation": {"every_steps": 2_000, "episodes": 4}},
        "adaptation": {"interval": 1_280, "patience": 1_280, "candidates": 2, "max_share": 0.85, "rounds": 1},
        "branches": {"horizon": 512, "evaluation_episodes": 8, "screen_seeds": 2, "finalists": 2},
        "gate": {"margin": 0.001, "level": 0.49, "looks": [4]},  # so loose that luck is promoted
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder / "config.yaml"


def begin(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-P", "-c", RUN, str(config)], stdout=subprocess.PIPE, text=True)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def finished(config: Path) -> dict[str, Any]:
    """What must not depend on kills: metrics, signal log, proposals, branches, decisions."""
    [path] = (config.parent / "runs").iterdir()
    view = RunView(path)
    assert view.state() == "done"
    branches = [
        {"key": row["key"], "round": row["round"], "result": {**row["result"], "cpu_s": None}}
        for row in view.branches()
    ]
    return {
        "metrics": view.metrics(),
        "signals": view.signals(),
        "proposals": view.proposals(),
        "branches": sorted(branches, key=lambda row: str(row["key"])),
        "decisions": view.decisions(),
        "steps_total": view.steps_total(),
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = config_in(tmp_path_factory.mktemp("reference") / "run")
    process = begin(config)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    result = finished(config)
    verdicts = {decision["verdict"] for decision in result["decisions"]}
    assert "accept" in verdicts  # else the tests show less than they say; choose another seed
    assert len(verdicts) > 1
    return result


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
def test_killed_again_and_again_it_ends_as_if_never_killed(
    tmp_path: Path, reference: dict[str, Any], seed: int
) -> None:
    config, rng = config_in(tmp_path / "run"), random.Random(seed)
    for _ in range(3):
        process = begin(config)
        assert process.stdout is not None
        for _ in range(rng.randrange(2, 25)):  # so many events after the start
            process.stdout.readline()
        time.sleep(rng.random() * 0.3)
        everything = family(process)
        for member in everything:
            if member.is_running():
                member.kill()
        psutil.wait_procs(everything, timeout=10)
        process.communicate()
    process = begin(config)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    result = finished(config)
    for name, expected in reference.items():
        assert result[name] == expected, name


def test_sigterm_ends_everything_and_leaves_a_run_to_resume(tmp_path: Path) -> None:
    config = config_in(tmp_path / "run")
    process = begin(config)
    assert process.stdout is not None
    while "validate" not in process.stdout.readline():
        pass
    everything = family(process)
    assert len(everything) == 3  # loop, trainer, worker
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(everything, timeout=10)
    assert alive == []
    path = newest_unfinished(RunConfig.load(config))
    assert path is not None
    assert RunView(path).state() == "stopped"
