"""`reset` and `step` of a `ParallelEnv`, and whether what they return has the form that PettingZoo asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Any, NamedTuple

from ....errors import ConfigError
from ..adapter import Task, as_flag
from .spaces import shown

ByAgent = Mapping[Any, Any]

RESET = ("observations", "infos")
STEP = ("observations", "rewards", "terminations", "truncations", "infos")


class Moved(NamedTuple):
    """What `step` returns, by agent."""

    observations: ByAgent
    rewards: ByAgent
    terminations: ByAgent
    truncations: ByAgent
    infos: ByAgent


def reset(task: Task, agents: Set[Any], seed: int) -> tuple[ByAgent, ByAgent]:
    """Start the episode of `seed`; return observations and infos.

    Args:
        task: of the environment.
        agents: all that may ever be there.
        seed: for the environment.

    Raises:
        ConfigError: something else is returned, or nobody is there.
    """
    observations, infos = _dicts(task, "reset", RESET, task.env.reset(seed=seed))
    _check_agents(task, "reset", agents, observations)
    if not task.env.agents:
        raise ConfigError(
            f"reset must set `agents` to those who act first, {task.name!r} has nobody there; set it to a list of"
            " possible_agents"
        )
    return observations, infos


def step(task: Task, agents: Set[Any], actions: dict[Any, Any]) -> Moved:
    """Make one joint step with `actions` of the living agents; `agents` are all that may ever be there.

    Raises:
        ConfigError: something else than five dicts by agent is returned, a termination or truncation is no flag, an
            agent that stays has no observation, or somebody is paid whom nobody knows.
    """
    moved = Moved(*_dicts(task, "step", STEP, task.env.step(actions)))
    if not moved.rewards.keys() <= agents:
        raise ConfigError(
            f"rewards must be those of agents in possible_agents, {task.name!r} pays"
            f" {sorted(moved.rewards.keys() - agents, key=str)!r}; name them as possible_agents does"
        )
    # Their truth is taken everywhere, and a text or NaN would be true.
    for name, flags in (("terminations", moved.terminations), ("truncations", moved.truncations)):
        for agent, flag in flags.items():
            if type(flag) is not bool and as_flag(flag) is None:  # the first takes no time
                raise ConfigError(
                    f"{name} must hold True or False by agent, {task.name!r} gave agent {agent!r} {shown(flag)}; say"
                    " whether it has ended"
                )
    _check_agents(task, "step", agents, moved.observations, moved.terminations, moved.truncations)
    return moved


def ending(task: Task, moved: Moved, steps: int, n_max: int | None) -> tuple[bool, bool]:
    """Return (terminated, truncated) of the whole episode after a step; at most one is true.

    Args:
        task: of the environment, which has just been stepped.
        moved: what the step returned.
        steps: those of the episode so far.
        n_max: a limit that the environment does not know of, None for none.
    """
    flags_of = (moved.terminations, moved.truncations)
    gone = {agent for flags in flags_of for agent, flag in flags.items() if flag}
    if set(task.env.agents) - gone:
        return False, n_max is not None and steps >= n_max
    # Nobody is left: the last ones left by a limit, or the episode is over.
    by_limit = any(flag and not moved.terminations.get(agent) for agent, flag in moved.truncations.items())
    return not by_limit, by_limit


def _dicts(task: Task, call: str, names: tuple[str, ...], returned: Any) -> Any:
    """Return what a call returned; raise ConfigError where it is not a tuple of dicts with these names."""
    if not isinstance(returned, tuple | list) or len(returned) != len(names):
        hint = "return {agent: {} for agent in agents} as infos, too" if call == "reset" else "return all of them"
        if call == "step" and isinstance(returned, tuple | list) and len(returned) == len(STEP) - 1:
            hint = "an older API has one dict of dones in the place of terminations and truncations, split it"
        raise ConfigError(f"{call} must return ({', '.join(names)}), {task.name!r} returned {shown(returned)}; {hint}")
    for name, value in zip(names, returned, strict=True):
        if type(value) is not dict and not isinstance(value, Mapping):  # the first takes no time
            raise ConfigError(
                f"{call} must return {name} as a dict by agent, {task.name!r} returned {shown(value)} there;"
                f" return {{agent: … for agent in agents}}"
            )
    return returned


def _check_agents(task: Task, call: str, agents: Set[Any], observations: ByAgent, *endings: ByAgent) -> None:
    """Raise ConfigError where somebody is there whom nobody knows, or who does not observe anything."""
    named = getattr(task.env, "agents", None)
    if not isinstance(named, Collection):
        raise ConfigError(
            f"{call} must set `agents` to a list of those who act next, {task.name!r} has {shown(named)} there; set it"
            " also where nobody is left, to []"
        )
    there = set(named)
    if not there <= agents:
        raise ConfigError(
            f"`agents` must be in possible_agents, {task.name!r} has {sorted(there - agents, key=str)!r} after {call};"
            " name everybody who may ever be there in possible_agents"
        )
    if there <= observations.keys():
        return
    # One that has just ended may still be in `agents`, and observe nothing any more.
    ended = {agent for flags in endings for agent, flag in flags.items() if flag}
    if missing := there - observations.keys() - ended:
        raise ConfigError(
            f"{call} must return an observation of each agent in `agents`, {task.name!r} returned none of"
            f" {sorted(missing, key=str)!r}; give one also where an agent skips its turn, or take who has left out of"
            " `agents`"
        )
