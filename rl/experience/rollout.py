"""Whom the task's own reward is paid to, for training. Evaluation, evidence and gate look at the team's, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ...errors import ConfigError
from ..task import ActionArray, BatchedTask, BoolArray, FloatArray, Step, TaskSpec

# ---------------------------------------------------------------- MERGED rl.reward_view

# team: everybody is paid the team reward. individual: the team reward without what mates' events were paid for.
# team_and_individual: the team reward, and what the agent's own events were paid for once more.
RewardView = Literal["team", "individual", "team_and_individual"]


def check_reward_view(view: RewardView, spec: TaskSpec) -> None:
    """Raises ConfigError where the task does not say what single agents' events are paid."""
    if view != "team" and not any(event.reward for group in spec.groups for event in group.events):
        raise ConfigError(
            f"trainer.reward {view!r} needs events that say what they are paid (EventSpec.reward), task {spec.name!r} "
            "has none; set it to team, or declare them"
        )


def own_pay(events: list[FloatArray], spec: TaskSpec) -> list[FloatArray]:
    """[g] [..., A_g, V_g] → [g] [..., A_g]: what the team was paid for each agent's own events (`EventSpec.reward`)."""
    pay = [np.array([event.reward for event in group.events], np.float32) for group in spec.groups]
    return [np.asarray(x @ rewards, np.float32) for x, rewards in zip(events, pay, strict=True)]


def added_individually(view: RewardView, events: list[FloatArray], spec: TaskSpec) -> list[FloatArray]:
    """[g] [..., A_g]: what a view adds to the team reward of each agent."""
    own = own_pay(events, spec)
    if view == "team_and_individual":
        return own
    everybody = sum((x.sum(-1) for x in own), start=np.zeros(own[0].shape[:-1], np.float32))
    return [np.zeros_like(x) if view == "team" else x - everybody[..., None] for x in own]


# ---------------------------------------------------------------- MERGED rl.rollout
# DOC """Collecting one rollout from a batch of environments."""


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
