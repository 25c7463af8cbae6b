"""The steps that a team must take, in order: the rewarded moments of one successful episode.

This is section 4.1 of LCA (Lin et al., arXiv 2502.03723).
"""

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
    """Play at random until an episode succeeds.

    Episodes have no time limit where the task is one of ours. Where no episode succeeds within LONGEST steps (or the
    task has no success test and none ends with a reward), the list is empty, and models go without.

    Returns:
        (a line for each moment of that episode with a positive team reward, in order; environment steps played).
    """
    task = plain_task_factory(config.model_copy(update={"n_max": UNLIMITED}))()
    try:
        return _play_at_random(task, seed)
    finally:
        task.env.close()


def _play_at_random(task: Task, seed: int) -> tuple[list[str], int]:
    env, rng, played = task.env, np.random.default_rng(seed), 0
    while played < LONGEST:
        # One episode of random play.
        lines: list[str] = []
        env.reset(seed=int(rng.integers(2**31)))
        ended = False
        while not ended and played < LONGEST:
            acting = list(env.agents)
            actions = {agent: rng.integers(env.action_space(agent).n) for agent in acting}
            _, rewards, terminations, truncations, infos = env.step(actions)
            played += 1
            if sum(float(reward) for reward in rewards.values()) > 0:
                lines.append(_describe_moment(task, acting, infos))
            ended = not env.agents
        if ended and lines:
            # A task without a success test has succeeded where it ended by itself.
            terminated = any(terminations.values()) and not any(truncations.values())
            if task.success(infos) if task.declared("has_success") else terminated:
                return lines, played
    return [], played


def _describe_moment(task: Task, acting: list[Any], infos: Mapping[Any, Mapping[str, Any]]) -> str:
    """Return who did what, in the words of the task's events, and what the state is after it."""
    parts = []
    for agent in acting:
        meaning = {event.name: event.description for event in task.event_specs(agent)}
        counts = task.events(agent, infos.get(agent, {}))
        parts += [f"{agent}: {meaning[name] or name}" for name, count in counts.items() if count]
    return " ".join([*parts, f"Then: {task.describe()}." if task.describe() else ""]).strip() or "The team is paid."
