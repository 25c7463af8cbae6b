"""Relay: four rooms in a row, four levers that two agents pull by turns, and no reward before the last one.

Modules, in reading order:

    map     the map, and the tables that the compiled batch looks up
    game    the rules in plain Python
    spec    the rules in words, features with their bounds, events
    env     the PettingZoo environment, the `Task` around it, and the compiled batch
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .env import RelayEnv, RelayTask

__all__ = ["RelayEnv", "RelayTask"]


def __getattr__(name: str) -> Any:
    """Import the environment on first use: PettingZoo and the compiled kernel are not needed for the task's spec."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import env

    return getattr(env, name)
