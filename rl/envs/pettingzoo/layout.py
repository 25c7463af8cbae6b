"""Spaces of Gymnasium that can be batched: observations as rows of numbers, actions as choices or bounded numbers.

Observations: Box of any shape (flattened), Discrete and MultiDiscrete (one-hot), MultiBinary; or PettingZoo's Dict of
"observation" and "action_mask". Actions: Discrete, with a mask in the observation or in infos[agent]["action_mask"]
where there is one; or a bounded Box.
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

# ---------------------------------------------------------------- MERGED rl.envs.spaces

OBSERVATION, MASK = "observation", "action_mask"


@dataclass(frozen=True)
class ObservationSpace:
    """`bounds`: of each component of the flat observation. `masked`: it comes in a Dict with the mask."""

    space: Space[Any]
    bounds: tuple[tuple[float, float], ...]
    masked: bool

    def flat(self, observed: Any) -> Any:
        """The observation as a row of numbers, [O]."""
        inner = observed[OBSERVATION] if self.masked else observed
        if isinstance(self.space, Box):
            return inner if len(self.space.shape) == 1 else np.ravel(inner)
        return flatten(self.space, inner)

    def mask(self, observed: Any, info: Mapping[str, Any]) -> BoolArray | None:
        """[U] of what is allowed; None where nobody says, so that all is."""
        told = observed.get(MASK) if self.masked else info.get(MASK)
        return None if told is None else np.asarray(told).astype(np.bool_)


@dataclass(frozen=True)
class ActionSpace:
    """`n` choices from `start` on, or a Box: `bounds` of each number."""

    n: int
    start: int = 0
    bounds: tuple[tuple[float, float], ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "int64"

    @property
    def width(self) -> int:
        """Numbers that say one action."""
        return len(self.bounds) or 1

    def action(self, row: Sequence[float]) -> Any:
        """What the environment takes, from one row [width]: the number of a choice, or numbers in -1..1 (clipped)."""
        if not self.bounds:
            return self.start + int(row[0])
        low, high = np.array(self.bounds).T
        return (low + (high - low) * (np.clip(row, -1.0, 1.0) + 1) / 2).reshape(self.shape).astype(self.dtype)

    def probe(self, mask: BoolArray | None) -> Any:
        """Some action that may be taken; the first is a no-op in many environments, so the second is preferred."""
        if self.bounds:
            return self.action([0.5] * self.width)
        allowed = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        if not len(allowed):
            raise ConfigError(
                f"an action mask must allow at least one of {self.n} actions, got none; correct it in the environment"
            )
        return self.start + int(allowed[min(1, len(allowed) - 1)])


def read_observations(agent: Any, space: Space[Any]) -> ObservationSpace:
    """Raises ConfigError for a space that is not in the list above."""
    masked = isinstance(space, Dict) and set(space.spaces) == {OBSERVATION, MASK}
    inner: Space[Any] = space[OBSERVATION] if masked and isinstance(space, Dict) else space
    if not isinstance(inner, Box | Discrete | MultiDiscrete | MultiBinary) or not np.prod(inner.shape or (1,)):
        raise ConfigError(
            f"observations must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of {OBSERVATION!r} and"
            f" {MASK!r}, agent {agent!r} has {space!r}; put the parts into one Box in a wrapper"
        )
    flat = flatten_space(inner)
    assert isinstance(flat, Box)
    bounds = tuple(zip(flat.low.astype(float).tolist(), flat.high.astype(float).tolist(), strict=True))
    return ObservationSpace(inner, bounds, masked)


def read_actions(agent: Any, space: Space[Any]) -> ActionSpace:
    """Raises ConfigError for a space that is not in the list above."""
    if isinstance(space, Discrete) and space.n >= 2:
        return ActionSpace(int(space.n), int(space.start))
    if isinstance(space, Box) and space.shape and np.prod(space.shape) and space.is_bounded():
        bounds = tuple(
            zip(space.low.ravel().astype(float).tolist(), space.high.ravel().astype(float).tolist(), strict=True)
        )
        return ActionSpace(0, 0, bounds, space.shape, str(space.dtype))
    raise ConfigError(
        f"actions must be Discrete with at least 2 choices, or a bounded Box, agent {agent!r} has {space!r}; map them"
        " in a wrapper (one choice for each combination, or bounds on the Box)"
    )


# ---------------------------------------------------------------- MERGED rl.envs.pettingzoo_layout
# DOC """What a PettingZoo `ParallelEnv` tells about itself, as a `TaskSpec`.
# DOC
# DOC Agents with equal spaces (and equal features, events and action names) form a group and share network parameters, or
# DOC those that the task's `groups()` names. If that is one group, it is called "agents", otherwise they are "group_0",
# DOC "group_1", … in the order of `possible_agents`. An environment may say more through attributes, all optional, or a
# DOC `Task` in its place:
# DOC
# DOC     feature_specs   {agent: [FeatureSpec or its dict, …]}: values come in infos[agent]["features"], at reset too
# DOC     event_specs     {agent: [EventSpec or its dict, …]}: counts come in infos[agent]["events"] (a missing one is 0)
# DOC     action_names    [str, …] for all agents
# DOC     has_masks       False: no action is ever forbidden and nobody leaves before the others (else: it may be so)
# DOC     has_success     whether infos[agent]["success"] is a success test (else: whether the key is seen in a short probe
# DOC                     of at most 300 steps, or a `Task` has a `success` of its own)
# DOC     deterministic   whether seed and actions decide everything (else: tried in a short probe)
# DOC     return_range    (worst, best) undiscounted episode return of the team's reward
# DOC     max_steps       time limit in steps
# DOC     description     the rules in words
# DOC     describe()      the current state in a line of text
# DOC
# DOC Observations are what `spaces` reads. Without `feature_specs` each of their components is a feature `obs_0`, `obs_1`, …
# DOC with the bounds of its Box. Where the Box has none (or an absurd one, beyond ±1e6) the feature is bounded by ±10 and its
# DOC values are clipped to that; the observation itself is left alone.
# DOC """

