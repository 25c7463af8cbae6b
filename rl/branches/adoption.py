"""The rule of what a promotion takes over: a branch's end state, or the signal alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..stage import Stage
from .horizon import LOW_COMPETENCE

ZERO_COMPETENCE = 0.05


def choose_adopt(
    adopt: Literal["auto", "signal", "winner"], stage: Stage, success: float | None, competence: float | None
) -> Literal["state", "signal"]:
    """Return what a promotion takes over: the winning branch's end state, or the signal alone.

    `auto` takes the state at zero competence (below 0.05) and when the run is stuck (plateaued or regressing below
    0.2), because a proven state is worth more than a signal that may not repeat its luck; it takes the signal in a
    healthy run.

    Args:
        adopt: the setting `gate.adopt`.
        stage: stage of learning at the fork.
        success: success rate of the last evaluation, None where the task has no success test.
        competence: return as a share of its range, None where it is not known; it counts where `success` is None.
    """
    if adopt != "auto":
        return "state" if adopt == "winner" else "signal"
    level = (competence if success is None else success) or 0.0
    stuck = stage in ("plateaued", "regressing") and level < LOW_COMPETENCE
    return "state" if stuck or level < ZERO_COMPETENCE else "signal"


def winning_seed(finals: Mapping[int, float]) -> int:
    """Return the seed with the best final return, the lowest of equals. `finals` maps seeds to final returns."""
    return min(finals, key=lambda seed: (-finals[seed], seed))
