"""Collecting one rollout from a batch of environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .task import BatchedTask, FloatArray, IntArray, Step


class Policy(Protocol):
    def act(self, obs: list[FloatArray]) -> tuple[list[IntArray], list[FloatArray]]:
        """obs [g] [E, A_g, O_g] → actions, log-probabilities [g] [E, A_g]."""
        ...


@dataclass
class Rollout:
    """T steps of E environments. `obs`, `features` are those acted from (s); `last_*` are s', before auto-reset."""

    obs: list[FloatArray]  # [g] [T, E, A_g, O_g]
    last_obs: list[FloatArray]
    features: list[FloatArray]  # [g] [T, E, A_g, F_g]
    last_features: list[FloatArray]
    events: list[FloatArray]  # [g] [T, E, A_g, V_g]
    actions: list[IntArray]  # [g] [T, E, A_g]
    logp: list[FloatArray]  # [g] [T, E, A_g]
    reward: FloatArray  # [T, E] sparse team reward
    terminated: FloatArray  # [T, E] 0 or 1
    done: FloatArray  # [T, E] terminated or cut by a time limit
    success: FloatArray  # [T, E]

    @property
    def steps(self) -> int:
        """Environment steps: all agents acting once is one."""
        return self.reward.size


class Collector:
    """Steps a task under a policy; owns the buffers, which the next rollout overwrites."""

    def __init__(self, task: BatchedTask, length: int) -> None:
        self.task = task
        groups, shape = task.spec.groups, (length, task.num_envs)

        def buffers(width: str) -> list[FloatArray]:
            sizes = {"obs": [g.obs_size for g in groups], "features": [len(g.features) for g in groups]}
            sizes["events"] = [len(g.events) for g in groups]
            return [np.zeros((*shape, len(g.agents), n), np.float32) for g, n in zip(groups, sizes[width], strict=True)]

        def per_agent(dtype: type[np.generic]) -> list[Any]:
            return [np.zeros((*shape, len(g.agents)), dtype) for g in groups]

        flags = [np.zeros(shape, np.float32) for _ in range(4)]
        self.rollout = Rollout(
            buffers("obs"), buffers("obs"), buffers("features"), buffers("features"), buffers("events"),
            per_agent(np.int64), per_agent(np.float32), *flags,
        )  # fmt: skip

    def collect(self, policy: Policy, step: Step) -> Step:
        """Fill the buffers starting from `step`; returns the step to go on from."""
        rollout = self.rollout
        for t in range(len(rollout.reward)):
            actions, logps = policy.act(step.obs)
            for g, action in enumerate(actions):
                rollout.obs[g][t] = step.obs[g]
                rollout.features[g][t] = step.features[g]
                rollout.actions[g][t] = action
                rollout.logp[g][t] = logps[g]
            step = self.task.step(actions)
            for g in range(len(actions)):
                rollout.last_obs[g][t] = step.last_obs[g]
                rollout.last_features[g][t] = step.last_features[g]
                rollout.events[g][t] = step.events[g]
            rollout.reward[t] = step.reward
            rollout.terminated[t] = step.terminated
            rollout.done[t] = step.terminated | step.truncated
            rollout.success[t] = step.success
        return step
