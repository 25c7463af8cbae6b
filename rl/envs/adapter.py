"""`Task`: a PettingZoo `ParallelEnv` and what is declared about it. Subclass it to declare more than it does itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import structlog

from ...errors import ConfigError
from ..task import EventSpec, FeatureSpec, Heuristic
from .pettingzoo.losses import RAISED, ends_us

Infos = Mapping[Any, Mapping[str, Any]]  # by agent, as `reset` and `step` of a ParallelEnv give them


class Task:
    """An environment with its declarations. One object follows one environment.

    By itself it declares nothing: everything is read from the environment, where it has the attribute of that name. In
    a subclass set what is known, and override the methods. `task.env` of a config may name the class itself, if its
    `__init__` builds the environment.

    Attributes (None: what the environment's attribute of that name says, else what a short probe shows):
        description: the rules in words, without advice.
        return_range: (worst, best) undiscounted episode return of the team's reward.
        max_steps: time limit of an episode in steps.
        has_success: whether `success` is a test. It is where a subclass overrides it; else the probe looks for
            "success" in infos.
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
        """The name in the environment's metadata, else the name of its class."""
        metadata = getattr(self.env, "metadata", None) or {}
        return str(metadata.get("name", type(self.env).__name__))

    def declared(self, attribute: str, default: Any = None) -> Any:
        """Return what this object declares, else what the environment declares, else `default`."""
        # A declaration of the subclass comes first.
        value = getattr(self, attribute)
        if value is None:
            value = self._of_env(attribute)
        return default if value is None else value

    def _of_env(self, attribute: str) -> Any:
        """Return an attribute of the environment, or of the one inside its wrappers; None where neither has it."""
        # Wrappers of PettingZoo do not pass every attribute on.
        inner = getattr(self.env, "unwrapped", None)
        return getattr(self.env, attribute, getattr(inner, attribute, None))

    # ------------------------------------------------------------ asked once

    def groups(self) -> Mapping[str, Sequence[Any]] | None:
        """Return agents by the name of their group, whose members share a policy; None groups those of equal spaces."""
        return None

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec] | None:
        """Return the features of an agent; None makes each component of its observation a feature."""
        table = self._of_env("feature_specs")
        return None if table is None else [FeatureSpec.model_validate(item) for item in table[agent]]

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:
        """Return the events that an agent can cause."""
        table = self._of_env("event_specs")
        return () if table is None else [EventSpec.model_validate(item) for item in table[agent]]

    # ------------------------------------------------------------ asked after each reset and step

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        """Return the features of a living agent by name; it is called where `feature_specs` names some.

        `info` is the environment's, of the agent. A KeyError is reported as a feature that the environment lacks.
        """
        features: Mapping[str, float] = info["features"]
        return features

    def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:  # noqa: ARG002
        """Return how often each event happened in the last step, by name; a missing one counts as 0.

        The agent acted in that step, and may have left with it. Like `features` it must depend on the environment's
        state alone: neither is called in every step that is replayed.
        """
        events: Mapping[str, int] = info.get("events", {})
        return events

    def success(self, infos: Infos) -> bool:
        """Return whether the episode that has just ended was a success.

        Raises:
            ConfigError: an agent's info has a "success" that is no flag; None says nothing.
        """
        told = {agent: info["success"] for agent, info in infos.items() if info.get("success") is not None}
        flags = {agent: as_flag(value) for agent, value in told.items()}
        for agent, flag in flags.items():
            if flag is None:
                raise ConfigError(
                    f"infos[agent]['success'] must be True or False, {self.name!r} gave agent {agent!r}"
                    f" {' '.join(repr(told[agent]).split()):.80}; correct it in the environment"
                )
        return any(flags.values())

    def describe(self) -> str:
        """Return the current state as a line of text; empty where there is none."""
        describe = self._of_env("describe")
        return "" if describe is None else str(describe())

    def render_text(self) -> str:
        """Return the current state as a picture of several lines of text; empty where there is none.

        By itself it is what `render()` of an environment gives that was built with `render_mode="ansi"`. What draws for
        prompts and pages is built so where the factory takes `render_mode`.
        """
        drawn = self._rendered("ansi")
        return drawn if isinstance(drawn, str) else ""

    def render_frame(self) -> Any:
        """Return the current state in colours, uint8 [height, width, 3]; None where there is no such picture.

        By itself it is what `render()` of an environment gives that was built with `render_mode="rgb_array"`.
        """
        return self._rendered("rgb_array")

    def _rendered(self, mode: str) -> Any:
        return self.env.render() if self._of_env("render_mode") == mode else None

    def viewpoint(self, agent: Any) -> str:
        """Return the current state in words from one living agent's side, itself as "you"; models rank such texts."""
        state = self.describe()
        return f"You are {agent}. {state}" if state else f"You are {agent}."

    # ------------------------------------------------------------ asked at the end

    def close(self) -> None:
        """Free what the environment holds: it is called once, also where something went wrong, and may raise."""
        close = getattr(self.env, "close", None)
        if close is not None:
            close()


def close_all(tasks: Iterable[Task]) -> None:
    """Close every one of `tasks`; the log says what went wrong with it."""
    for task in tasks:
        try:
            task.close()
        except RAISED as error:
            if ends_us(error):
                raise
            structlog.get_logger().warning("environment not closed", error=f"{type(error).__name__}: {error}")


def as_task(built: Any) -> Task:
    """Turn what a factory built into a `Task`; an AEC environment is converted by PettingZoo.

    What cannot be one is closed.

    Raises:
        TypeError: it is neither a Task nor an environment of PettingZoo, or an AEC environment that does not promise
            to be the same with all agents at once.
    """
    # Imported here, so that a native task's spec can be read without PettingZoo.
    from pettingzoo import AECEnv, ParallelEnv
    from pettingzoo.utils import aec_to_parallel

    if isinstance(built, Task):
        return built
    if isinstance(built, AECEnv) and built.metadata.get("is_parallelizable", False):
        built = aec_to_parallel(built)
    if isinstance(built, ParallelEnv):
        return Task(built)
    # It may hold a simulator, and nobody else knows of it.
    close_all([] if isinstance(built, type) else [Task(built)])
    turns = ", an AECEnv whose metadata has no 'is_parallelizable': True" if isinstance(built, AECEnv) else ""
    raise TypeError(f"a {type(built).__name__}{turns}")


def as_flag(value: Any) -> bool | None:
    """Return True or False of an environment as a bool; None where it is none, nor 0 or 1."""
    if type(value) is bool or type(value) is np.bool_:  # takes no time
        return bool(value)
    # A number in an array or a tensor without dimensions.
    if getattr(value, "shape", None) == ():
        value = value.item()
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def require_flags(**flags: object) -> None:
    """Raise ValueError where one of the named settings is neither true nor false."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be true or false, got {flag!r}; correct it")


def require_at_least(low: int, **arguments: int) -> None:
    """Check arguments of a task, since `task.env_args` of a config may hold anything.

    Raises:
        ValueError: one is no whole number, or below `low`.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}; correct it")
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value!r}; raise it")


def require_mode(mode: str | None, known: Collection[str]) -> None:
    """Check the render mode that an environment is built with.

    Raises:
        ValueError: it is neither None nor one of `known`.
    """
    if mode is not None and mode not in known:
        raise ValueError(f"render_mode must be one of {sorted(known)!r} or None, got {mode!r}; correct it")
