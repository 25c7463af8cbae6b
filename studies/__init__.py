"""Comparisons that anyone can run again: `cosignal study NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigError

NAMES = ("two-switch",)


def run_study(name: str, seeds: int | None, arms: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Run a study on seeds 1…`seeds`; returns `name, command, commit, rows` and more as plain data.

    `arms`: which of the study's arms, all of them where empty. `tell` is called with a line of progress or of the
    result. Raises ConfigError for an unknown name or arm.
    """
    if name != "two-switch":
        raise ConfigError(f"study must be one of {', '.join(NAMES)}, got {name!r}; name one of them")
    from .two_switch import run_two_switch

    return run_two_switch(seeds or 10, arms, tell)
