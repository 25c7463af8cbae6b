"""`cosignal bench trainer`: environment steps a second of one core, and what it takes to start.

By size (environments × rollout, two agents): every algorithm's whole `TrainingLine.update()` against a plain loop over
the Python twin of the same task (`reference_loop`), in short rounds that alternate; and the environment alone.
`_core_s` are CPU seconds of this process, which has one thread; compiled code is warm. `_wall_s` also sees who else
uses the machine. Ratios are medians over rounds, `_range` the lowest and the highest. An algorithm's own figures are
those of the first, the default size; `sizes` has all of them. `gru`: the same with recurrent networks, and the ratio to
the feed-forward ones.

Start-up is measured in CPU seconds, user and system, of whole child processes with warm caches. `help_cpu_s`:
`cosignal --help`. `torch_cpu_s`: Python that does nothing but `import torch`. `trainer_cpu_s`: the trainer process of
the shipped task from its start over its first update to its end. Each is the median over alternating starts;
`trainer_to_torch` of the ratios of the last two, start by start.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ...errors import TrainerGone
from ...rl.algorithms.config import AlgorithmName, NetworkName
from ...rl.envs.config import TaskConfig
from ...rl.envs.factory import make_task
from ...rl.envs.grid.env import Infos
from ...rl.envs.two_switch.env import TwoSwitchEnv
from ...rl.ipc.client import TrainerClient
from ...rl.ipc.launcher import attach_or_start
from ...rl.processes import child_environment, one_thread
from ...rl.signals.config import SignalConfig
from ...rl.training.config import TrainerConfig, TrainingConfig
from ...rl.training.line import TrainingLine
from ..report import Tell
from .measure import Spell, alternating, bench_result, median, rate, ratios, span, wall_rate
from .reference_loop import ReferenceLoop

ALGORITHMS: tuple[AlgorithmName, ...] = get_args(AlgorithmName)
RECURRENT: tuple[AlgorithmName, ...] = ("ippo", "mappo", "vdn", "qmix")  # which have a `gru`
GRU = "_gru"  # behind the name of an algorithm with such networks
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
    """Measure environment, algorithms and start-up.

    Args:
        tell: is given lines of progress.
        sizes: (environments, rollout) of the updates.
        rounds: spells of everything at each size.
        round_s: CPU seconds that a spell takes at least.
        starts: of each command.
    """
    one_thread()
    environment: dict[str, Any] = {}
    by_size: dict[str, dict[str, Any]] = {name: {} for name in ALGORITHMS}
    for envs, rollout in sizes:
        # the environment alone, then the algorithms and the reference loop in turn
        alone = environment_metrics(alternating(environments(envs), rounds, round_s))
        environment[str(envs)] = alone
        tell(f"environment alone, {envs} at once: {alone}")
        spells = alternating(learners(envs, rollout), rounds, round_s)
        for name in ALGORITHMS:
            metrics = learner_metrics(spells[name], spells[REFERENCE])
            if name in RECURRENT:
                metrics["gru"] = recurrent_metrics(spells[name + GRU], spells[name])
            by_size[name][f"{envs}x{rollout}"] = {"env_steps_per_core_s": alone["env_steps_per_core_s"], **metrics}
            tell(f"{name}, {envs} environments × {rollout}: {metrics}")
    by_algorithm = {name: {**next(iter(sized.values())), "sizes": sized} for name, sized in by_size.items()}
    config = {
        "task": "two_switch", "agents": 2, "sizes": [list(size) for size in sizes], "rounds": rounds,
        "round_s": round_s, "starts": starts,
    }  # fmt: skip
    started = startup(starts, tell)
    return bench_result("trainer", config, {**by_algorithm, "environment": environment, "startup": started})


# ---------------------------------------------------------------- work


def training_config(algorithm: AlgorithmName, envs: int, rollout: int, network: NetworkName = "mlp") -> TrainingConfig:
    """Return the config of a Two-Switch line that never pauses."""
    section = {"algorithm": algorithm, algorithm: {"network": network}}
    trainer = TrainerConfig.model_validate({**section, "envs": envs, "rollout": rollout})
    return TrainingConfig(
        seed=1, clock="lockstep", task=TaskConfig(name="two_switch"), trainer=trainer, signal=SignalConfig(),
        pause_every_steps=None, margin=0.02,
    )  # fmt: skip


def learners(envs: int, rollout: int) -> Works:
    """Return updates of the reference loop and of every algorithm, warm; also with recurrent networks."""
    reference = ReferenceLoop([BareTwoSwitch() for _ in range(envs)], rollout)

    def update(line: TrainingLine) -> int:
        before = line.steps_main
        line.update()
        return line.steps_main - before

    # compiled kernels and buffers are warm before anything is timed
    lines: dict[str, TrainingLine] = {name: TrainingLine(training_config(name, envs, rollout)) for name in ALGORITHMS}
    lines |= {name + GRU: TrainingLine(training_config(name, envs, rollout, "gru")) for name in RECURRENT}
    works: Works = {REFERENCE: reference.update, **{name: partial(update, line) for name, line in lines.items()}}
    for work in works.values():
        for _ in range(WARM_UPDATES):
            work()
    return works


def environments(envs: int) -> Works:
    """Return steps of the compiled batch and of one Python twin, warm.

    Both take random actions, reset themselves, and return observations and features.
    """
    task = make_task(TaskConfig(name="two_switch"), envs)
    task.reset(1)
    drawn = list(np.random.default_rng(1).integers(0, task.spec.groups[0].n_actions, (BLOCK, envs, 2)))

    def batch_steps() -> int:
        for actions in drawn:
            task.step([actions])
        return BLOCK * envs

    env = TwoSwitchEnv()
    env.reset(seed=1)
    pairs = np.random.default_rng(1).integers(0, 5, (BLOCK * 16, 2)).tolist()
    by_agent = [dict(zip(env.possible_agents, pair, strict=True)) for pair in pairs]

    def python_steps() -> int:
        for actions in by_agent:
            env.step(actions)
            if not env.agents:
                env.reset()
        return len(by_agent)

    works: Works = {"batch": batch_steps, "python": python_steps}
    for work in works.values():
        work()
    return works


# ---------------------------------------------------------------- metrics


def environment_metrics(spells: Mapping[str, Sequence[Spell]]) -> dict[str, Any]:
    """Return the metrics of the environment alone from spells of "batch" and "python"."""
    by_round = ratios(spells["batch"], spells["python"])
    return {
        "env_steps_per_core_s": rate(spells["batch"]),
        "python_env_steps_per_core_s": rate(spells["python"]),
        "env_ratio": median(by_round, 1), "env_ratio_range": span(by_round, 1),
    }  # fmt: skip


def learner_metrics(ours: Sequence[Spell], reference: Sequence[Spell]) -> dict[str, Any]:
    """Return the metrics of an algorithm beside those of the reference loop in the same rounds."""
    by_round = ratios(ours, reference)
    return {
        "train_steps_per_core_s": rate(ours), "train_steps_per_wall_s": wall_rate(ours),
        "reference_steps_per_core_s": rate(reference), "reference_steps_per_wall_s": wall_rate(reference),
        "ratio_to_reference": median(by_round, 2), "ratio_to_reference_range": span(by_round, 2),
    }  # fmt: skip


def recurrent_metrics(gru: Sequence[Spell], mlp: Sequence[Spell]) -> dict[str, Any]:
    """Return the metrics of an algorithm with recurrent networks beside those of its feed-forward ones."""
    by_round = ratios(gru, mlp)
    return {
        "train_steps_per_core_s": rate(gru),
        "ratio_to_mlp": median(by_round, 3), "ratio_to_mlp_range": span(by_round, 3),
    }  # fmt: skip


# ---------------------------------------------------------------- start-up


def startup(times: int, tell: Tell) -> dict[str, Any]:
    """Start each command `times` times, and once more before that, so that caches are warm; return its metrics."""
    starts: dict[str, Callable[[], None]] = {
        "help": lambda: start_python("-m", "cosignal", "--help"),
        "torch": lambda: start_python("-c", "import torch"),
        "trainer": start_trainer,
    }
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for time in range(times + 1):
        for name, start in starts.items():
            cpu_s = children_cpu_s(start)
            # the first round warms the caches
            if time:
                seconds[name].append(cpu_s)
    metrics = startup_metrics(seconds)
    tell(f"start-up: {metrics}")
    return metrics


def startup_metrics(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the metrics of start-up from CPU seconds of each start of "help", "torch" and "trainer"."""
    by_start = [a / b for a, b in zip(seconds["trainer"], seconds["torch"], strict=True)]
    medians = {f"{name}_cpu_s": median(values) for name, values in seconds.items()}
    return {**medians, "trainer_to_torch": median(by_start, 2), "trainer_to_torch_range": span(by_start, 2)}


