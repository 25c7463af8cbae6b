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
    from .graphs.loop import build_graph
    from .graphs.run import Run, RunResult, start
    from .runs.store import RunView

_LAZY = {
    "Run": ".graphs.run",
    "RunConfig": ".config",
    "RunResult": ".graphs.run",
    "RunView": ".runs.store",
    "build_graph": ".graphs.loop",
    "start": ".graphs.run",
}

__all__ = ["CosignalError", "Run", "RunConfig", "RunResult", "RunView", "build_graph", "start"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
