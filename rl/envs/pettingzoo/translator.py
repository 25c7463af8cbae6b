"""Translate between an environment's dicts by agent and the arrays of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....errors import ConfigError
from ...task import ActionArray, BoolArray, FloatArray, Step, TaskSpec
from ..adapter import Task
from ..config import TeamReward
from .declared import GroupLayout, Layout
from .spaces import shown

NO_NUMBER = (TypeError, ValueError, OverflowError)  # what Python raises where something is none
LARGEST = 1e15  # of a number: beyond it squares and their sums leave single precision

# One joint action, agents side by side: choices as int64, or float64 where any agent's action is a Box.
JointAction = NDArray[np.generic]
Observations = Mapping[Any, Any]  # by agent
Infos = Mapping[Any, Any]  # by agent


class Views(NamedTuple):
    """The arrays of a `Step` that show one state, each [g]; masks and alive are empty where the spec has no masks."""

    obs: list[FloatArray]  # [g] [E, A_g, O_g]
    features: list[FloatArray]  # [g] [E, A_g, F_g]
    masks: list[BoolArray]  # [g] [E, A_g, U]
    alive: list[BoolArray]  # [g] [E, A_g]


def current_views(step: Step) -> Views:
    """Return the views of s, the state to act from next."""
    return Views(step.obs, step.features, step.masks or [], step.alive or [])


def last_views(step: Step) -> Views:
    """Return the views of s', before auto-reset."""
    return Views(step.last_obs, step.last_features, step.last_masks or [], step.last_alive or [])


def row_of(views: Views, e: int) -> Views:
    """Return the views of environment e alone, as a batch of one."""
    row = slice(e, e + 1)
    obs, features = [x[row] for x in views.obs], [x[row] for x in views.features]
    return Views(obs, features, [x[row] for x in views.masks], [x[row] for x in views.alive])


