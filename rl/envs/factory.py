"""From a `TaskConfig` to its task. The compiled kernel and PettingZoo are imported only when they are needed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from ...errors import ConfigError, TaskImportError
from ..config import TaskConfig
from ..task import BatchedTask, TaskSpec
from .own_task import Task, as_task
from .two_switch_spec import N_MAX, two_switch_spec


def make_task(config: TaskConfig, num_envs: int) -> BatchedTask:
    """The task of `config`, `num_envs` environments at once.

    `team_reward` says how the rewards of a PettingZoo environment become the team's; a shipped task has one anyway.
    `n_max` overrides a shipped task's time limit, and cuts the episodes of a PettingZoo environment.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    if config.env is None:
        from .two_switch_batch import BatchedTwoSwitch

        return BatchedTwoSwitch(num_envs, config.n_max or N_MAX, config.allow_agent_overlap)
    from .pettingzoo import PettingZooTask

    factory = import_factory(config)
    with _told(config.env, "the environment must reset and step"):
        return PettingZooTask(factory, num_envs, config.team_reward, config.n_max)


def task_spec(config: TaskConfig) -> TaskSpec:
    """What may be said about the task; for a PettingZoo environment one instance is built, probed and closed.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    if config.env is None:
        return two_switch_spec(config.n_max or N_MAX, config.allow_agent_overlap)
    from .pettingzoo_layout import read_layout

    factory = import_factory(config)
    with _told(config.env, "the environment must reset and step"):
        task = factory()
        spec = read_layout(task, config.n_max).spec
        task.env.close()
        return spec


def import_factory(config: TaskConfig) -> Callable[[], Task]:
    """The callable that `task.env` names; what it builds is checked at each call.

    Raises:
        TaskImportError: the module or attribute is missing, or importing it fails.
        ConfigError: an option of `task` that only a shipped task has.
    """
    if config.env is None:
        raise ConfigError("task.env must name an environment here, got None; set it to 'package.module:factory'")
    if not config.allow_agent_overlap:
        raise ConfigError(
            "task.allow_agent_overlap is an option of the shipped tasks, got False with"
            f" task.env {config.env!r}; leave it out and let your factory set it"
        )
    module_name, _, attribute = config.env.partition(":")
    with _told(config.env, f"its module {module_name!r} must be importable"), _current_directory_importable():
        module = importlib.import_module(module_name)
    try:
        factory = reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise TaskImportError(
            f"task.env must be 'package.module:factory', got {config.env!r}, and module {module_name!r} has no"
            f" {attribute!r}; correct the name after the colon"
        ) from error
    return _checked_factory(factory, config.env, config.env_args)


def _checked_factory(factory: Any, name: str, arguments: Mapping[str, Any]) -> Callable[[], Task]:
    if not callable(factory):
        raise TaskImportError(
            f"task.env must name a class or a function, got {name!r}, a {type(factory).__name__}; name what builds it"
        )

    def build() -> Task:
        with _told(name, f"the factory must work {'with task.env_args' if arguments else 'without arguments'}"):
            made = factory(**arguments)
        try:
            return as_task(made)
        except TypeError as error:
            raise TaskImportError(
                f"task.env must build a pettingzoo.ParallelEnv, an AECEnv or a cosignal.Task, got {name!r}, which"
                f" builds {error}; wrap it"
            ) from error

    return build


@contextmanager
def _told(name: str, rule: str) -> Iterator[None]:
    """Whatever other people's code raises becomes a `TaskImportError` that says where."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise TaskImportError(
            f"task.env: {rule}, got {name!r}, which raised {type(error).__name__}: {error};"
            f" install it, start from the directory that holds it (now {Path.cwd()}), or mend it"
        ) from error


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """The current directory is the last place to look, for this import only."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
