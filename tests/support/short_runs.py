"""Whole runs that are short enough for the default suite, and what must not differ between two of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from cosignal import RunConfig, RunView
from pydantic import BaseModel

# 100 updates of 128 steps, a pause every tenth, interventions that cost a few seconds.
SHORT: dict[str, Any] = {
    "seed": 8,  # its story has promotions, refusals and kept controls
    "task": {"name": "two_switch", "n_max": 30},
    "trainer": {"steps": 12_800, "envs": 8, "rollout": 16, "evaluation": {"every_steps": 2_000, "episodes": 4}},
    "adaptation": {"interval": 1_280, "patience": 1_280, "candidates": 2, "max_share": 0.85, "rounds": 1},
    "branches": {"horizon": 512, "evaluation_episodes": 8, "screen_seeds": 2, "finalists": 2},
    "gate": {"claim": "signal", "margin": 0.001, "level": 0.49, "looks": [4]},  # so loose that luck is promoted
}


def short_config(folder: Path) -> Path:
    """`folder/config.json` of a run that writes below `folder/runs`."""
    folder.mkdir()
    config = RunConfig.model_validate({**SHORT, "run_dir": folder / "runs"})
    (folder / "config.json").write_text(config.resolved_json())
    return folder / "config.json"


def start_run(config: Path, *options: str) -> subprocess.Popen[str]:
    """The command line in a process and session of its own, as a terminal would start it: Ctrl-C is heard, also where
    the tests themselves run in the background of a shell, which makes all below it deaf to it."""
    command = [sys.executable, "-P", "-m", "cosignal", "run", str(config), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The process and all its descendants; nothing where it has ended."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def the_run(config: Path) -> Path:
    (path,) = (config.parent / "runs").iterdir()
    return path


def story(config: Path) -> dict[str, Any]:
    """What a finished run came to, without times: metrics, signal log, diagnoses, proposals, branches, decisions."""
    view = RunView(the_run(config))
    assert view.state() == "done"
    branches = [
        {"key": row.key, "round": row.round, "result": row.result.model_dump(mode="json", exclude={"cpu_s"})}
        for row in view.branches()
    ]
    return {
        "metrics": view.metrics(),
        "signals": plain(view.signals()),
        "diagnoses": plain(row for row in view.interventions() if row.diagnosis is not None),
        "proposals": plain(view.proposals()),
        "branches": sorted(branches, key=lambda row: str(row["key"])),
        "decisions": plain(view.decisions()),
        "steps_total": view.steps_total(),
    }


def plain(records: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [record.model_dump(mode="json") for record in records]