def children_cpu_s(start: Callable[[], None]) -> float:
    """Call `start`, and return the CPU seconds of the children that have ended by then."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_python(*arguments: str) -> None:
    """Run Python to its end.

    Raises:
        CalledProcessError: it fails.
    """
    command = [sys.executable, "-P", *arguments]
    subprocess.run(command, env=child_environment(), stdout=subprocess.DEVNULL, check=True)


def start_trainer() -> None:
    """Let a lockstep trainer of the default size reach the point after its first update, and end it there."""
    trainer = TrainerConfig()
    config = training_config(trainer.algorithm, trainer.envs, trainer.rollout)
    config = config.model_copy(update={"pause_every_steps": trainer.envs * trainer.rollout})

    async def reach_point(run_dir: Path) -> None:
        async with waiting_trainer(config, run_dir, poll_s=0.02):
            pass

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(reach_point(Path(folder)))


@asynccontextmanager
async def waiting_trainer(config: TrainingConfig, run_dir: Path, poll_s: float = 0.05) -> AsyncIterator[TrainerClient]:
    """Start a trainer process, and give its client once it waits at an adaptation point; end it afterwards.

    Args:
        config: of a trainer that pauses.
        run_dir: an empty folder.
        poll_s: seconds between two looks at its status.

    Raises:
        TrainerGone: it finishes instead of waiting.
    """
    (run_dir / "training.json").write_text(config.model_dump_json())
    process = await attach_or_start(run_dir, run_dir.name)
    try:
        while (status := await process.client.status()).waiting_at is None:
            if status.state == "finished":
                raise TrainerGone(f"the trainer must wait at a point, it is {status.state!r}; report it")
            await asyncio.sleep(poll_s)
        yield process.client
    finally:
        await process.stop()
