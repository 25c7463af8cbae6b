"""Collecting one rollout from a batch of environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .task import ActionArray, BatchedTask, BoolArray, FloatArray, Step, TaskSpec


class Policy(Protocol):
    def act(
        self, obs: list[FloatArray], *, masks: list[BoolArray] | None = None
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """obs [g] [E, A_g, O_g], masks [g] [E, A_g, U] → actions, log-probabilities [g] [E, A_g]."""
        ...


@dataclass
class Rollout:
    """T steps of E environments. `obs`, `features` are those acted from (s); `last_*` are s', before auto-reset."""

    obs: list[FloatArray]  # [g] [T, E, A_g, O_g]
    last_obs: list[FloatArray]
    features: list[FloatArray]  # [g] [T, E, A_g, F_g]
    last_features: list[FloatArray]
    events: list[FloatArray]  # [g] [T, E, A_g, V_g]
    actions: list[ActionArray]  # [g] [T, E, A_g], or [T, E, A_g, k] in a Box
    logp: list[FloatArray]  # [g] [T, E, A_g]
    reward: FloatArray  # [T, E] sparse team reward
    terminated: FloatArray  # [T, E] 0 or 1
    done: FloatArray  # [T, E] terminated or cut by a time limit
    success: FloatArray  # [T, E]
    masks: list[BoolArray] | None = None  # [g] [T, E, A_g, U], None where the task has none
    alive: list[BoolArray] | None = None  # [g] [T, E, A_g], None where nobody leaves early
    last_masks: list[BoolArray] | None = None
    last_alive: list[BoolArray] | None = None
    lost: FloatArray | None = None  # [T, E] cut by a crash, see `Step.lost`; None: that cannot have happened

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

        actions: list[ActionArray] = [
            np.zeros((*shape, len(g.agents), *g.action_shape), g.action_dtype) for g in groups
        ]
        logp = [np.zeros((*shape, len(g.agents)), np.float32) for g in groups]
        reward, terminated, done, success = (np.zeros(shape, np.float32) for _ in range(4))
        self.rollout = Rollout(
            buffers("obs"), buffers("obs"), buffers("features"), buffers("features"), buffers("events"),
            actions, logp, reward, terminated, done, success,
            *_masks(task.spec, shape), *_masks(task.spec, shape),
        )  # fmt: skip
        self.rollout.lost = np.zeros(shape, np.float32)

    def collect(self, policy: Policy, step: Step) -> Step:
        """Fill the buffers starting from `step`; returns the step to go on from."""
        rollout, lost = self.rollout, self.rollout.lost
        assert lost is not None
        for t in range(len(rollout.reward)):
            actions, logps = policy.act(step.obs, masks=step.masks)
            for g, action in enumerate(actions):
                rollout.obs[g][t] = step.obs[g]
                rollout.features[g][t] = step.features[g]
                rollout.actions[g][t] = action
                rollout.logp[g][t] = logps[g]
            _keep(t, rollout.masks, step.masks)
            _keep(t, rollout.alive, step.alive)
            step = self.task.step(actions)
            _keep(t, rollout.last_masks, step.last_masks)
            _keep(t, rollout.last_alive, step.last_alive)
            for g in range(len(actions)):
                rollout.last_obs[g][t] = step.last_obs[g]
                rollout.last_features[g][t] = step.last_features[g]
                rollout.events[g][t] = step.events[g]
            rollout.reward[t] = step.reward
            rollout.terminated[t] = step.terminated
            rollout.done[t] = step.terminated | step.truncated
            rollout.success[t] = step.success
            lost[t] = 0 if step.lost is None else step.lost
        return step


Masks = tuple[list[BoolArray], list[BoolArray]] | tuple[None, None]


def _masks(spec: TaskSpec, shape: tuple[int, int]) -> Masks:
    """Room for masks and for who is alive."""
    if not spec.has_masks:
        return None, None
    masks = [np.zeros((*shape, len(group.agents), group.n_actions), np.bool_) for group in spec.groups]
    return masks, [np.zeros((*shape, len(group.agents)), np.bool_) for group in spec.groups]


def _keep(t: int, kept: list[BoolArray] | None, now: list[BoolArray] | None) -> None:
    """[g] [E, …] into row t of [g] [T, E, …]; nothing where the task has neither masks nor early leavers."""
    for rows, row in zip(kept or (), now or (), strict=True):
        rows[t] = row
