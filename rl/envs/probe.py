"""Asking a task what it is, in a process of its own: `python -m cosignal.rl.envs.probe`.

The loop needs to know what a task says of itself, and imports nobody else's code for that: an environment may print,
hang, take its process with it, want the main thread, or live in the very script that starts the run.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...errors import TaskImportError
from ..child import START_S, Child, Parent
from ..task import TaskSpec
from .config import TaskConfig
from .factory import closing_task, spec_of, task_spec
from .load_env import check_not_importing, task_factory
from .registry import NATIVE, NATIVE_WITH_HEURISTIC

MODULE = "cosignal.rl.envs.probe"


class TaskProbe(BaseModel):
    """What a probe found out.

    Attributes:
        spec: what the task says of itself.
        has_heuristic: whether it carries a hand-written judge of moves.
    """

    model_config = ConfigDict(frozen=True)

    spec: TaskSpec
    has_heuristic: bool


def probe_task(config: TaskConfig, secrets: Sequence[str] = ()) -> TaskProbe:
    """Build the task, play its first steps and close it; a native task, which is ours, is read right here.

    Args:
        config: the task.
        secrets: environment variables that it must not see.

    Raises:
        TaskImportError: the environment cannot be imported or built, ends its process, or takes too long.
        ConfigError: it can, but not be trained on.
    """
    if config.name in NATIVE:
        return TaskProbe(spec=task_spec(config), has_heuristic=config.name in NATIVE_WITH_HEURISTIC)
    check_not_importing()
    with task_lost_errors(config):
        return TaskProbe.model_validate(_child(config, secrets).answer())


async def probe_task_soon(config: TaskConfig, secrets: Sequence[str] = ()) -> TaskProbe:
    """Do as `probe_task`, beside the event loop; where the task that waits is cancelled, the process ends at once."""
    if config.name in NATIVE:
        return await asyncio.to_thread(probe_task, config)
    check_not_importing()
    with task_lost_errors(config):
        return TaskProbe.model_validate(await _child(config, secrets).answer_soon())


def _child(config: TaskConfig, secrets: Sequence[str]) -> Child:
    return Child(MODULE, config.model_dump_json(), START_S + config.step_timeout_s, secrets=secrets)


@contextmanager
def task_lost_errors(config: TaskConfig) -> Iterator[None]:
    """Turn the OSError of a `Child` that hosts the environment into a TaskImportError with a remedy."""
    key, name = ("task.env", config.env) if config.name is None else ("task.name", config.name)
    try:
        yield
    except TimeoutError as error:
        raise TaskImportError(
            f"{key}: the environment must not hang, got {name!r}: {error}; mend it, or raise task.step_timeout_s "
            f"({config.step_timeout_s:g}) if it is slow"
        ) from None
    except OSError as error:
        raise TaskImportError(
            f"{key}: the environment must not end its process, got {name!r}: {error}; mend it"
        ) from None


# ---------------------------------------------------------------- in the child


def say_calls(env: Any, say: Callable[[str], None]) -> None:
    """Let every reset and step of environments of this class first say that it is made, as in "stepping it".

    In a process that does nothing but host it, the class can be changed.
    """
    kind = type(env)
    for name, place in (("reset", "resetting it"), ("step", "stepping it")):
        method = getattr(kind, name, None)
        if method is None:
            continue  # it is no environment, which is told elsewhere

        def said(*args: Any, _method: Callable[..., Any] = method, _place: str = place, **more: Any) -> Any:
            say(_place)
            return _method(*args, **more)

        setattr(kind, name, functools.wraps(method)(said))


def main() -> None:
    """Answer with a `TaskProbe`."""
    parent = Parent()
    config = TaskConfig.model_validate_json(parent.request)
    with parent.hears_errors():
        parent.at("importing it", START_S + config.step_timeout_s)
        factory = task_factory(config)
        parent.at("building it", START_S + config.step_timeout_s)
        with closing_task(config, factory()) as task:
            say_calls(task.env, lambda place: parent.at(place, config.step_timeout_s))
            probe = TaskProbe(spec=spec_of(config, task), has_heuristic=task.heuristic is not None)
            parent.answer(probe.model_dump())


if __name__ == "__main__":
    main()
