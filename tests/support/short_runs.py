"""Whole runs that are short enough for the default suite, and what must not differ between two of them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from cosignal import RunConfig

SHORT: dict[str, Any] = {
    "task": {"name": "two_switch", "n_max": 40},
    "trainer": {
        "steps": 45_000, "envs": 32, "rollout": 16, "checkpoint_every_steps": 10_000,
        "evaluation": {"every_steps": 20_000, "episodes": 8},
    },
    "adaptation": {"candidates": 3, "rounds": 2, "interval": 8_192, "patience": 16_384, "max_share": 0.9},
    "branches": {"workers": 2, "horizon": 8_192, "screen_seeds": 1, "finalists": 2, "evaluation_episodes": 8},
    # so lenient that this short a run promotes something: it tests the machinery, not the gate
    "gate": {"level": 0.45, "margin": 0.001, "looks": [2, 3]},
}  # fmt: skip


def short_config(run_dir: Path, seed: int = 1) -> RunConfig:
    return RunConfig.model_validate({**SHORT, "seed": seed, "run_dir": run_dir})


def story(run_dir: Path) -> dict[str, list[Any]]:
    """Metrics, signal log, diagnoses, proposals, branch results and decisions, without times and CPU seconds."""
    trainer, loop = run_dir / "trainer.db", run_dir / "loop.db"
    branches = _rows(loop, "SELECT key, point, round, phase, arm, seed, horizon, result FROM branches ORDER BY key")
    for row in branches:
        row[-1] = {k: v for k, v in json.loads(row[-1]).items() if k != "cpu_s"}
    return {
        "metrics": _rows(trainer, "SELECT * FROM metrics ORDER BY update_index"),
        "signals": _rows(trainer, "SELECT * FROM signals ORDER BY version"),
        "diagnoses": _rows(loop, "SELECT * FROM diagnoses ORDER BY point"),
        "proposals": _rows(loop, "SELECT * FROM proposals ORDER BY id"),
        "branches": branches,
        "decisions": _rows(loop, "SELECT * FROM decisions ORDER BY id"),
    }


def _rows(path: Path, query: str) -> list[list[Any]]:
    connection = sqlite3.connect(path)
    rows = [list(row) for row in connection.execute(query)]
    connection.close()
    return rows
