"""cosignal redesigns the learning signal of a cooperative multi-agent RL run while it trains.

    config = cosignal.RunConfig.load("examples/two_switch.yaml")
    async with cosignal.start(config) as run:
        async for event in run.events():
            print(event)
        result = await run.result()

All but the errors is imported on first use: reading a config needs neither torch nor LangChain, and `cosignal --help`
not even a config.

The packages, from the bottom to the top; each imports only what stands above it here:

* `errors`, `text`, `files`: every error, and small tools.
* `examples`: the packaged configs.
* `rl`: tasks, training, signals, branches and the gate, without any language model.
* `prompts`, `agents`: who answers, and what they are asked.
* `config`: the config of a run.
* `runs`: the run directory, its events, report and pages.
* `export`: policy and signal of a run, to be used elsewhere.
* `graphs`: the adaptation loop, which is what `start` runs.
* `doctor`, `studies`: checks of a config, and comparisons that anyone can run again.
* `cli`: the command `cosignal`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CosignalError

if TYPE_CHECKING:
    from .config import RunConfig
    from .export.write import export_run
    from .graphs.graph import build_graph
    from .graphs.session.run import Run, RunResult, start
    from .rl.envs.adapter import Task
    from .rl.task import EventSpec, FeatureSpec
    from .runs.run_view import RunView

# Public name → the module that defines it.
_LAZY = {
    "EventSpec": ".rl.task",
    "FeatureSpec": ".rl.task",
    "Run": ".graphs.session.run",
    "RunConfig": ".config",
    "RunResult": ".graphs.session.run",
    "RunView": ".runs.run_view",
    "Task": ".rl.envs.adapter",
    "build_graph": ".graphs.graph",
    "export_run": ".export.write",
    "start": ".graphs.session.run",
}

__all__ = [
    "CosignalError",
    "EventSpec",
    "FeatureSpec",
    "Run",
    "RunConfig",
    "RunResult",
    "RunView",
    "Task",
    "build_graph",
    "export_run",
    "start",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
