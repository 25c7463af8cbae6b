"""Can branches run where the config wants them?"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConfigError
from ..rl.branches.config import BranchConfig
from ..rl.branches.executors import check_executor
from .check import Check, from_error, ok
from .installation import check_cores


def check_branches(config: BranchConfig, overlap: bool) -> Iterator[Check]:
    """The executor's package and cluster, and, where workers are on this machine, its cores."""
    try:
        yield ok("executor", check_executor(config))
    except ConfigError as error:
        yield from from_error("executor", error)
    if not config.on_cluster:
        yield check_cores(config.workers, overlap)
