"""What an environment declares, or a `Task` in its place: groups of agents, features, events, limit and range.

See `layout` for the names of the declarations.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from ....errors import ConfigError
from ...task import BoolArray, EventSpec, FeatureSpec, FloatArray, GroupSpec, TaskSpec
from ..adapter import Task, as_flag
from .spaces import ActionSpace, ObservationSpace, read_actions, read_observations, shown

FAR = 1e6  # bounds beyond this say nothing
OPEN_BOUND = 10.0


# ---------------------------------------------------------------- groups


@dataclass(frozen=True)
class GroupLayout:
    """A rule that fills the arrays of one group from the environment's dicts."""

    ids: tuple[Any, ...]  # the environment's own agent ids
    observations: ObservationSpace
    actions: ActionSpace
    declared: bool  # features come from the task, else from the observation
    clipped: bool  # to the following, where the observation's own bounds are wider
    low: FloatArray  # [F]
    high: FloatArray  # [F]
    features: tuple[str, ...]  # names
    events: tuple[str, ...]  # names
    first_only: BoolArray  # [U] the mask of an agent that has left
    identity: FloatArray  # [A_g, I] written behind each agent's observation; I may be 0


@dataclass(frozen=True)
class Layout:
    """A task's spec, and how its arrays are filled; `groups` follow the spec's."""

    spec: TaskSpec
    groups: tuple[GroupLayout, ...]


@dataclass(frozen=True)
class _Agent:
    """One agent's part of the spec; two agents are alike when all but the id is equal."""

    id: Any
    observations: ObservationSpace
    actions: ActionSpace
    features: tuple[FeatureSpec, ...]
    events: tuple[EventSpec, ...]
    declared: bool

    def kind(self) -> tuple[Any, ...]:
        """Return what is equal for agents that are alike."""
        space = type(self.observations.space).__name__, str(self.observations.space), self.observations.masked
        return space, self.observations.bounds, self.actions, self.features, self.events, self.declared


def declared_layout(task: Task, n_max: int | None = None, agent_ids: bool = False) -> Layout:
    """Read what `task` and its environment declare, without playing.

    Success test and determinism are those that are declared, else False: `layout.read_layout` looks for them.

    Args:
        task: of one environment.
        n_max: time limit that the wrapper adds, None for none.
        agent_ids: whether an agent of a larger group observes its place in it, one-hot, behind what it sees. Agents
            that share a policy and see alike would else act alike.

    Raises:
        ConfigError: spaces cannot be batched, or specs, groups, limit, range, flags or `stay` do not fit.
    """
    agents = [_read_agent(task, agent) for agent in _agent_ids(task)]
    # One list for all; a group with another number of choices goes without names, and one with too few without `stay`.
    action_names = tuple(str(name) for name in task.declared("action_names", ()))
    stay = _stay(task, max(agent.actions.n for agent in agents))
    groups, layouts = [], []
    for name, members in _grouped(task, agents).items():
        layout = _group_layout(members, agent_ids)
        layouts.append(layout)
        first = members[0]
        groups.append(
            GroupSpec(
                name=name,
                agents=tuple(str(member.id) for member in members),
                obs_size=len(first.observations.bounds) + layout.identity.shape[1],
                image=first.observations.image,
                n_actions=first.actions.n,
                action_bounds=first.actions.bounds,
                action_names=action_names if len(action_names) == first.actions.n else (),
                stay=stay if stay is not None and stay < first.actions.n else None,
                features=first.features,
                events=first.events,
            )
        )

    # The earlier of both limits ends an episode.
    limits = [limit for limit in (_max_steps(task), n_max) if limit is not None]
    description = f"The cooperative environment {task.name} with {len(agents)} agents."
    spec = TaskSpec(
        name=task.name,
        description=str(task.declared("description", description)),
        groups=tuple(groups),
        return_range=_return_range(task),
        max_steps=min(limits, default=None),
        has_success=declared_flag(task, "has_success") is True,
        # An environment cannot be asked whether anybody may leave.
        has_masks=declared_flag(task, "has_masks") is not False,
        deterministic=declared_flag(task, "deterministic") is True,
    )
    return Layout(spec, tuple(layouts))


def declared_flag(task: Task, name: str) -> bool | None:
    """Return `has_masks`, `has_success` or `deterministic` as it is declared, None where it is not.

    Raises:
        ConfigError: it is neither True nor False.
    """
    declared = task.declared(name)
    flag = None if declared is None else as_flag(declared)
    if flag is None and declared is not None:
        raise ConfigError(
            f"{name} must be True or False, {task.name!r} declares {shown(declared)}; correct it, or set it to None"
            " where it is not known"
        )
    return flag


def _stay(task: Task, choices: int) -> int | None:
    """Return the declared choice of not acting; raise ConfigError where it is none of `choices`."""
    declared = task.declared("stay")
    if declared is None:
        return None
    number = isinstance(declared, int | float | np.integer | np.floating) and not isinstance(declared, bool)
    if not number or declared not in range(choices):
        has = f"one of the choices 0..{choices - 1}" if choices else "left out where actions are numbers in a Box"
        raise ConfigError(
            f"stay must be {has}, {task.name!r} declares {shown(declared)}; correct it, or set it to None where there"
            " is no such choice"
        )
    return int(declared)


def _agent_ids(task: Task) -> list[Any]:
    """Return who may ever be there; raise ConfigError where that is not said."""
    named = getattr(task.env, "possible_agents", None)
    if isinstance(named, str) or not isinstance(named, Collection) or not 0 < len(named) == len(set(named)):
        raise ConfigError(
            f"an environment must name its agents in possible_agents, each once, {task.name!r} has"
            f" {shown(named)} there; set it to a list of names"
        )
    return list(named)


