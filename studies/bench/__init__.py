"""Measurements of this machine: `cosignal bench NAME`. docs/benchmarks.md says what each number means.

| name | what it measures |
|---|---|
| trainer | steps per core and second: the environment, each algorithm, and a plain loop as a reference; start-up |
| branches | snapshots, branches beside a main line, and whether the control repeats the main line bit for bit |
| overhead | what the loop costs the trainer |
| scale | what 1 to 64 candidates cost |
| tasks | steps of every shipped task through the wrapper, and bare |
| signals | what each kind of signal costs the trainer while it is in force |
| ipc | how long the trainer takes to answer, and what looking for a question costs it |

A module each, but for `scale`, which is in `branches`. Beside them:

`measure`          spells of work, rounds that alternate, the form of a result
`baseline`         results kept in `baselines/`, and comparing with them
`reference_loop`   the loop that `trainer` is compared with
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ...errors import ConfigError

# name → module of this package, its function
BENCHES = {
    "trainer": ("trainer", "run_trainer"),
    "branches": ("branches", "run_branches"),
    "overhead": ("overhead", "run_overhead"),
    "ipc": ("ipc", "run_ipc"),
    "tasks": ("tasks", "run_tasks"),
    "scale": ("branches", "run_scale"),
    "signals": ("signals", "run_signals"),
}
NAMES = tuple(BENCHES)


def run_bench(name: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run a benchmark, and return `name, config, device, threads, blas, commit, metrics` as plain data.

    Args:
        name: one of NAMES.
        tell: is given lines of progress.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in NAMES:
        raise ConfigError(f"bench must be one of {', '.join(NAMES)}, got {name!r}; name one of them")
    module, function = BENCHES[name]
    run: Callable[[Callable[[str], None]], dict[str, Any]] = getattr(import_module(f".{module}", __package__), function)
    return run(tell)
