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
from typing import Any, get_args

import numpy as np

from ...errors import TrainerGone
from ...rl.envs.config import TaskConfig
from ...rl.envs.factory import make_task
from ...rl.envs.grid.env import Infos
from ...rl.envs.two_switch.env import TwoSwitchEnv
from ...rl.ipc.launcher import attach_or_start
from ...rl.processes import child_environment, one_thread
from ...rl.signals.config import SignalConfig
from ...rl.training.config import TrainerConfig, TrainingConfig
from ...rl.training.line import TrainingLine
from ..report import Tell
from .measure import Spell, alternating, bench_result, median, rate, ratios, span, wall_rate
from .reference_loop import ReferenceLoop

# ---------------------------------------------------------------- MERGED studies.startup

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
    _run_python("-m", "cosignal", "--help")


def _torch() -> None:
    _run_python("-c", "import torch")


def _run_python(*arguments: str) -> None:
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


# ---------------------------------------------------------------- MERGED studies.bench_trainer
# DOC """`cosignal bench trainer`: environment steps a second of one core.
# DOC
# DOC By size (environments × rollout, two agents): every algorithm's whole `TrainingLine.update()` against a plain loop over
# DOC the Python twin of the same task (`reference_loop`), in short rounds that alternate; and the environment alone.
# DOC `_core_s` are CPU seconds of this process, which has one thread; compiled code is warm. `_wall_s` also sees who else
# DOC uses the machine. Ratios are medians over rounds, `_range` the lowest and the highest. Start-up: see `startup`.
# DOC
# DOC An algorithm's own figures are those of the first, the default size; `sizes` has all of them.
# DOC """

ALGORITHMS: tuple[str, ...] = get_args(TrainerConfig.model_fields["algorithm"].annotation)
SIZES = ((64, 32), (16, 128), (256, 32))  # environments, rollout; the first is the default
REFERENCE = "reference"
WARM_UPDATES = 3
BLOCK = 32  # steps of the environment alone, whose random actions are drawn beforehand

Works = Mapping[str, Callable[[], int]]


class BareTwoSwitch(TwoSwitchEnv):
    """The Python twin without features and events, which a plain loop does not read."""

    def _infos(self, events: tuple[dict[str, int], dict[str, int]], success: bool) -> Infos:  # noqa: ARG002
        return {agent: {} for agent in self.possible_agents}


def run_trainer(
    tell: Tell,
    sizes: Sequence[tuple[int, int]] = SIZES,
    rounds: int = 9,
    round_s: float = 0.6,
    starts: int = 5,
) -> dict[str, Any]:
    """`rounds` spells of at least `round_s` CPU seconds of everything; `starts`: of each command."""
    one_thread()
    environment: dict[str, Any] = {}
    by_size: dict[str, dict[str, Any]] = {name: {} for name in ALGORITHMS}
    for envs, rollout in sizes:
        alone = environment_metrics(alternating(environments(envs), rounds, round_s))
        environment[str(envs)] = alone
        tell(f"environment alone, {envs} at once: {alone}")
        spells = alternating(learners(envs, rollout), rounds, round_s)
        for name in ALGORITHMS:
            found = learner_metrics(spells[name], spells[REFERENCE])
            by_size[name][f"{envs}x{rollout}"] = {"env_steps_per_core_s": alone["env_steps_per_core_s"], **found}
            tell(f"{name}, {envs} environments × {rollout}: {found}")
    metrics = {name: {**next(iter(found.values())), "sizes": found} for name, found in by_size.items()}
    config = {
        "task": "two_switch", "agents": 2, "sizes": [list(size) for size in sizes], "rounds": rounds,
        "round_s": round_s, "starts": starts,
    }  # fmt: skip
    return bench_result("trainer", config, {**metrics, "environment": environment, "startup": startup(starts, tell)})


# ------------------------------------------------------------ what is run


def training_config(algorithm: str, envs: int, rollout: int) -> TrainingConfig:
    trainer = TrainerConfig.model_validate({"algorithm": algorithm, "envs": envs, "rollout": rollout})
    return TrainingConfig(
        seed=1, clock="lockstep", task=TaskConfig(name="two_switch"), trainer=trainer, signal=SignalConfig(),
        pause_every_steps=None, margin=0.02,
    )  # fmt: skip


def learners(envs: int, rollout: int) -> Works:
    """The reference loop and every algorithm, warm."""
    reference = ReferenceLoop([BareTwoSwitch() for _ in range(envs)], rollout)
    works: dict[str, Callable[[], int]] = {REFERENCE: reference.update}
    for algorithm in ALGORITHMS:
        works[algorithm] = _updates(TrainingLine(training_config(algorithm, envs, rollout)))
    for work in works.values():
        for _ in range(WARM_UPDATES):
            work()
    return works


def _updates(line: TrainingLine) -> Callable[[], int]:
    def update() -> int:
        before = line.steps_main
        line.update()
        return line.steps_main - before

    return update


def environments(envs: int) -> Works:
    """The compiled batch and one Python twin: random actions, auto-reset, observations and features."""
    works = {"batch": _batch(envs), "python": _python()}
    for work in works.values():
        work()
    return works


def _batch(envs: int) -> Callable[[], int]:
    task = make_task(TaskConfig(name="two_switch"), envs)
    task.reset(1)
    actions = list(np.random.default_rng(1).integers(0, task.spec.groups[0].n_actions, (BLOCK, envs, 2)))

    def steps() -> int:
        for action in actions:
            task.step([action])
        return BLOCK * envs

    return steps


def _python() -> Callable[[], int]:
    env = TwoSwitchEnv()
    env.reset(seed=1)
    drawn = np.random.default_rng(1).integers(0, 5, (BLOCK * 16, 2)).tolist()
    actions = [dict(zip(env.possible_agents, pair, strict=True)) for pair in drawn]

    def steps() -> int:
        for action in actions:
            env.step(action)
            if not env.agents:
                env.reset()
        return len(actions)

    return steps


# ------------------------------------------------------------ what is said of it


def environment_metrics(spells: Mapping[str, Sequence[Spell]]) -> dict[str, Any]:
    """Of spells of "batch" and "python"."""
    found = ratios(spells["batch"], spells["python"])
    return {
        "env_steps_per_core_s": rate(spells["batch"]),
        "python_env_steps_per_core_s": rate(spells["python"]),
        "env_ratio": median(found, 1), "env_ratio_range": span(found, 1),
    }  # fmt: skip


def learner_metrics(ours: Sequence[Spell], reference: Sequence[Spell]) -> dict[str, Any]:
    found = ratios(ours, reference)
    return {
        "train_steps_per_core_s": rate(ours), "train_steps_per_wall_s": wall_rate(ours),
        "reference_steps_per_core_s": rate(reference), "reference_steps_per_wall_s": wall_rate(reference),
        "ratio_to_reference": median(found, 2), "ratio_to_reference_range": span(found, 2),
    }  # fmt: skip
