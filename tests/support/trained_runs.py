"""Run directories with a policy in them, trained for some updates without a loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cosignal import RunConfig
from cosignal.rl.trainer.database import LoggedSignal
from cosignal.rl.trainer.main_run import MainRun

UPDATE = 8 * 16  # environment steps


def run_config(task: dict[str, Any], algorithm: str = "ippo", seed: int = 1, **more: Any) -> RunConfig:
    """Return a config of 8 environments × 16 steps an update; `more` are sections."""
    q = {"learning_starts": UPDATE, "batch_size": 32, "buffer_size": 8 * UPDATE}
    trainer = {
        "envs": 8,
        "rollout": 16,
        "steps": 100 * UPDATE,
        "evaluation": {"every_steps": 4 * UPDATE, "episodes": 4},
        "algorithm": algorithm,
        "vdn": q,
        "qmix": q,
    }
    given = more.pop("trainer", {})
    settings = {"seed": seed, "task": task, "trainer": trainer | given, "adaptation": {"enabled": False}}
    return RunConfig.model_validate(settings | more)


@contextmanager
def main_run(path: Path, config: RunConfig) -> Iterator[MainRun]:
    """Make a run directory, and give its main run, which a trainer would serve."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(config.resolved_json())
    (path / "training.json").write_text(config.training().model_dump_json())
    info = {"id": path.name, "created": "2026-01-02T03:04:05+00:00", "config_hash": "0" * 16, "version": "0.1.0"}
    (path / "run.json").write_text(json.dumps(info))
    with ExitStack() as closing:
        main = MainRun(path, closing)
        main.log_signal(LoggedSignal(0, "start", None, 0, 0, main.line.signal, None, "start"))
        yield main
        main.close()


def trained_run(path: Path, config: RunConfig, updates: int) -> Path:
    """Train `updates` updates, write a snapshot, and return the run directory."""
    with main_run(path, config) as main:
        for _ in range(updates):
            main.update()
        main.checkpoint()
    return path
