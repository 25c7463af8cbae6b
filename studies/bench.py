"""Measurements of this machine: `cosignal bench NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError

NAMES = ("overhead",)


def run_bench(name: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run a benchmark; returns `name, config, device, threads, commit, metrics` as plain data.

    `tell` is called with a line of progress. Raises ConfigError for an unknown name.
    """
    if name not in NAMES:
        raise ConfigError(f"bench must be one of {', '.join(NAMES)}, got {name!r}; name one of them")
    from .bench_overhead import run_overhead

    return run_overhead(tell)