def state_pairs(step: Step) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return (array of s, the same of s') for everything that both states have."""
    now: list[NDArray[Any]] = [array for view in current_views(step) for array in view]
    last: list[NDArray[Any]] = [array for view in last_views(step) for array in view]
    return list(zip(now, last, strict=True))


_NO_INFO: Mapping[str, Any] = {}


def _write_numbers(row: FloatArray, numbers: list[Any] | None) -> None:
    """Write `numbers` into `row`; raise one of NO_NUMBER where one is none."""
    # Numpy would read the number in a text.
    if numbers is None or str in map(type, numbers):
        raise TypeError
    row[:] = numbers


class Translator:
    """A translator for the environments of one layout.

    It fills the arrays of a batch from what an environment returns, and gives it actions of its own spaces.

    Attributes:
        spec: of the task.
        groups: [g], how the arrays of each group are filled.
        ids: the environment's own agent ids, in the order of the groups.
        agents: the same as a set.
        row_dtype: of a `JointAction`.
        row_width: length of a `JointAction`.
    """

    def __init__(self, layout: Layout) -> None:
        self.spec: TaskSpec = layout.spec
        self.groups: tuple[GroupLayout, ...] = layout.groups
        self.ids = [agent for group in self.groups for agent in group.ids]
        self.agents = frozenset(self.ids)
        self.row_dtype = np.float64 if any(group.continuous for group in self.spec.groups) else np.int64
        self.row_width = sum(group.actions.width * len(group.ids) for group in self.groups)
        self._event_names = {name for group in self.groups for name in group.events}

    # ------------------------------------------------------------ actions

    def joint_actions(self, actions: list[ActionArray]) -> NDArray[np.generic]:
        """Put actions, [g] [N, A_g] or [N, A_g, k], side by side into a copy of shape [N, …]."""
        # Each agent's numbers follow those of the agent before it.
        flat = [x.reshape(len(x), math.prod(x.shape[1:])) for x in actions]
        return np.concatenate(flat, axis=1).astype(self.row_dtype)

    def env_actions(self, env: Any, row: JointAction) -> dict[Any, Any]:
        """Return the actions of the agents that are alive, in their own spaces."""
        # `start` counts the numbers of agents that have left, too.
        live, chosen, start, numbers = set(env.agents), {}, 0, row.tolist()
        for group in self.groups:
            for agent in group.ids:
                end = start + group.actions.width
                if agent in live:
                    chosen[agent] = group.actions.action(numbers[start:end])
                start = end
        return chosen

    # ------------------------------------------------------------ views

    def write_views(
        self, views: Views, e: int, task: Task, acting: set[Any], observations: Observations, infos: Infos
    ) -> None:
        """Write what the agents of environment e see, its features, masks, and who is there.

        Args:
            views: the arrays to fill at row e; of who is not there, features stay as they are.
            e: number of the environment in the arrays.
            task: of the environment.
            acting: who acts next, or in the last state of an episode who acted in its last step.
            observations: what `reset` or `step` returned.
            infos: what `reset` or `step` returned.

        Raises:
            ConfigError: an observation, a mask or a feature is not what the spec says, or an agent has left against a
                promise.
        """
        for g, group in enumerate(self.groups):
            for i, agent in enumerate(group.ids):
                # Environments differ in whether they still show an agent in the step in which it leaves.
                there = agent in acting and agent in observations
                row = self._row(group, agent, observations) if there else None
                # Without masks nobody may be missing, and everything is allowed.
                if self.spec.has_masks:
                    views.alive[g][e, i] = there
                    views.masks[g][e, i] = (
                        self._mask(task, group, agent, observations, infos) if there else group.first_only
                    )
                elif not there:
                    raise ConfigError(
                        f"{self.spec.name!r} has declared has_masks = False, which says that nobody leaves before the"
                        f" others; agent {agent!r} did; take the declaration out"
                    )
                obs = views.obs[g][e, i]
                if row is None:
                    obs[:] = 0
                    continue
                # What it sees, and behind it which agent of its group it is.
                size = len(row)
                obs[:size] = row
                obs[size:] = group.identity[i]
                if group.declared:
                    self._write_features(views.features[g][e, i], task, group, agent, infos)
                elif group.clipped:  # to the bounds of the specs
                    views.features[g][e, i] = np.minimum(np.maximum(obs[:size], group.low), group.high)
                else:
                    views.features[g][e, i] = obs[:size]

    def _row(self, group: GroupLayout, agent: Any, observations: Observations) -> NDArray[Any]:
        """Return what an agent observes as a row of numbers; raise ConfigError where it is none of its space."""
        try:
            return group.observations.flat(observations[agent])
        except ValueError as error:
            raise ConfigError(
                f"an observation must be one of its space, agent {agent!r} of {self.spec.name!r} observes {error};"
                " correct one of them"
            ) from error

    def _info(self, agent: Any, infos: Infos) -> Mapping[str, Any]:
        """Return an agent's info, empty where it has none; raise ConfigError where it is none."""
        info: Mapping[str, Any] = infos.get(agent, _NO_INFO)
        if type(info) is not dict and not isinstance(info, Mapping):  # the first takes no time
            raise ConfigError(
                f"infos must hold a dict for each agent, {self.spec.name!r} gave agent {agent!r} {shown(info)};"
                " give {} where there is nothing to say"
            )
        return info

    def _mask(
        self, task: Task, group: GroupLayout, agent: Any, observations: Observations, infos: Infos
    ) -> BoolArray | bool:
        """Return [U], which actions are allowed, or True where all are."""
        n = group.actions.n
        try:
            mask = group.observations.mask(observations[agent], self._info(agent, infos))
        except ValueError as error:
            raise ConfigError(
                f"an action mask must hold 0 or 1 for each of {n} actions, {self.spec.name!r} gave agent {agent!r}"
                f" {error}; correct it in the environment"
            ) from error
        if mask is None:
            return True
        # An agent that has just ended acts no more, so an empty mask is no fault.
        if mask.shape == (n,) and not mask.any() and agent not in task.env.agents:
            return group.first_only
        # A mask of another shape would be broadcast without a word.
        if mask.shape != (n,):
            raise ConfigError(
                f"an action mask must have an entry for each of {n} actions, {self.spec.name!r} gave agent {agent!r}"
                f" {mask.astype(int).tolist()!r}; correct it in the environment"
            )
        if n and not mask.any():
            raise ConfigError(
                f"an action mask must allow at least one of {n} actions, {self.spec.name!r} gave agent {agent!r}"
                f" {mask.astype(int).tolist()!r}; correct it in the environment"
            )
        return mask

    def _write_features(self, row: FloatArray, task: Task, group: GroupLayout, agent: Any, infos: Infos) -> None:
        """Write the declared features of an agent into a row [F]."""
        try:
            # In the order of the specs; a missing name is a KeyError.
            values = task.features(agent, self._info(agent, infos))
            numbers = [values[name] for name in group.features] if hasattr(values, "keys") else None
        except KeyError as error:
            raise ConfigError(
                f"the features of feature_specs must be there at reset and at each step, in infos[agent]['features'] or"
                f" from features() of a Task; {self.spec.name!r} gave agent {agent!r} no {error}; add it there"
            ) from error
        try:
            _write_numbers(row, numbers)
        except NO_NUMBER as error:
            raise ConfigError(
                f"features must be a number by name, {self.spec.name!r} gave agent {agent!r} {values!r:.200};"
                " correct them in the environment"
            ) from error

    # ------------------------------------------------------------ rewards

    def paid(self, rewards: Mapping[Any, Any]) -> list[float]:
        """Return what each agent is paid, in the order of `ids`; who is not named is paid 0.

        Raises:
            ConfigError: a reward is no number, not finite, or so large that sums of it leave single precision.
        """
        amounts = []
        for agent in self.ids:
            reward = rewards.get(agent, 0.0)
            try:
                amount = float("nan") if isinstance(reward, str | bytes) else float(reward)
            except NO_NUMBER:
                amount = float("nan")
            # Not a number fails each comparison.
            if not -LARGEST <= amount <= LARGEST:
                raise ConfigError(
                    f"rewards must be finite and at most {LARGEST:g}, {self.spec.name!r} paid agent {agent!r}"
                    f" {shown(reward)}; mend the environment"
                )
            amounts.append(amount)
        return amounts

    def team_reward(self, rewards: Mapping[Any, Any], how: TeamReward) -> float:
        """Return the team's reward of a step, over *all* agents; raise ConfigError as `paid` does."""
        paid = self.paid(rewards)
        return sum(paid) / len(paid) if how == "mean" else sum(paid)

    # ------------------------------------------------------------ events

    def write_events(self, events: Sequence[FloatArray], e: int, task: Task, acted: set[Any], infos: Infos) -> None:
        """Write how often each event happened in the last step of environment e into `events` ([g] [E, A_g, V_g])."""
        for array, group in zip(events, self.groups, strict=True):
            for i, agent in enumerate(group.ids if group.events else ()):
                counts = self.event_counts(task, acted, agent, infos)
                try:
                    _write_numbers(array[e, i], [counts.get(name, 0) for name in group.events])
                except NO_NUMBER as error:
                    raise ConfigError(
                        f"events must be a number by name, {self.spec.name!r} gave agent {agent!r} {counts!r:.200};"
                        " correct them in the environment"
                    ) from error

    def event_counts(self, task: Task, acted: set[Any], agent: Any, infos: Infos) -> Mapping[str, int]:
        """Return the events of one agent in the last step; an agent that did not act in it has none.

        Raises:
            ConfigError: an event is missing, or has a name that no spec has.
        """
        if agent not in acted:
            return {}
        try:
            counts = task.events(agent, self._info(agent, infos))
        except KeyError as error:
            raise ConfigError(
                f"the events of a task must be there after each step of an agent, {self.spec.name!r} gave agent"
                f" {agent!r} no {error}; add it in the environment, or leave it out of what events() returns"
            ) from error
        if not isinstance(counts, Mapping):
            raise ConfigError(
                f"events must be a number by name, {self.spec.name!r} gave agent {agent!r} {shown(counts)}; correct"
                " them in the environment"
            )
        # A misspelt event would be 0 for ever.
        if not counts.keys() <= self._event_names:
            raise ConfigError(
                f"events must be named in event_specs, {self.spec.name!r} gave agent {agent!r}"
                f" {sorted(counts.keys() - self._event_names)!r}; correct the name, or declare it"
            )
        return counts


def check_actions(spec: TaskSpec, num_envs: int, actions: list[ActionArray]) -> None:
    """Check the actions of a batch: [g] [E, A_g] in 0..n_actions-1, or [E, A_g, k].

    Raises:
        ValueError: a shape is wrong, a choice out of range, or a number not finite.
    """
    for group, chosen in zip(spec.groups, actions, strict=True):
        shape = (num_envs, len(group.agents), *group.action_shape)
        if chosen.shape != shape:
            raise ValueError(f"actions of group {group.name!r} must have shape {shape}, got {chosen.shape}")
        if group.continuous:
            if not np.isfinite(chosen).all():
                raise ValueError(f"actions of group {group.name!r} must be finite numbers, got others; fix the policy")
            continue
        if chosen.min() < 0 or chosen.max() >= group.n_actions:
            raise ValueError(
                f"actions of group {group.name!r} must be in 0..{group.n_actions - 1},"
                f" got {chosen.min()}..{chosen.max()}; fix the policy"
            )


# ---------------------------------------------------------------- numbers that would spoil every weight


def not_finite(spec: TaskSpec, views: Views, events: Sequence[FloatArray] = ()) -> dict[int, str]:
    """Return what is not a finite number up to LARGEST, in words by row of the arrays; at most one of a row."""
    found: dict[int, str] = {}
    for verb, arrays in (("observes", views.obs), ("has the features", views.features), ("has the events", events)):
        for g, array in enumerate(arrays):
            fine = np.abs(array) <= LARGEST  # which is false of NaN
            if fine.all():
                continue
            group = spec.groups[g]
            names = {"has the features": group.feature_names(), "has the events": group.event_names()}.get(verb)
            for e, i, k in np.argwhere(~fine).tolist():
                place = f"number {k}" if names is None else repr(names[k])
                found.setdefault(
                    e,
                    f"numbers must be finite and at most {LARGEST:g}, agent {group.agents[i]!r} of {spec.name!r} {verb}"
                    f" {array[e, i].tolist()!r} ({place} is not); mend the environment, or scale what it shows",
                )
    return found
