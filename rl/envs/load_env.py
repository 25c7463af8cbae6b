"""Other people's environments, found by the name in a `TaskConfig` and built; what they raise is told in our words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, TaskImportError
from .adapter import Task, as_task
from .config import TaskConfig
from .registry import EXTRAS

if TYPE_CHECKING:
    from .pettingzoo.batch import PettingZooTask


def wrapped_task(
    config: TaskConfig, num_envs: int, first_env: int = 0, on_loss: Callable[[int, str], None] | None = None
) -> PettingZooTask:
    """PettingZoo environments `first_env`… of a batch, in this process; `on_loss` hears of those that raise, else the
    log does.

    Raises TaskImportError and ConfigError as `make_task` does.
    """
    from .pettingzoo.batch import PettingZooTask, log_loss

    factory = task_factory(config)
    with in_our_words(config, "the environment must reset and step"):
        if config.name is not None:  # a shipped task has its own limit and sums what its agents are paid
            return PettingZooTask(factory, num_envs, first_env=first_env, on_loss=on_loss or log_loss)
        return PettingZooTask(
            factory, num_envs, config.team_reward, config.n_max, first_env, on_loss or log_loss, config.agent_ids
        )


def task_factory(config: TaskConfig) -> Callable[[], Task]:
    """The callable that `task.env` or the shipped task names; what it builds is checked at each call.

    Raises:
        TaskImportError: the module or attribute is missing, or importing it fails.
        ConfigError: an option of `task` that only Two-Switch has.
    """
    if not config.allow_agent_overlap:
        raise ConfigError(
            f"task.allow_agent_overlap is an option of two_switch and victim_rubble, got False with {_key(config)}"
            f" {_name(config)!r}; leave it out, and let your factory set what it needs"
        )
    if config.name is None:
        return _checked_factory(import_factory(config), config, config.env_args)
    limit = {} if config.n_max is None else {"n_max": config.n_max}
    return _checked_factory(import_factory(config), config, config.env_args | limit)


def import_factory(config: TaskConfig) -> Any:
    """What `task.env`, or the table of shipped tasks, names.

    Raises:
        TaskImportError: the module or attribute is missing, or importing it fails.
    """
    path = config.env if config.name is None else EXTRAS[config.name].factory
    module_name, _, attribute = str(path).partition(":")
    with in_our_words(config, f"its module {module_name!r} must be importable"), _current_directory_importable():
        module = importlib.import_module(module_name)
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise TaskImportError(
            f"task.env must be 'package.module:factory', got {path!r}, and module {module_name!r} has no"
            f" {attribute!r}; correct the name after the colon"
        ) from error


def _checked_factory(factory: Any, config: TaskConfig, arguments: Mapping[str, Any]) -> Callable[[], Task]:
    name = _name(config)
    if not callable(factory):
        raise TaskImportError(
            f"task.env must name a class or a function, got {name!r}, a {type(factory).__name__}; name what builds it"
        )

    def build() -> Task:
        given = f"with task.env_args {arguments!r}" if arguments else "without arguments"
        with in_our_words(config, f"the factory must work {given}"):
            made = factory(**arguments)
        try:
            return as_task(made)
        except TypeError as error:
            raise TaskImportError(
                f"task.env must build a pettingzoo.ParallelEnv, an AECEnv or a cosignal.Task, got {name!r}, which"
                f" builds {error}; wrap it"
            ) from error

    return build


def _key(config: TaskConfig) -> str:
    return "task.env" if config.name is None else "task.name"


def _name(config: TaskConfig) -> str:
    return str(config.env if config.name is None else config.name)


@contextmanager
def in_our_words(config: TaskConfig, rule: str) -> Iterator[None]:
    """Whatever other people's code raises becomes a `TaskImportError` that says where."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise TaskImportError(
            f"{_key(config)}: {rule}, got {_name(config)!r}, which raised {type(error).__name__}: {error};"
            f" {_remedy(config, error)}"
        ) from error


def _remedy(config: TaskConfig, error: Exception) -> str:
    if config.name is None and isinstance(error, ImportError):
        return f"install it, or start from the directory that holds it (now {Path.cwd()})"
    if config.name is None:
        return "mend it in the environment"
    if isinstance(error, ModuleNotFoundError):
        return f"pip install 'cosignal[{EXTRAS[config.name].extra}]'"
    return "correct task.env_args"


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """The current directory is the last place to look, for this import only."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
