"""The environment of an exported run as its trainer played it, for anybody who steps PettingZoo's parallel API.

The time limit is the run's, and every agent is paid the team's reward. It needs cosignal, which has the shipped
environments, and the adapters of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pettingzoo.utils import BaseParallelWrapper
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ExportError
from ..rl.envs.adapter import Task, as_task
from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import plain_task_factory
from ..rl.envs.pettingzoo import calls
from ..rl.envs.pettingzoo.declared import Layout, declared_layout
from ..rl.envs.pettingzoo.translator import Translator
from ..rl.task import TaskSpec
from ..text import one_line

FORMAT = 1


class ExportedFile(BaseModel):
    """A JSON file of an export."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises ExportError where it is missing, or none of this version."""
        try:
            file = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ExportError(
                f"{str(path)!r} must be a file of an export of this version, got {one_line(str(error)):.300}; export "
                "the run again"
            ) from error
        if file.format != FORMAT:
            raise ExportError(
                f"{str(path)!r} must have format {FORMAT}, got {file.format}; use the version of cosignal that has "
                "exported it, or export the run again"
            )
        return file


class ExportedTask(ExportedFile):
    """The content of `task.json`: the run's section `task`, and the declaration that came of it."""

    task: TaskConfig
    spec: TaskSpec


class RunEnv(BaseParallelWrapper):  # type: ignore[misc]
    """The environment of an exported run.

    Every agent is paid the team's reward, as in the run; `infos[agent]["sparse_reward"]` holds it too. After `n_max`
    steps all agents are truncated where the run's config says so for an environment of one's own.

    Args:
        folder: of the export.
        env: the run's environment, or a `cosignal.Task` around it; built as the run did where None.
        team: whether every agent is paid the team's reward; else what the environment pays it, also in
            `sparse_reward`.

    Attributes:
        task: the adapter of the environment.
        limit_terminates: whether the run's trainer took reaching the time limit for an end (`trainer.time_limit`).
        spec: the declaration of the run's task.
        success: whether the last episode was one; None before an end, and where the task has no test.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ExportError: it is not the run's, or files of the export cannot be read.
    """

    def __init__(self, folder: str | Path, env: Any = None, *, team: bool = True) -> None:
        exported = ExportedTask.read(Path(folder) / "task.json")
        self.config, self.spec, self.team = exported.task, exported.spec, team
        self.limit_terminates = False
        try:
            self.task = plain_task_factory(self.config)() if env is None else as_task(env)
        except TypeError as error:
            raise ExportError(
                f"env must be a pettingzoo.ParallelEnv, an AECEnv or a cosignal.Task, got {error}; wrap it"
            ) from error
        super().__init__(self.task.env)
        layout = declared_layout(self.task, self.config.added_limit, self.config.adds_agent_ids)
        _check_same_task(exported.spec, layout, self.task)
        self.translator = Translator(Layout(exported.spec, layout.groups))
        self.possible_agents = list(self.env.possible_agents)
        self.agents: list[Any] = []
        self.steps = 0
        self.success: bool | None = None

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, dict[str, Any]]]:
        """Start an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self.agents, self.steps, self.success = list(self.env.agents), 0, None
        self.begin(observations, infos)
        return observations, infos

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, dict[str, Any]]]:
        """Make one joint step; who has acted in it is paid."""
        acted = set(self.env.agents)
        moved = calls.step(self.task, self.translator.agents, actions)
        self.steps += 1
        # sparse rewards, and what a signal adds to them
        team = self.translator.team_reward(moved.rewards, self.config.team_is_paid)
        own = dict(zip(self.translator.ids, self.translator.paid(moved.rewards), strict=True))
        sparse = {agent: team if self.team else own[agent] for agent in self.translator.ids if agent in acted}
        terminated, truncated = calls.ending(self.task, moved, self.steps, self.config.added_limit)
        added = self.added(acted, actions, moved, terminated or (truncated and self.limit_terminates))
        rewards = {agent: reward + added.get(agent, 0.0) for agent, reward in sparse.items()}
        infos = {agent: dict(info) for agent, info in moved.infos.items()}
        for agent, reward in sparse.items():
            infos.setdefault(agent, {})["sparse_reward"] = reward
        # the end, by the environment or by the limit that the run has put around it
        self.agents, truncations = list(self.env.agents), dict(moved.truncations)
        if terminated or truncated:
            self.success = self.task.success(moved.infos) if self.spec.has_success else None
            truncations |= {agent: True for agent in self.agents if not moved.terminations.get(agent)}
            self.agents = []
        return dict(moved.observations), rewards, dict(moved.terminations), truncations, infos

    def begin(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> None:
        """Look at the first state of an episode; a signal remembers it."""

    def added(
        self,
        acted: set[Any],  # noqa: ARG002
        actions: Mapping[Any, Any],  # noqa: ARG002
        moved: calls.Moved,  # noqa: ARG002
        terminated: bool,  # noqa: ARG002
    ) -> dict[Any, float]:
        """Return what is added to the reward of each agent for a step: nothing without a signal."""
        return {}


def _check_same_task(spec: TaskSpec, layout: Layout, task: Task) -> None:
    """Raise ExportError unless the agents of `task`, their numbers and their names are those of the exported run."""
    if layout.spec.groups != spec.groups:
        raise ExportError(
            f"env must be the environment of the run, {spec.name!r} with {_groups(spec)}, got {task.name!r} with "
            f"{_groups(layout.spec)}, or with other observations, actions, features or events; give what the run's "
            "factory builds (a cosignal.Task, where it builds one), or leave env out"
        )


def _groups(spec: TaskSpec) -> str:
    return ", ".join(f"{group.name} ({' '.join(group.agents)})" for group in spec.groups)
