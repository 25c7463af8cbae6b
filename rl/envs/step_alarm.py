"""A limit on the time of a step, for environments in a process whose end costs no more than a branch or a ranking.

One that hangs there hangs the process, and nobody else could notice. Where the limit is passed the kernel ends the
process: code that holds the interpreter cannot be ended from inside. Whoever has started it is told by the signal.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..task import BatchedTask
from .config import TaskConfig

STOPPED = signal.SIGALRM  # what ends the process


@contextmanager
def step_alarm(task: BatchedTask, config: TaskConfig, envs: int) -> Iterator[None]:
    """Let the kernel end this process where a call of `task` takes too long.

    A joint step of `envs` environments may take `task.step_timeout_s`; what resets all of them may take that for each
    of them. Nothing is limited where environments are compiled ones, or have processes of their own.
    """
    if config.env is None or config.workers:
        yield
        return
    step_s = config.step_timeout_s * max(1.0, task.num_envs / envs)
    reset_s = config.step_timeout_s * task.num_envs
    limits = {"step": step_s, "reset": reset_s}
    plain = {name: getattr(task, name) for name in (*limits, "load_state_dict")}
    for name, limit_s in limits.items():
        setattr(task, name, _limited(plain[name], limit_s))

    # Playing episodes again takes as many steps as the longest one had.
    def load_state_dict(state: Any, fresh: bool = False) -> str | None:
        longest = int(state["lengths"].max(initial=0)) if "lengths" in state else 0
        difference: str | None = _limited(plain["load_state_dict"], reset_s * (1 + longest))(state, fresh)
        return difference

    setattr(task, "load_state_dict", load_state_dict)  # noqa: B010 mypy knows it as a method
    try:
        yield
    finally:
        for name in plain:
            delattr(task, name)


def _limited(call: Callable[..., Any], limit_s: float) -> Callable[..., Any]:
    def limited(*arguments: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            return call(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    return limited
