"""What it takes to start: CPU seconds, user and system, of whole child processes with warm caches.

`help_cpu_s`: `cosignal --help`. `torch_cpu_s`: Python that does nothing but `import torch`. `trainer_cpu_s`: the
trainer process of the shipped task from its start over its first update to its end. Each is the median over alternating
starts; `trainer_to_torch` of the ratios of the last two, start by start.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TrainerGone
from ..rl.config import SignalConfig, TaskConfig, TrainerConfig, TrainingConfig
from ..rl.ipc.process import attach_or_start
from ..rl.process import child_environment
from .measure import median, span
from .results import Tell

Start = Callable[[], None]


def startup(times: int, tell: Tell) -> dict[str, Any]:
    """Start each command `times` times, and once more before that, so that caches are warm."""
    starts: dict[str, Start] = {"help": _help, "torch": _torch, "trainer": _trainer}
    found: dict[str, list[float]] = {name: [] for name in starts}
    for time in range(times + 1):
        for name, start in starts.items():
            seconds = children_cpu_s(start)
            if time:
                found[name].append(seconds)
    metrics = startup_metrics(found)
    tell(f"start-up: {metrics}")
    return metrics


def startup_metrics(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Of the CPU seconds of each start of "help", "torch" and "trainer"."""
    ratios = [a / b for a, b in zip(found["trainer"], found["torch"], strict=True)]
    seconds = {f"{name}_cpu_s": median(values) for name, values in found.items()}
    return {**seconds, "trainer_to_torch": median(ratios, 2), "trainer_to_torch_range": span(ratios, 2)}


def children_cpu_s(start: Start) -> float:
    """CPU seconds of the children that have ended at the end of `start`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _help() -> None:
    _python("-m", "cosignal", "--help")


def _torch() -> None:
    _python("-c", "import torch")


def _python(*arguments: str) -> None:
    command = [sys.executable, "-P", *arguments]
    subprocess.run(command, env=child_environment(), stdout=subprocess.DEVNULL, check=True)


def _trainer() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_first_update(Path(folder)))


async def _first_update(run_dir: Path) -> None:
    """Let a lockstep trainer reach the point after its first update, and end it there."""
    trainer = TrainerConfig()
    config = TrainingConfig(
        seed=1, clock="lockstep", task=TaskConfig(name="two_switch"), trainer=trainer, signal=SignalConfig(),
        pause_every_steps=trainer.envs * trainer.rollout, margin=0.02,
    )  # fmt: skip
    (run_dir / "training.json").write_text(config.model_dump_json())
    process = await attach_or_start(run_dir, run_dir.name)
    try:
        while (status := await process.client.status()).waiting_at is None:
            if status.state == "finished":
                raise TrainerGone(f"the trainer must wait after its first update, it is {status.state!r}; report it")
            await asyncio.sleep(0.02)
    finally:
        await process.stop()
