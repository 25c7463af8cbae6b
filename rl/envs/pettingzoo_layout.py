"""What a PettingZoo `ParallelEnv` tells about itself, as a `TaskSpec`.

Agents with equal spaces (and equal declared features, events and action names) form a group and share network
parameters. If that is one group, it is called "agents", otherwise they are "group_0", "group_1", … in the order of
`possible_agents`. An environment may say more through attributes, all optional:

    feature_specs   {agent: [FeatureSpec or its dict, …]}: values come in infos[agent]["features"], at reset too
    event_specs     {agent: [EventSpec or its dict, …]}: counts come in infos[agent]["events"] (a missing one is 0)
    action_names    [str, …] for all agents
    has_success     whether infos[agent]["success"] is a success test (else: whether the key is seen in a short probe)
    deterministic   whether seed and actions decide everything (else: tried in a short probe)
    return_range    (worst, best) undiscounted episode return of the team's reward
    max_steps       time limit in steps
    description     the rules in words
    describe()      the current state in a line of text

Without `feature_specs` each observation component is a feature `obs_0`, `obs_1`, … with the bounds of its Box. Where
the Box has none (or an absurd one, beyond ±1e6) the feature is bounded by ±10 and its values are clipped to that; the
observation itself is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pydantic import BaseModel, ValidationError

from ...errors import ConfigError
from ..task import EventSpec, FeatureSpec, FloatArray, GroupSpec, TaskSpec

FAR = 1e6  # bounds beyond this say nothing
OPEN_BOUND = 10.0
PROBE_STEPS = 5

Declared = TypeVar("Declared", bound=BaseModel)


@dataclass(frozen=True)
class GroupLayout:
    """How group g's arrays are filled from the environment's dicts."""

    ids: tuple[Any, ...]  # the environment's own agent ids
    action_start: int  # of the Discrete space
    declared: bool  # features come from infos, else from the observation, clipped to:
    low: FloatArray  # [F]
    high: FloatArray  # [F]


@dataclass(frozen=True)
class Layout:
    spec: TaskSpec
    groups: tuple[GroupLayout, ...]


@dataclass(frozen=True)
class _Agent:
    """One agent's part of the spec; two agents are alike when all but the id is equal."""

    id: Any
    obs_bounds: tuple[tuple[float, float], ...]
    n_actions: int
    action_start: int
    features: tuple[FeatureSpec, ...]
    events: tuple[EventSpec, ...]
    declared: bool

    def kind(self) -> tuple[Any, ...]:
        return self.obs_bounds, self.n_actions, self.action_start, self.features, self.events, self.declared


def read_layout(env: Any, n_max: int | None = None) -> Layout:
    """Probe `env` (it is reset and stepped a few times).

    Args:
        env: a `ParallelEnv`.
        n_max: time limit that the wrapper adds, None for none.

    Raises:
        ConfigError: spaces other than 1-D Box observations and Discrete actions, or specs that do not fit.
    """
    agents = [_read_agent(env, agent) for agent in getattr(env, "possible_agents", ())]
    if not agents:
        raise ConfigError(f"an environment must name its agents, {env!s} has no possible_agents; set that attribute")
    alike: dict[tuple[Any, ...], list[_Agent]] = {}
    for agent in agents:
        alike.setdefault(agent.kind(), []).append(agent)
    names = ["agents"] if len(alike) == 1 else [f"group_{g}" for g in range(len(alike))]
    action_names = tuple(str(name) for name in getattr(env, "action_names", ()))
    groups = tuple(_group(name, members, action_names) for name, members in zip(names, alike.values(), strict=True))
    layouts = tuple(_group_layout(members) for members in alike.values())
    return Layout(_task_spec(env, groups, layouts, n_max), layouts)


