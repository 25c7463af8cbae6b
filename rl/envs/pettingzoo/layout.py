"""The declarations of a PettingZoo `ParallelEnv`, as a `TaskSpec`.

Agents with equal spaces (and equal features, events and action names) form a group and share network parameters, or
those that the task's `groups()` names. If that is one group, it is called "agents", otherwise they are "group_0",
"group_1", … in the order of `possible_agents`. An environment may say more through attributes, all optional, or a
`Task` in its place:

    feature_specs   {agent: [FeatureSpec or its dict, …]}: values come in infos[agent]["features"], at reset too
    event_specs     {agent: [EventSpec or its dict, …]}: counts come in infos[agent]["events"] (a missing one is 0)
    action_names    [str, …] for all agents
    has_masks       False: no action is ever forbidden and nobody leaves before the others (else: it may be so)
    has_success     whether infos[agent]["success"] is a success test (else: whether the key is seen in a short probe
                    of at most 300 steps, or a `Task` has a `success` of its own)
    deterministic   whether seed and actions decide everything (else: tried in a short probe)
    return_range    (worst, best) undiscounted episode return of the team's reward
    max_steps       time limit in steps
    description     the rules in words
    describe()      the current state in a line of text

Spaces of Gymnasium that can be batched. Observations: Box of any shape (flattened), Discrete and MultiDiscrete
(one-hot), MultiBinary; or PettingZoo's Dict of "observation" and "action_mask". Actions: Discrete, with a mask in the
observation or in infos[agent]["action_mask"] where there is one; or a bounded Box.

Without `feature_specs` each component of the flat observation is a feature `obs_0`, `obs_1`, … with the bounds of its
Box. Where the Box has none (or an absurd one, beyond ±1e6) the feature is bounded by ±10 and its values are clipped to
that; the observation itself is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, flatten, flatten_space
from pydantic import ValidationError

from ....errors import ConfigError
from ...task import BoolArray, EventSpec, FeatureSpec, FloatArray, GroupSpec, TaskSpec
from ..adapter import Task

OBSERVATION, MASK = "observation", "action_mask"  # keys of PettingZoo's Dict
FAR = 1e6  # bounds beyond this say nothing
OPEN_BOUND = 10.0
PROBE_STEPS = 5
LONG_PROBE = 300  # where nobody says whether there is a success test: its key may come with an episode's end only


# ---------------------------------------------------------------- spaces


@dataclass(frozen=True)
class ObservationSpace:
    """A rule that makes an agent's observation a row of numbers.

    Attributes:
        space: the space of the observation itself, without a mask.
        bounds: (lowest, highest) of each component of the flat observation.
        masked: whether the observation comes in a Dict with the mask.
    """

    space: Space[Any]
    bounds: tuple[tuple[float, float], ...]
    masked: bool

    def flat(self, observed: Any) -> Any:
        """Return the observation as a row of numbers, [O]."""
        inner = observed[OBSERVATION] if self.masked else observed
        if isinstance(self.space, Box):
            return inner if len(self.space.shape) == 1 else np.ravel(inner)
        return flatten(self.space, inner)

    def mask(self, observed: Any, info: Mapping[str, Any]) -> BoolArray | None:
        """Return [U], which actions are allowed; None where nobody says, so that all are."""
        mask = observed.get(MASK) if self.masked else info.get(MASK)
        return None if mask is None else np.asarray(mask).astype(np.bool_)


@dataclass(frozen=True)
class ActionSpace:
    """A rule that makes numbers of a policy an agent's action: `n` choices from `start` on, or a Box.

    Attributes:
        n: number of choices, 0 for a Box.
        start: the environment's number of the first choice.
        bounds: (lowest, highest) of each number of a Box; empty for choices.
        shape: of the Box.
        dtype: of the Box.
    """

    n: int
    start: int = 0
    bounds: tuple[tuple[float, float], ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "int64"

    @property
    def width(self) -> int:
        """Number of numbers that say one action."""
        return len(self.bounds) or 1

    def action(self, row: Sequence[float]) -> Any:
        """Return what the environment takes, from one row [width].

        The row is the number of a choice, or numbers in -1..1 (clipped), which are scaled to the bounds.
        """
        if not self.bounds:
            return self.start + int(row[0])
        # -1 is the lowest, 1 the highest number.
        low, high = np.array(self.bounds).T
        return (low + (high - low) * (np.clip(row, -1.0, 1.0) + 1) / 2).reshape(self.shape).astype(self.dtype)

    def probe(self, mask: BoolArray | None) -> Any:
        """Return an action that may be taken; the first is a no-op in many environments, so the second is preferred.

        Raises:
            ConfigError: the mask allows none.
        """
        if self.bounds:
            return self.action([0.5] * self.width)
        allowed = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        if not len(allowed):
            raise ConfigError(
                f"an action mask must allow at least one of {self.n} actions, got none; correct it in the environment"
            )
        return self.start + int(allowed[min(1, len(allowed) - 1)])


def read_observations(agent: Any, space: Space[Any]) -> ObservationSpace:
    """Read an agent's observation space.

    Raises:
        ConfigError: the space is not in the list at the top.
    """
    masked = isinstance(space, Dict) and set(space.spaces) == {OBSERVATION, MASK}
    inner: Space[Any] = space[OBSERVATION] if masked and isinstance(space, Dict) else space
    if not isinstance(inner, Box | Discrete | MultiDiscrete | MultiBinary) or not np.prod(inner.shape or (1,)):
        raise ConfigError(
            f"observations must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of {OBSERVATION!r} and"
            f" {MASK!r}, agent {agent!r} has {space!r}; put the parts into one Box in a wrapper"
        )
    # Gymnasium's own flattening says the bounds of one-hot components, too.
    flat = flatten_space(inner)
    assert isinstance(flat, Box)
    bounds = tuple(zip(flat.low.astype(float).tolist(), flat.high.astype(float).tolist(), strict=True))
    return ObservationSpace(inner, bounds, masked)


def read_actions(agent: Any, space: Space[Any]) -> ActionSpace:
    """Read an agent's action space.

    Raises:
        ConfigError: the space is not in the list at the top.
    """
    if isinstance(space, Discrete) and space.n >= 2:
        return ActionSpace(int(space.n), int(space.start))
    # Without bounds there is nothing to scale -1..1 to.
    if isinstance(space, Box) and space.shape and np.prod(space.shape) and space.is_bounded():
        bounds = tuple(
            zip(space.low.ravel().astype(float).tolist(), space.high.ravel().astype(float).tolist(), strict=True)
        )
        return ActionSpace(0, 0, bounds, space.shape, str(space.dtype))
    raise ConfigError(
        f"actions must be Discrete with at least 2 choices, or a bounded Box, agent {agent!r} has {space!r}; map them"
        " in a wrapper (one choice for each combination, or bounds on the Box)"
    )


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


def read_layout(task: Task, n_max: int | None = None, agent_ids: bool = False) -> Layout:
    """Probe `task`, whose environment is reset and stepped a few times.

    Args:
        task: of one environment.
        n_max: time limit that the wrapper adds, None for none.
        agent_ids: whether an agent of a larger group observes its place in it, one-hot, behind what it sees. Agents
            that share a policy and see alike would else act alike.

    Raises:
        ConfigError: spaces cannot be batched, or specs or groups do not fit.
    """
    agents = [_read_agent(task, agent) for agent in getattr(task.env, "possible_agents", ())]
    if not agents:
        raise ConfigError(
            f"an environment must name its agents, {task.env!s} has no possible_agents; set that attribute"
        )
    # One list for all; a group with another number of choices goes without names.
    action_names = tuple(str(name) for name in task.declared("action_names", ()))
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
                n_actions=first.actions.n,
                action_bounds=first.actions.bounds,
                action_names=action_names if len(action_names) == first.actions.n else (),
                stay=task.declared("stay"),
                features=first.features,
                events=first.events,
            )
        )

    # Played twice: what differs is not deterministic.
    first_seen, success_seen = _probe(task, layouts)
    again, _ = _probe(task, layouts)
    # The earlier of both limits ends an episode.
    limits = [int(limit) for limit in (task.declared("max_steps"), n_max) if limit is not None]
    description = f"The cooperative environment {task.name} with {len(agents)} agents."
    spec = TaskSpec(
        name=task.name,
        description=str(task.declared("description", description)),
        groups=tuple(groups),
        return_range=task.declared("return_range"),
        max_steps=min(limits, default=None),
        has_success=bool(task.declared("has_success", success_seen or type(task).success is not Task.success)),
        has_masks=bool(task.declared("has_masks", True)),  # an environment cannot be asked whether anybody may leave
        deterministic=bool(task.declared("deterministic", first_seen == again)),
    )
    return Layout(spec, tuple(layouts))


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
                f"{'.'.join(map(str, x['loc']))}: {x['msg']}, got {x['input']!r}" for x in error.errors()
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
        low_open, high_open = low < -FAR, high > FAR
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


# ---------------------------------------------------------------- the probe


def _probe(task: Task, layouts: Sequence[GroupLayout]) -> tuple[list[bytes], bool]:
    """Play the first steps of the episode with seed 0; return what was observed and whether a success test was seen.

    Raises ConfigError where a mask comes in spite of `has_masks` False, or allows nothing.
    """
    layout_of = {agent: group for group in layouts for agent in group.ids}
    env = task.env
    observations, infos = env.reset(seed=0)
    seen, success = [_as_bytes(layout_of, observations)], _shows_success(infos)
    # The long probe looks for the key "success", where that is still open.
    for t in range(PROBE_STEPS if success or task.declared("has_success") is not None else LONG_PROBE):
        if not env.agents or (t >= PROBE_STEPS and success):
            break
        chosen = {}
        for agent in env.agents:
            group = layout_of[agent]
            mask = group.observations.mask(observations[agent], infos.get(agent, {}))
            if mask is not None and task.declared("has_masks") is False:
                raise ConfigError(
                    f"{task.name!r} has declared has_masks = False, but gave agent {agent!r} an action mask;"
                    " take the declaration out"
                )
            chosen[agent] = group.actions.probe(mask)
        observations, rewards, _, _, infos = env.step(chosen)
        # Bit for bit: the second probe must show the same.
        seen.append(_as_bytes(layout_of, observations) + np.array(list(rewards.values()), np.float64).tobytes())
        success = success or _shows_success(infos)
    return seen, success


def _as_bytes(layout_of: Mapping[Any, GroupLayout], observations: Mapping[Any, Any]) -> bytes:
    flat = [layout_of[a].observations.flat(observations[a]) for a in sorted(observations, key=str)]
    return b"".join(np.asarray(x, dtype=np.float64).tobytes() for x in flat)


def _shows_success(infos: Mapping[Any, Any]) -> bool:
    return any("success" in info for info in infos.values() if isinstance(info, dict))
