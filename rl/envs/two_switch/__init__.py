"""Two-Switch: two agents must trigger two switches before a door opens to the goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .env import TwoSwitchEnv, TwoSwitchTask

__all__ = ["TwoSwitchEnv", "TwoSwitchTask"]


def __getattr__(name: str) -> Any:
    """Import the environment on first use: PettingZoo and the compiled kernel are not needed to describe the task."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import env

    return getattr(env, name)
