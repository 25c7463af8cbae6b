"""What a team must do, in order, told by its own rewards: the rewarded moments of one successful episode (LCA, Lin et
al., arXiv 2502.03723, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.adapter import Task
from ..envs.config import TaskConfig
from ..envs.factory import plain_task_factory

LONGEST = 300_000  # environment steps of random play
UNLIMITED = 1_000_000  # steps, for a time limit that never comes


def key_steps(config: TaskConfig, seed: int) -> tuple[list[str], int]:
    """A line for each moment with a positive team reward in an episode of random play, in order; and the environment
    steps that were played.

    Episodes have no time limit where the task is one of ours. Where no episode succeeds within LONGEST steps (or the
    task has no success test and none ends with a reward), the list is empty, and models go without.
    """
    task = plain_task_factory(config.model_copy(update={"n_max": UNLIMITED}))()
    rng, played = np.random.default_rng(seed), 0
    while played < LONGEST:
        lines, steps, succeeded = _episode(task, rng, LONGEST - played)
        played += steps
        if succeeded and lines:
            return lines, played
    return [], played


def _episode(task: Task, rng: np.random.Generator, most: int) -> tuple[list[str], int, bool]:
    """(rewarded moments in words, steps, whether it succeeded) of one episode of random play."""
    env, lines = task.env, []
    env.reset(seed=int(rng.integers(2**31)))
    for step in range(1, most + 1):
        acting = list(env.agents)
        actions = {agent: rng.integers(env.action_space(agent).n) for agent in acting}
        _, rewards, terminations, truncations, infos = env.step(actions)
        if sum(float(reward) for reward in rewards.values()) > 0:
            lines.append(_moment(task, acting, infos))
        if not env.agents:
            ended = any(terminations.values()) and not any(truncations.values())
            told = task.told("has_success")
            return lines, step, task.success(infos) if told else ended
    return lines, most, False


def _moment(task: Task, acting: list[Any], infos: Mapping[Any, Mapping[str, Any]]) -> str:
    """Who did what, as the task's events say it, and how things stood after it."""
    done = []
    for agent in acting:
        meaning = {event.name: event.description for event in task.event_specs(agent)}
        counts = task.events(agent, infos.get(agent, {}))
        done += [f"{agent}: {meaning[name] or name}" for name, count in counts.items() if count]
    return " ".join([*done, f"Then: {task.describe()}." if task.describe() else ""]).strip() or "The team is paid."
