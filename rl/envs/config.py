"""Settings of the task. Imports neither torch nor LangChain."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..base_config import Config
from .registry import GRIDS, NATIVE, WITH_ARGUMENTS, ShippedName

TeamReward = Literal["sum", "mean"]  # how what the agents are paid becomes the team's reward


class TaskConfig(Config):
    """A shipped task by `name`, or any PettingZoo `ParallelEnv` by `env`.

    Attributes:
        name: a shipped task.
        env: "package.module:factory" of an environment, or of a `cosignal.Task`.
        env_args: arguments by name for the factory, or for a shipped task.
        n_max: time limit of an episode, in steps.
        allow_agent_overlap: whether agents of two_switch, victim_rubble and relay may share a cell.
        team_reward: how a PettingZoo environment's rewards become the team's.
        agent_ids: whether agents of a group of a PettingZoo environment observe which of them they are.
        workers: processes that a PettingZoo environment's copies are divided over; 0 for the trainer's own.
        step_timeout_s: seconds for one joint step of all copies in one of these processes.
    """

    name: ShippedName | None = None
    env: str | None = None
    env_args: dict[str, Any] = Field(default_factory=dict)
    n_max: int | None = Field(default=None, ge=1)
    allow_agent_overlap: bool = True
    team_reward: TeamReward = "sum"
    agent_ids: bool = True
    workers: int = Field(default=0, ge=0)
    step_timeout_s: float = Field(default=60.0, gt=0)

    @property
    def team_is_paid(self) -> TeamReward:
        """How its environments pay the team: each agent of a grid game gets all of it, of another shipped task a share,
        and of one's own what `team_reward` says."""
        if self.name is None:
            return self.team_reward
        return "mean" if self.name in GRIDS else "sum"

    @property
    def added_limit(self) -> int | None:
        """The time limit that is added around its environments; one that ships has its own."""
        return self.n_max if self.name is None else None

    @property
    def adds_agent_ids(self) -> bool:
        """Whether agents observe which of their group they are, behind what the environment shows them."""
        return self.name is None and self.agent_ids

    def digest(self) -> str:
        """Return 64 hex digits of everything that says what is loaded and how."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @model_validator(mode="after")
    def _one_of_name_and_env(self) -> TaskConfig:
        if (self.name is None) == (self.env is None):
            raise ValueError("set exactly one of task.name (a shipped task) and task.env ('package.module:factory')")
        if self.name is not None and self.name not in WITH_ARGUMENTS and self.env_args:
            raise ValueError(
                f"task.env_args go with task.env or one of {', '.join(WITH_ARGUMENTS)}, got {self.env_args!r} with"
                f" task.name {self.name!r}; drop them"
            )
        if self.name is not None and "n_max" in self.env_args:
            raise ValueError(
                f"task.env_args must leave the time limit of a shipped task to task.n_max, got {self.env_args!r}; set"
                " that"
            )
        if self.name in NATIVE and self.workers:
            raise ValueError(
                f"task.workers are for environments of PettingZoo, got {self.workers!r} with task.name {self.name!r},"
                " whose environments are compiled into one batch; drop it"
            )
        return self

    @field_validator("env", mode="before")
    @classmethod
    def _has_a_name(cls, env: Any) -> Any:
        # Other processes import it by that name.
        if env is not None and not (isinstance(env, str) and re.fullmatch(r"[\w.]+:[\w.]+", env)):
            raise ValueError(
                "must be the text 'package.module:factory', by which other processes import a class or function at the"
                f" top of a module, got {env!r}; define it there, and name it so"
            )
        return env
