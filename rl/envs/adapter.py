"""Checks of what a task is built with; `task.env_args` of a config may hold anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..task import EventSpec, FeatureSpec, Heuristic

# ---------------------------------------------------------------- MERGED rl.envs.arguments


def require_at_least(low: int, **given: int) -> None:
    """Raises ValueError for an argument below `low`."""
    for name, value in given.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value!r}; raise it")


# ---------------------------------------------------------------- MERGED rl.envs.own_task
# DOC """`Task`: a PettingZoo `ParallelEnv` and what may be said about it. Subclass it to say more than it does itself."""

Infos = Mapping[Any, Mapping[str, Any]]  # by agent, as `reset` and `step` of a ParallelEnv give them


class Task:
    """Says nothing by itself: everything is read from the environment, where it has the attribute of that name.

    In a subclass set what is known, and override the methods. `task.env` of a config may name the class itself, if its
    `__init__` builds the environment. One object follows one environment.

    Attributes (None: what the environment's attribute of that name says, else what a short probe shows):
        description: the rules in words, without advice.
        return_range: (worst, best) undiscounted episode return of the team's reward.
        max_steps: time limit of an episode in steps.
        has_success: whether `success` is a test. It is where a subclass has its own; else the probe looks for "success"
            in infos.
        has_masks: whether actions may be forbidden or agents leave before the others; True where nobody says. False is
            a promise, which spares the networks what they need for it.
        deterministic: whether seed and actions decide everything.
        action_names: names of the choices, for agents with that many.
        stay: number of the choice of not acting.
        heuristic: a hand-written judge of single agents' moves, see `rl.task`.
        key_steps: what brings the team its rewards, in the order of a successful episode, a line each.
    """

    description: str | None = None
    return_range: tuple[float, float] | None = None
    max_steps: int | None = None
    has_success: bool | None = None
    has_masks: bool | None = None
    deterministic: bool | None = None
    action_names: Sequence[str] | None = None
    stay: int | None = None
    heuristic: Heuristic[Any] | None = None
    key_steps: Sequence[str] = ()

    def __init__(self, env: Any) -> None:
        self.env = env

    @property
    def name(self) -> str:
        return str(getattr(self.env, "metadata", {}).get("name", type(self.env).__name__))

    def told(self, attribute: str, default: Any = None) -> Any:
        """What this object says, else what the environment says, else `default`."""
        own = getattr(self, attribute)
        found = self._of_env(attribute) if own is None else own
        return default if found is None else found

    def _of_env(self, attribute: str) -> Any:
        """Of the environment, or of the one inside its wrappers; None where neither has it."""
        inner = getattr(self.env, "unwrapped", None)
        return getattr(self.env, attribute, getattr(inner, attribute, None))

    # ------------------------------------------------------------ said once

    def groups(self) -> Mapping[str, Sequence[Any]] | None:
        """Agents by the name of their group, whose members share a policy; None: agents with equal spaces."""
        return None

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec] | None:
        """None: each component of the observation is a feature."""
        table = self._of_env("feature_specs")
        return None if table is None else [FeatureSpec.model_validate(item) for item in table[agent]]

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:
        table = self._of_env("event_specs")
        return () if table is None else [EventSpec.model_validate(item) for item in table[agent]]

    # ------------------------------------------------------------ said after each reset and step

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        """By name, of a living agent; asked where `feature_specs` names some. `info`: the environment's, of the agent.
        A KeyError is told as what the environment lacks."""
        found: Mapping[str, float] = info["features"]
        return found

    def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:  # noqa: ARG002
        """How often by name in the last step, of an agent that acted in it (it may have left with it); a missing one is
        0. Like `features` it must depend on the environment's state alone: neither is asked in every replayed step."""
        found: Mapping[str, int] = info.get("events", {})
        return found

    def success(self, infos: Infos) -> bool:
        """Whether the episode that has just ended did."""
        return any(bool(info.get("success", False)) for info in infos.values())

    def describe(self) -> str:
        """The current state in a line of text; empty where there is none."""
        describe = self._of_env("describe")
        return "" if describe is None else str(describe())

    def viewpoint(self, agent: Any) -> str:
        """The current state in words from one living agent's side, itself as "you"; what a model ranks."""
        named = self.describe()
        return f"You are {agent}. {named}" if named else f"You are {agent}."


def as_task(made: Any) -> Task:
    """What a factory built, as a task of its own; an AEC environment is converted by PettingZoo.

    Raises:
        TypeError: it is neither a Task nor an environment of PettingZoo, or an AEC environment that does not promise
            to be the same with all agents at once.
    """
    from pettingzoo import AECEnv, ParallelEnv
    from pettingzoo.utils import aec_to_parallel

    if isinstance(made, Task):
        return made
    if isinstance(made, AECEnv):
        if not made.metadata.get("is_parallelizable", False):
            raise TypeError(f"a {type(made).__name__}, an AECEnv whose metadata has no 'is_parallelizable': True")
        made = aec_to_parallel(made)
    if not isinstance(made, ParallelEnv):
        raise TypeError(f"a {type(made).__name__}")
    return Task(made)