def _max_steps(task: Task) -> int | None:
    """Return the declared time limit; raise ConfigError where it is no number of steps."""
    limit = task.declared("max_steps")
    if limit is None:
        return None
    try:
        steps = int(limit)
    except (TypeError, ValueError, OverflowError):  # also an infinite one
        steps = 0
    if isinstance(limit, bool) or steps != limit or steps < 1:
        raise ConfigError(
            f"max_steps must be a whole number of steps, at least 1, {task.name!r} declares {limit!r}; correct it, or"
            " set it to None where there is no limit"
        )
    return steps


def _return_range(task: Task) -> tuple[float, float] | None:
    """Return the declared (worst, best) return; raise ConfigError where it is no range."""
    declared = task.declared("return_range")
    if declared is None:
        return None
    try:
        low, high = (float(bound) for bound in declared)
    except (TypeError, ValueError, OverflowError):
        low = high = np.nan
    if isinstance(declared, str) or not -np.inf < low < high < np.inf:
        raise ConfigError(
            f"return_range must be (worst, best), two finite numbers in this order, {task.name!r} declares"
            f" {declared!r:.200}; correct it, or set it to None where it is not known"
        )
    return low, high


def _read_agent(task: Task, agent: Any) -> _Agent:
    """Read spaces, features and events of one agent; raise ConfigError where they cannot be read."""
    observations = read_observations(agent, task.env.observation_space(agent))
    actions = read_actions(agent, task.env.action_space(agent))
    try:
        features, events = task.feature_specs(agent), task.event_specs(agent)
    except (KeyError, TypeError, ValidationError) as error:
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, ValidationError):  # its own text has many lines
            problem = ", ".join(
                f"{'.'.join(map(str, x['loc']))}: {x['msg'].removeprefix('Value error, ')}, got {x['input']!r:.80}"
                for x in error.errors()
            )
        raise ConfigError(
            f"feature_specs and event_specs must map every agent to a list of FeatureSpec and EventSpec, agent"
            f" {agent!r} has a bad entry ({problem}); correct it in the environment"
        ) from error
    # Without declared features the observation itself shows them.
    specs = _observation_features(observations.bounds) if features is None else tuple(features)
    return _Agent(agent, observations, actions, specs, tuple(events), features is not None)


def _observation_features(bounds: Sequence[tuple[float, float]]) -> tuple[FeatureSpec, ...]:
    """Make each component of the observation a feature.

    An open end is put at ±10, or 20 from the other end where that is needed.
    """
    features = []
    for k, (low, high) in enumerate(bounds):
        # A bound that is infinite on the wrong side says nothing, either.
        low_open, high_open = low < -FAR or low == np.inf, high > FAR or high == -np.inf
        shown = low, high
        if low_open and high_open:
            shown = -OPEN_BOUND, OPEN_BOUND
        elif low_open:
            shown = min(-OPEN_BOUND, high - 2 * OPEN_BOUND), high
        elif high_open:
            shown = low, max(OPEN_BOUND, low + 2 * OPEN_BOUND)
        clipped = "" if shown == (low, high) else f", clipped to {shown[0]:g}..{shown[1]:g}"
        text = f"Component {k} of the agent's observation{clipped}."
        features.append(FeatureSpec(name=f"obs_{k}", kind="quantity", low=shown[0], high=shown[1], description=text))
    return tuple(features)


def _grouped(task: Task, agents: Sequence[_Agent]) -> dict[str, list[_Agent]]:
    """Return the agents of each group by its name.

    Raises ConfigError where named groups leave an agent out, have one twice, or hold agents that are not alike.
    """
    named = task.groups()
    if named is None:
        alike: dict[tuple[Any, ...], list[_Agent]] = {}
        for agent in agents:
            alike.setdefault(agent.kind(), []).append(agent)
        names = ["agents"] if len(alike) == 1 else [f"group_{g}" for g in range(len(alike))]
        return dict(zip(names, alike.values(), strict=True))
    by_id = {agent.id: agent for agent in agents}
    members = [agent for ids in named.values() for agent in ids]
    # By text, since ids may be of any type.
    if sorted(members, key=str) != sorted(by_id, key=str):
        raise ConfigError(
            f"groups must name every agent once, got {members!r} for {list(by_id)!r}; correct groups() of the task"
        )
    groups = {name: [by_id[agent] for agent in ids] for name, ids in named.items() if ids}
    for name, group in groups.items():
        if len({agent.kind() for agent in group}) > 1:
            raise ConfigError(
                f"agents of a group must have equal spaces, features and events, those of {name!r} differ;"
                " split it in groups() of the task"
            )
    return groups


def _group_layout(members: list[_Agent], agent_ids: bool) -> GroupLayout:
    first, number = members[0], len(members)
    return GroupLayout(
        ids=tuple(member.id for member in members),
        observations=first.observations,
        actions=first.actions,
        declared=first.declared,
        clipped=[(x.low, x.high) for x in first.features] != list(first.observations.bounds),
        features=tuple(feature.name for feature in first.features),
        events=tuple(event.name for event in first.events),
        first_only=np.arange(first.actions.n) == 0,
        identity=np.eye(number, number if agent_ids and number > 1 else 0, dtype=np.float32),
        low=np.array([feature.low for feature in first.features], dtype=np.float32),
        high=np.array([feature.high for feature in first.features], dtype=np.float32),
    )
