"""Rollouts: some steps of a batch of environments under a policy, collected into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from ..task import ActionArray, BatchedTask, BoolArray, FloatArray, Step
from .rnn_states import RNNStates


class Transitions(Protocol):
    """Arrays that rewards are computed from: a rollout, or a sample of a replay."""

    @property
    def features(self) -> list[FloatArray]:
        """[g] [..., A_g, F_g] of s."""
        ...

    @property
    def last_features(self) -> list[FloatArray]:
        """[g] [..., A_g, F_g] of s′, before auto-reset."""
        ...

    @property
    def events(self) -> list[FloatArray]:
        """[g] [..., A_g, V_g]: how often each agent caused each event."""
        ...

    @property
    def obs(self) -> list[FloatArray]:
        """[g] [..., A_g, O_g] of s."""
        ...

    @property
    def last_obs(self) -> list[FloatArray]:
        """[g] [..., A_g, O_g] of s′, before auto-reset."""
        ...

    @property
    def actions(self) -> list[ActionArray]:
        """[g] [..., A_g], or [..., A_g, k] in a Box."""
        ...

    @property
    def terminated(self) -> FloatArray:
        """[...]: 1 where nothing follows: at true terminations, and at time limits that are learned as ends."""
        ...

    @property
    def alive(self) -> list[BoolArray] | None:
        """[g] [..., A_g] in s; None where nobody leaves early."""
        ...

    @property
    def last_alive(self) -> list[BoolArray] | None:
        """[g] [..., A_g] in s′; None where nobody leaves early."""
        ...


class PlayedInOrder(Transitions, Protocol):
    """Consecutive steps of environments: arrays [g] [T, E, A_g, …]."""

    @property
    def done(self) -> FloatArray:
        """[T, E]: 1 where an episode ends with the step."""
        ...


@dataclass
class Moment:
    """One joint step of one environment as `Transitions`: arrays [g] [1, A_g, …], terminated and done [1]."""

    features: list[FloatArray]
    last_features: list[FloatArray]
    events: list[FloatArray]
    obs: list[FloatArray]
    last_obs: list[FloatArray]
    actions: list[ActionArray]
    terminated: FloatArray
    done: FloatArray
    alive: list[BoolArray] | None
    last_alive: list[BoolArray] | None


def in_order(moments: Sequence[Moment]) -> Moment:
    """Return consecutive moments as one, whose arrays are [g] [T, 1, A_g, …], terminated and done [T, 1]."""

    def stacked(name: str) -> Any:
        parts = [getattr(moment, name) for moment in moments]
        if isinstance(parts[0], list):  # [g] of each moment
            return [np.stack(arrays) for arrays in zip(*parts, strict=True)]
        return None if parts[0] is None else np.stack(parts)

    values: dict[str, Any] = {field.name: stacked(field.name) for field in fields(Moment)}
    return Moment(**values)


@dataclass
class Rollout:
    """T steps of E environments. `obs`, `features` are those acted from (s); `last_*` are s′, before auto-reset."""

    obs: list[FloatArray]  # [g] [T, E, A_g, O_g]
    last_obs: list[FloatArray]
    features: list[FloatArray]  # [g] [T, E, A_g, F_g]
    last_features: list[FloatArray]
    events: list[FloatArray]  # [g] [T, E, A_g, V_g]
    actions: list[ActionArray]  # [g] [T, E, A_g], or [T, E, A_g, k] in a Box
    logp: list[FloatArray]  # [g] [T, E, A_g]
    reward: FloatArray  # [T, E] sparse team reward
    terminated: FloatArray  # [T, E] 0 or 1, as it is learned from
    done: FloatArray  # [T, E] terminated or cut by a time limit
    success: FloatArray  # [T, E]
    masks: list[BoolArray] | None = None  # [g] [T, E, A_g, U], None where the task has none
    alive: list[BoolArray] | None = None  # [g] [T, E, A_g], None where nobody leaves early
    last_masks: list[BoolArray] | None = None
    last_alive: list[BoolArray] | None = None
    truncated: FloatArray | None = None  # [T, E] cut by a time limit, whatever is learned of it; None: nobody says
    lost: FloatArray | None = None  # [T, E] cut by a crash, see `Step.lost`; None: that cannot have happened
    rnn_states: RNNStates | None = None  # before the first step; None where no network has any
    last_rnn_states: RNNStates | None = None  # after the last one; those of critics are filled in by whoever learns

    @property
    def steps(self) -> int:
        """The number of environment steps: all agents acting once is one."""
        return self.reward.size

    @property
    def finished_rewards(self) -> FloatArray:
        """[n] team rewards of the steps that environments finished."""
        return self.reward.ravel() if self.lost is None else self.reward[self.lost == 0]


class Policy(Protocol):
    """Whatever chooses the actions of a rollout."""

    def act(
        self,
        obs: list[FloatArray],
        *,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """Choose: obs [g] [E, A_g, O_g], masks [g] [E, A_g, U] → actions, log-probabilities [g] [E, A_g]."""
        ...


class Collector:
    """Steps a task under a policy.

    Attributes:
        task: the batch of environments.
        limit_terminates: whether reaching the time limit is recorded as termination.
        rollout: the buffers, which the next rollout overwrites.
    """

    def __init__(self, task: BatchedTask, length: int, limit_terminates: bool = False) -> None:
        self.task, self.limit_terminates = task, limit_terminates
        groups, shape = task.spec.groups, (length, task.num_envs)

        def per_agent(sizes: list[int]) -> list[FloatArray]:
            return [np.zeros((*shape, len(g.agents), n), np.float32) for g, n in zip(groups, sizes, strict=True)]

        def masks() -> list[BoolArray] | None:
            if not task.spec.has_masks:
                return None
            return [np.zeros((*shape, len(g.agents), g.n_actions), np.bool_) for g in groups]

        def alive() -> list[BoolArray] | None:
            return [np.zeros((*shape, len(g.agents)), np.bool_) for g in groups] if task.spec.has_masks else None

        obs, features = [g.obs_size for g in groups], [len(g.features) for g in groups]
        self.rollout = Rollout(
            obs=per_agent(obs),
            last_obs=per_agent(obs),
            features=per_agent(features),
            last_features=per_agent(features),
            events=per_agent([len(g.events) for g in groups]),
            actions=[np.zeros((*shape, len(g.agents), *g.action_shape), g.action_dtype) for g in groups],
            logp=[np.zeros((*shape, len(g.agents)), np.float32) for g in groups],
            reward=np.zeros(shape, np.float32),
            terminated=np.zeros(shape, np.float32),
            done=np.zeros(shape, np.float32),
            success=np.zeros(shape, np.float32),
            masks=masks(),
            alive=alive(),
            last_masks=masks(),
            last_alive=alive(),
            truncated=np.zeros(shape, np.float32),
            lost=np.zeros(shape, np.float32),
        )

    def collect(self, policy: Policy, step: Step, rnn_states: RNNStates | None = None) -> Step:
        """Fill the buffers starting from `step`, and return the step to go on from; `rnn_states` go on, too."""
        rollout, lost, truncated = self.rollout, self.rollout.lost, self.rollout.truncated
        assert lost is not None
        assert truncated is not None
        rollout.rnn_states = None if rnn_states is None else rnn_states.copied()
        rollout.last_rnn_states = rnn_states
        lost[:] = 0
        for t in range(len(rollout.reward)):
            actions, logps = policy.act(step.obs, masks=step.masks, rnn_states=rnn_states)
            # Tasks may reuse the arrays of a step at the next one: everything is copied before and after it.
            for g, action in enumerate(actions):
                rollout.obs[g][t] = step.obs[g]
                rollout.features[g][t] = step.features[g]
                rollout.actions[g][t] = action
                rollout.logp[g][t] = logps[g]
            if rollout.masks is not None:
                _fill_row(t, rollout.masks, step.masks)
                _fill_row(t, rollout.alive, step.alive)
            # Now s is recorded; the step gives s′ and what happened in between.
            step = self.task.step(actions)
            if rollout.masks is not None:
                _fill_row(t, rollout.last_masks, step.last_masks)
                _fill_row(t, rollout.last_alive, step.last_alive)
            for g in range(len(actions)):
                rollout.last_obs[g][t] = step.last_obs[g]
                rollout.last_features[g][t] = step.last_features[g]
                rollout.events[g][t] = step.events[g]
            rollout.reward[t] = step.reward
            rollout.terminated[t] = step.terminated
            truncated[t] = step.truncated
            rollout.success[t] = step.success
            if step.lost is not None:
                lost[t] = step.lost
            if rnn_states is not None:
                rnn_states.reset(step.terminated | step.truncated)
        np.maximum(truncated, rollout.terminated, out=rollout.done)
        if self.limit_terminates:
            rollout.terminated[:] = rollout.done * (1 - lost)  # what an environment did not finish is cut all the same
        return step


def _fill_row(t: int, rows: list[BoolArray] | None, values: list[BoolArray] | None) -> None:
    """Copy [g] [E, …] into row t of [g] [T, E, …]; nothing where the step has none."""
    for row, value in zip(rows or (), values or (), strict=True):
        row[t] = value
