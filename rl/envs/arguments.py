"""Checks of what a task is built with; `task.env_args` of a config may hold anything."""

from __future__ import annotations


def require_at_least(low: int, **given: int) -> None:
    """Raises ValueError for an argument below `low`."""
    for name, value in given.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value!r}; raise it")