FAR = 1e6  # bounds beyond this say nothing
OPEN_BOUND = 10.0
PROBE_STEPS = 5
LONG_PROBE = 300  # where nobody says whether there is a success test: its key may come with an episode's end only


@dataclass(frozen=True)
class GroupLayout:
    """How group g's arrays are filled from the environment's dicts."""

    ids: tuple[Any, ...]  # the environment's own agent ids
    observations: ObservationSpace
    actions: ActionSpace
    declared: bool  # features come from the task, else from the observation
    clipped: bool  # to the following, where the observation's own bounds are wider
    low: FloatArray  # [F]
    high: FloatArray  # [F]
    features: tuple[str, ...]  # names
    events: tuple[str, ...]
    first_only: BoolArray  # [U] the mask of who has left
    identity: FloatArray  # [A_g, I] written behind each agent's observation; I may be 0


@dataclass(frozen=True)
class Layout:
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
        space = type(self.observations.space).__name__, str(self.observations.space), self.observations.masked
        return space, self.observations.bounds, self.actions, self.features, self.events, self.declared


def read_layout(task: Task, n_max: int | None = None, agent_ids: bool = False) -> Layout:
    """Probe `task` (its environment is reset and stepped a few times).

    Args:
        task: of one environment.
        n_max: time limit that the wrapper adds, None for none.
        agent_ids: whether an agent of a larger group observes its place in it, one-hot, behind what it sees. Agents
            that share a policy and see alike would else act alike.

    Raises:
        ConfigError: spaces that `spaces` cannot read, specs or groups that do not fit.
    """
    agents = [_read_agent(task, agent) for agent in getattr(task.env, "possible_agents", ())]
    if not agents:
        raise ConfigError(
            f"an environment must name its agents, {task.env!s} has no possible_agents; set that attribute"
        )
    named = _grouped(task, agents)
    action_names = tuple(str(name) for name in task.told("action_names", ()))
    layouts = tuple(_group_layout(members, agent_ids) for members in named.values())
    groups = tuple(
        _group(name, members, action_names, task.told("stay"), layout.identity.shape[1])
        for (name, members), layout in zip(named.items(), layouts, strict=True)
    )
    return Layout(_task_spec(task, groups, layouts, n_max), layouts)


def _read_agent(task: Task, agent: Any) -> _Agent:
    observations = read_observations(agent, task.env.observation_space(agent))
    actions = read_actions(agent, task.env.action_space(agent))
    try:
        features, events = task.feature_specs(agent), task.event_specs(agent)
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"feature_specs and event_specs must map every agent to a list of FeatureSpec and EventSpec, agent"
            f" {agent!r} has a bad entry ({_in_a_line(error)}); correct it in the environment"
        ) from error
    found = _observation_features(observations.bounds) if features is None else tuple(features)
    return _Agent(agent, observations, actions, found, tuple(events), features is not None)


def _in_a_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    return ", ".join(f"{'.'.join(map(str, x['loc']))}: {x['msg']}, got {x['input']!r}" for x in error.errors())


