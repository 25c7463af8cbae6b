"""`cosignal doctor`: is everything reachable and sane? Says exactly what is not.

``check``          what one look found out (`Check`), all of it (`Examination`), and both on a terminal
``examination``    everything that is looked at, in its order
``installation``   Python, packages, cores, sockets, the device, a run directory that can be written
``connections``    whom a run talks to: models and their addresses, the executor's cluster, the collector of spans
``addresses``      one address: its server, TLS, and the path below which models are asked
``task``           what was understood of the task, and whether the first signal fits it
``play``           what random play shows of the task
``repeat``         whether the same seed and actions lead to the same states, and where they do not
``task_process``   a process of its own for both of these, where the task is somebody else's code
``arithmetic``     what an intervention costs, what the gate asks for, and what both take on the clock
``speed``          how fast this machine trains, measured for two seconds in a process of its own

Data flow::

    config ─► installation, connections, task ─► Checks ───────────────────┐
       │                    task's return range ─► arithmetic ─► Checks ───┼─► Examination ─► terminal or JSON
       └─► speed ─► main steps a second ─► wall times ─────────► Check ────┘
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import Check, Examination
    from .examination import examine

# Public name → the module that defines it. Imported on first use: the processes that play and measure need no config.
_LAZY = {"Check": ".check", "Examination": ".check", "examine": ".examination"}

__all__ = ["Check", "Examination", "examine"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
