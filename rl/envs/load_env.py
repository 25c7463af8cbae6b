"""Other people's environments, found by the name in a `TaskConfig` and built.

Whatever they raise becomes a `TaskImportError` that says where it came from and what to do.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, MissingGuard, TaskImportError
from ...text import one_line
from .adapter import Task, as_task
from .config import TaskConfig
from .drawing import RenderMode, drawing_arguments
from .pettingzoo.losses import RAISED, ends_us, log_loss
from .registry import EXTRAS

if TYPE_CHECKING:
    from .pettingzoo.batch import PettingZooTask

IMPORTING = "COSIGNAL_IMPORTING"  # environment variable: the module of an environment, while it is imported


def pettingzoo_task(
    config: TaskConfig, num_envs: int, first_env: int = 0, on_loss: Callable[[int, str], None] | None = None
) -> PettingZooTask:
    """Build PettingZoo environments as a batch in this process.

    Args:
        config: names the environment.
        num_envs: number of environments here.
        first_env: number of the first one, where others of the batch live elsewhere.
        on_loss: is called with the number of an environment that raises, and its error; None writes them to the log.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    from .pettingzoo.batch import PettingZooTask

    factory = task_factory(config)
    with task_import_errors(config, "the environment must reset and step"):
        return PettingZooTask(
            factory,
            num_envs,
            config.team_is_paid,
            config.added_limit,
            first_env,
            on_loss or log_loss,
            config.adds_agent_ids,
        )


def task_factory(config: TaskConfig) -> Callable[[], Task]:
    """Return what builds one environment as a `Task`: the callable that `task.env` or the shipped task names.

    What it builds is checked at each call.

    Raises:
        TaskImportError: the module or attribute is missing, importing it fails, or it cannot be called.
        ConfigError: `task` has an option that only the grid games have.
    """
    check_no_grid_options(config)
    # Around an environment of `task.env` the batch adds the limit, since its factory may not take one.
    shipped_with_limit = config.name is not None and config.n_max is not None
    arguments = config.env_args | ({"n_max": config.n_max} if shipped_with_limit else {})
    factory, name = import_factory(config), _name(config)
    if not callable(factory):
        raise TaskImportError(
            f"task.env must name a class or a function, got {name!r}, a {type(factory).__name__}; name what builds it"
        )

    def build(render_mode: RenderMode | None = None) -> Task:
        how = f"with task.env_args {arguments!r}" if arguments else "without arguments"
        with task_import_errors(config, f"the factory must work {how}"):
            drawing = {} if render_mode is None else drawing_arguments(factory, render_mode)
            built = factory(**{**arguments, **drawing})
        try:
            return as_task(built)
        except TypeError as error:
            raise TaskImportError(
                f"task.env must build a pettingzoo.ParallelEnv, an AECEnv or a cosignal.Task, got {name!r}, which"
                f" builds {error}; wrap it"
            ) from error

    return build


def check_no_grid_options(config: TaskConfig) -> None:
    """Raise ConfigError where `task` has an option that only the grid games have."""
    # Refused and not ignored, since nothing else would say that it has no effect.
    if not config.allow_agent_overlap:
        raise ConfigError(
            "task.allow_agent_overlap is an option of two_switch, victim_rubble and relay, got False with"
            f" {_key(config)} {_name(config)!r}; leave it out, and let your factory set what it needs"
        )


def import_factory(config: TaskConfig) -> Any:
    """Import what `task.env`, or the table of shipped tasks, names.

    The current directory is the last place to look, and stays so for what the environment imports later.

    Raises:
        TaskImportError: the module or attribute is missing, or importing it fails.
        MissingGuard: importing it starts a run.
    """
    path = config.env if config.name is None else EXTRAS[config.name].factory
    module_name, _, attribute = str(path).partition(":")
    # Each process has another `__main__`, so it would be found in this one at best.
    if module_name == "__main__":
        raise TaskImportError(
            f"task.env must name a module that other processes can import, got {path!r}: what a script or a notebook"
            " defines is in its own process alone; put it into a module of its own, and name that"
        )
    with task_import_errors(config, f"its module {module_name!r} must be importable"):
        here = str(Path.cwd())
        if config.name is None and here not in sys.path:  # what ships with this package never lies there
            sys.path.append(here)
        os.environ[IMPORTING] = module_name
        try:
            module = importlib.import_module(module_name)
        finally:
            os.environ.pop(IMPORTING, None)
    try:
        # The attribute may be nested, as in "module:Class.make".
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise TaskImportError(
            f"task.env must be 'package.module:factory', got {path!r}, and module {module_name!r} has no"
            f" {attribute!r}; correct the name after the colon"
        ) from error


def check_not_importing() -> None:
    """Check that no module of an environment is being imported, by this process or one that started it so.

    Raises:
        MissingGuard: one is: it is a script that starts a run, which would import it again, without end.
    """
    if (module := os.environ.get(IMPORTING)) is not None:
        raise MissingGuard(
            f"task.env: importing its module must not start a run, {module!r} starts one; put what starts it in the "
            'script below `if __name__ == "__main__":`'
        )


@contextmanager
def task_import_errors(config: TaskConfig, rule: str) -> Iterator[None]:
    """Turn whatever the block raises, but for a ConfigError, into a `TaskImportError` with `rule` and a remedy."""
    try:
        yield
    except ConfigError:
        raise
    except RAISED as error:
        if ends_us(error):
            raise
        if config.name is None and isinstance(error, ImportError):
            remedy = f"install it, or start from the directory that holds it (now {Path.cwd()})"
        elif config.name is None:
            remedy = "mend it in the environment"
        elif isinstance(error, ModuleNotFoundError):
            remedy = f"pip install 'cosignal[{EXTRAS[config.name].extra}]'"
        else:
            remedy = "correct task.env_args"
        raise TaskImportError(
            f"{_key(config)}: {rule}, got {_name(config)!r}, which raised {type(error).__name__}:"
            f" {one_line(str(error))}; {remedy}"
        ) from error


def _key(config: TaskConfig) -> str:
    return "task.env" if config.name is None else "task.name"


def _name(config: TaskConfig) -> str:
    return str(config.env if config.name is None else config.name)