def _read_agent(env: Any, agent: Any) -> _Agent:
    space, actions = env.observation_space(agent), env.action_space(agent)
    if not isinstance(space, Box) or len(space.shape) != 1 or space.shape[0] < 1:
        raise ConfigError(
            f"observations must be a 1-D Box, agent {agent!r} has {space!r}; flatten them in a wrapper"
            " (supersuit.flatten_v0 is one)"
        )
    if not isinstance(actions, Discrete) or actions.n < 2:
        raise ConfigError(
            f"actions must be Discrete with at least 2 choices, agent {agent!r} has {actions!r}; map them in a wrapper"
        )
    bounds = tuple(zip(space.low.astype(float).tolist(), space.high.astype(float).tolist(), strict=True))
    declared = _declared(env, "feature_specs", agent, FeatureSpec)
    return _Agent(
        id=agent,
        obs_bounds=bounds,
        n_actions=int(actions.n),
        action_start=int(actions.start),
        features=_observation_features(bounds) if declared is None else tuple(declared),
        events=tuple(_declared(env, "event_specs", agent, EventSpec) or ()),
        declared=declared is not None,
    )


def _declared(env: Any, attribute: str, agent: Any, model: type[Declared]) -> list[Declared] | None:
    """The specs that the environment declares for an agent, None where it has no such attribute."""
    table = getattr(env, attribute, None)
    if table is None:
        return None
    try:
        return [model.model_validate(item) for item in table[agent]]
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{attribute} must map every agent to a list of {model.__name__}, agent {agent!r} has a bad entry"
            f" ({type(error).__name__}: {error}); correct it in the environment"
        ) from error


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


def _group(name: str, members: list[_Agent], action_names: tuple[str, ...]) -> GroupSpec:
    first = members[0]
    return GroupSpec(
        name=name,
        agents=tuple(str(member.id) for member in members),
        obs_size=len(first.obs_bounds),
        n_actions=first.n_actions,
        action_names=action_names if len(action_names) == first.n_actions else (),
        features=first.features,
        events=first.events,
    )


def _group_layout(members: list[_Agent]) -> GroupLayout:
    first = members[0]
    return GroupLayout(
        ids=tuple(member.id for member in members),
        action_start=first.action_start,
        declared=first.declared,
        low=np.array([feature.low for feature in first.features], dtype=np.float32),
        high=np.array([feature.high for feature in first.features], dtype=np.float32),
    )


def _task_spec(
    env: Any, groups: tuple[GroupSpec, ...], layouts: tuple[GroupLayout, ...], n_max: int | None
) -> TaskSpec:
    name = str(getattr(env, "metadata", {}).get("name", type(env).__name__))
    first, success = _probe(env, layouts)
    again, _ = _probe(env, layouts)
    own_limit = getattr(env, "max_steps", None)
    limits = [int(limit) for limit in (own_limit, n_max) if limit is not None]
    agents = sum(len(group.agents) for group in groups)
    return TaskSpec(
        name=name,
        description=str(getattr(env, "description", f"The cooperative environment {name} with {agents} agents.")),
        groups=groups,
        return_range=getattr(env, "return_range", None),
        max_steps=min(limits, default=None),
        has_success=bool(getattr(env, "has_success", success)),
        deterministic=bool(getattr(env, "deterministic", first == again)),
    )


def _probe(env: Any, layouts: tuple[GroupLayout, ...]) -> tuple[list[bytes], bool]:
    """Play the first steps of the episode with seed 0: what was observed, and whether a success test was seen."""
    starts = {agent: group.action_start for group in layouts for agent in group.ids}
    observations, infos = env.reset(seed=0)
    seen, success = [_as_bytes(observations)], _shows_success(infos)
    for _ in range(PROBE_STEPS):
        if not env.agents:
            break
        # The spaces' second action: the first is a no-op in many environments.
        observations, rewards, _, _, infos = env.step({agent: starts[agent] + 1 for agent in env.agents})
        seen.append(_as_bytes(observations) + _as_bytes(rewards))
        success = success or _shows_success(infos)
    return seen, success


def _as_bytes(values: dict[Any, Any]) -> bytes:
    return b"".join(np.asarray(values[agent], dtype=np.float64).tobytes() for agent in sorted(values, key=str))


def _shows_success(infos: dict[Any, Any]) -> bool:
    return any("success" in info for info in infos.values() if isinstance(info, dict))