def _grouped(task: Task, agents: Sequence[_Agent]) -> dict[str, list[_Agent]]:
    """Raises ConfigError where named groups leave an agent out, have one twice, or hold agents that are not alike."""
    named = task.groups()
    if named is None:
        alike: dict[tuple[Any, ...], list[_Agent]] = {}
        for agent in agents:
            alike.setdefault(agent.kind(), []).append(agent)
        names = ["agents"] if len(alike) == 1 else [f"group_{g}" for g in range(len(alike))]
        return dict(zip(names, alike.values(), strict=True))
    by_id = {agent.id: agent for agent in agents}
    members = [agent for ids in named.values() for agent in ids]
    if sorted(members, key=str) != sorted(by_id, key=str):
        raise ConfigError(
            f"groups must name every agent once, got {members!r} for {list(by_id)!r}; correct groups() of the task"
        )
    found = {name: [by_id[agent] for agent in ids] for name, ids in named.items() if ids}
    for name, group in found.items():
        if len({agent.kind() for agent in group}) > 1:
            raise ConfigError(
                f"agents of a group must have equal spaces, features and events, those of {name!r} differ;"
                " split it in groups() of the task"
            )
    return found


def _observation_features(bounds: Sequence[tuple[float, float]]) -> tuple[FeatureSpec, ...]:
    features = []
    for k, (low, high) in enumerate(bounds):
        shown = _finite_bounds(low, high)
        clipped = "" if shown == (low, high) else f", clipped to {shown[0]:g}..{shown[1]:g}"
        text = f"Component {k} of the agent's observation{clipped}."
        features.append(FeatureSpec(name=f"obs_{k}", kind="quantity", low=shown[0], high=shown[1], description=text))
    return tuple(features)


def _finite_bounds(low: float, high: float) -> tuple[float, float]:
    """An open end is put at ±10, or 20 from the other end where that is needed."""
    low_open, high_open = low < -FAR, high > FAR
    if low_open and high_open:
        return -OPEN_BOUND, OPEN_BOUND
    if low_open:
        return min(-OPEN_BOUND, high - 2 * OPEN_BOUND), high
    if high_open:
        return low, max(OPEN_BOUND, low + 2 * OPEN_BOUND)
    return low, high


def _group(
    name: str, members: list[_Agent], action_names: tuple[str, ...], stay: int | None, identity: int
) -> GroupSpec:
    first = members[0]
    return GroupSpec(
        name=name,
        agents=tuple(str(member.id) for member in members),
        obs_size=len(first.observations.bounds) + identity,
        n_actions=first.actions.n,
        action_bounds=first.actions.bounds,
        action_names=action_names if len(action_names) == first.actions.n else (),
        stay=stay,
        features=first.features,
        events=first.events,
    )


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


def _task_spec(
    task: Task, groups: tuple[GroupSpec, ...], layouts: tuple[GroupLayout, ...], n_max: int | None
) -> TaskSpec:
    first, success = _probe(task, layouts)
    again, _ = _probe(task, layouts)
    limits = [int(limit) for limit in (task.told("max_steps"), n_max) if limit is not None]
    agents = sum(len(group.agents) for group in groups)
    return TaskSpec(
        name=task.name,
        description=str(task.told("description", f"The cooperative environment {task.name} with {agents} agents.")),
        groups=groups,
        return_range=task.told("return_range"),
        max_steps=min(limits, default=None),
        has_success=bool(task.told("has_success", success or type(task).success is not Task.success)),
        has_masks=bool(task.told("has_masks", True)),  # anybody may leave early, and an environment cannot be asked
        deterministic=bool(task.told("deterministic", first == again)),
    )


def _probe(task: Task, layouts: tuple[GroupLayout, ...]) -> tuple[list[bytes], bool]:
    """Play the first steps of the episode with seed 0: what was observed, and whether a success test was seen."""
    layout_of = {agent: group for group in layouts for agent in group.ids}
    env = task.env
    observations, infos = env.reset(seed=0)
    seen, success = [_as_bytes(layout_of, observations)], _shows_success(infos)
    for t in range(PROBE_STEPS if success or task.told("has_success") is not None else LONG_PROBE):
        if not env.agents or (t >= PROBE_STEPS and success):
            break
        chosen = {}
        for agent in env.agents:
            group = layout_of[agent]
            mask = group.observations.mask(observations[agent], infos.get(agent, {}))
            if mask is not None and task.told("has_masks") is False:
                raise ConfigError(
                    f"{task.name!r} has declared has_masks = False, but gave agent {agent!r} an action mask;"
                    " take the declaration out"
                )
            chosen[agent] = group.actions.probe(mask)
        observations, rewards, _, _, infos = env.step(chosen)
        seen.append(_as_bytes(layout_of, observations) + np.array(list(rewards.values()), np.float64).tobytes())
        success = success or _shows_success(infos)
    return seen, success


def _as_bytes(layout_of: Mapping[Any, GroupLayout], observations: Mapping[Any, Any]) -> bytes:
    flat = [layout_of[a].observations.flat(observations[a]) for a in sorted(observations, key=str)]
    return b"".join(np.asarray(x, dtype=np.float64).tobytes() for x in flat)


def _shows_success(infos: Mapping[Any, Any]) -> bool:
    return any("success" in info for info in infos.values() if isinstance(info, dict))
