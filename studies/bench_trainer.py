"""`cosignal bench trainer`: environment steps a second of one core.

By size (environments × rollout, two agents): every algorithm's whole `TrainingLine.update()` against a plain loop over
the Python twin of the same task (`reference_loop`), in short rounds that alternate; and the environment alone.
`_core_s` are CPU seconds of this process, which has one thread; compiled code is warm. `_wall_s` also sees who else
uses the machine. Ratios are medians over rounds, `_range` the lowest and the highest. Start-up: see `startup`.

An algorithm's own figures are those of the first, the default size; `sizes` has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from ..rl.config import SignalConfig, TaskConfig, TrainerConfig, TrainingConfig
from ..rl.envs import make_task
from ..rl.envs.grid_env import Infos
from ..rl.envs.two_switch import TwoSwitchEnv
from ..rl.process import one_thread
from ..rl.training import TrainingLine
from .measure import Spell, alternating, bench_result, median, rate, ratios, span, wall_rate
from .reference_loop import ReferenceLoop
from .results import Tell
from .startup import startup

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
