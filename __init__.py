"""cosignal: redesigns the learning signal of a cooperative multi-agent RL run while it trains.

    config = cosignal.RunConfig.load("examples/two_switch.yaml")
    async with cosignal.start(config) as run:
        async for event in run.events():
            print(event)
        result = await run.result()

All but the errors is imported on first use: reading a config needs neither torch nor LangChain, and `cosignal --help`
not even a config.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CosignalError

if TYPE_CHECKING:
    from .config import RunConfig
    from .graphs.graph import build_graph
    from .graphs.session.run import Run, RunResult, start
    from .rl.envs.adapter import Task
    from .rl.task import EventSpec, FeatureSpec
    from .runs.store import RunView

_LAZY = {
    "EventSpec": ".rl.task",
    "FeatureSpec": ".rl.task",
    "Run": ".graphs.session.run",
    "RunConfig": ".config",
    "RunResult": ".graphs.session.run",
    "RunView": ".runs.store",
    "Task": ".rl.envs.adapter",
    "build_graph": ".graphs.graph",
    "start": ".graphs.session.run",
}

__all__ = [
    "CosignalError", "EventSpec", "FeatureSpec", "Run", "RunConfig", "RunResult", "RunView", "Task", "build_graph",
    "start",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
