"""`cosignal bench tasks`: the cost of the wrapper around PettingZoo, on every shipped task that is installed.

By task, joint steps a CPU second of one thread, in rounds that take turns:

* `bare`     the environment alone, stepped as PettingZoo's documentation does; random allowed actions, drawn before
* `wrapped`  the same environments through `make_task`: observations, features, events, masks, auto-reset, seeds
* `compiled` the compiled batch of the same task, where there is one, features and auto-reset included

`wrapper_share` is the share of a wrapped step that is not the environment's. Environments with their own rewards and
observations on top of an upstream one (all but Two-Switch's Python twin) count as the environment. `compiled_to_bare`
is how many times the steps of the original the compiled batch makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ...doctor.play import random_actions
from ...errors import TaskImportError
from ...rl.envs.config import TaskConfig
from ...rl.envs.factory import closing_task, make_task
from ...rl.envs.load_env import task_factory
from ...rl.envs.registry import EXTRAS
from ...rl.processes import one_thread
from ...rl.task import BatchedTask
from ..report import Tell
from .measure import Spell, alternating, bench_result, median, rate, ratios, span

ENVS = 4
COMPILED_ENVS = 64
BLOCK = 64  # joint steps of each environment a piece of work
COMPILED = {"lbf_original": "lbf", "rware_original": "rware"}  # original → the task that is compiled
TWIN = TaskConfig(env="cosignal.rl.envs.two_switch:TwoSwitchEnv", team_reward="mean", agent_ids=False)


def run_tasks(tell: Tell, rounds: int = 7, round_s: float = 0.6) -> dict[str, Any]:
    """Measure every task; one whose extra is not installed is left out.

    Args:
        tell: is given lines of progress.
        rounds: spells of the bare and of the wrapped environment.
        round_s: CPU seconds that a spell takes at least.
    """
    one_thread()
    metrics: dict[str, Any] = {}
    for name, config in tasks().items():
        try:
            with closing_task(config, task_factory(config)()) as alone, closing(make_task(config, ENVS)) as batch:
                works = {"bare": bare(alone.env), "wrapped": wrapped(batch)}
                if name in COMPILED:
                    compiled = TaskConfig.model_validate({"name": COMPILED[name]})
                    works["compiled"] = wrapped(make_task(compiled, COMPILED_ENVS))
                metrics[name] = wrapper_metrics(alternating(works, rounds, round_s))
        except TaskImportError as error:
            tell(f"{name}: left out, {error}")
            continue
        tell(f"{name}: {metrics[name]}")
    sizes = {"envs": ENVS, "compiled_envs": COMPILED_ENVS, "block": BLOCK, "rounds": rounds, "round_s": round_s}
    return bench_result("tasks", sizes, metrics)


def tasks() -> dict[str, TaskConfig]:
    """Return the tasks by name: the Python twin of Two-Switch, and those of the extras."""
    return {"two_switch in Python": TWIN, **{name: TaskConfig.model_validate({"name": name}) for name in EXTRAS}}


def bare(env: Any) -> Callable[[], int]:
    """Return work on the environment alone: BLOCK joint steps."""
    env.reset(seed=0)
    # drawn beforehand, so that only the environment is timed
    drawn = {agent: [env.action_space(agent).sample() for _ in range(BLOCK)] for agent in env.possible_agents}

    def work() -> int:
        for t in range(BLOCK):
            env.step({agent: drawn[agent][t] for agent in env.agents})
            if not env.agents:
                env.reset()
        return BLOCK

    work()
    return work


def wrapped(task: BatchedTask) -> Callable[[], int]:
    """Return work on the batch that `make_task` makes: BLOCK joint steps of each of its environments."""
    rng, step = np.random.default_rng(0), task.reset(0)
    drawn = [random_actions(task.spec, step, rng) for _ in range(BLOCK)]

    def work() -> int:
        for actions in drawn:
            task.step(actions)
        return BLOCK * task.num_envs

    work()
    return work


def wrapper_metrics(spells: Mapping[str, Sequence[Spell]]) -> dict[str, Any]:
    """Return the metrics of one task from spells of "bare" and "wrapped", and of "compiled" where it is."""
    shares = [1 - w.rate / b.rate for b, w in zip(spells["bare"], spells["wrapped"], strict=True)]
    metrics: dict[str, Any] = {
        "bare_steps_per_core_s": rate(spells["bare"]), "wrapped_steps_per_core_s": rate(spells["wrapped"]),
        "wrapper_share": median(shares), "wrapper_share_range": span(shares),
    }  # fmt: skip
    if "compiled" in spells:
        times = ratios(spells["compiled"], spells["bare"])
        metrics |= {"compiled_steps_per_core_s": rate(spells["compiled"]), "compiled_to_bare": median(times, 0)}
        metrics |= {"compiled_to_bare_range": span(times, 0)}
    return metrics
