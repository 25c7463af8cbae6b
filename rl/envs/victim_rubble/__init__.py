"""Victim-Rubble: a medic and an engineer, whose work depends on each other's.

Modules, in reading order:

    map        the map, and the tables that the compiled batch looks up
    game       the rules in plain Python
    heuristic  a hand-written judge and controller
    spec       the rules in words, features with their bounds, events
    env        the PettingZoo environment, the `Task` around it, and the compiled batch
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .env import VictimRubbleEnv, VictimRubbleTask

__all__ = ["VictimRubbleEnv", "VictimRubbleTask"]


def __getattr__(name: str) -> Any:
    """Import the environment on first use: PettingZoo and the compiled kernel are not needed for the task's spec."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import env

    return getattr(env, name)
