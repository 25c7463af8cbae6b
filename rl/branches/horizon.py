"""How long branches run: harm shows early, help at low competence late."""

from __future__ import annotations

from ..stage import STAGES, Stage
from .config import BranchConfig

SHORT_HORIZON = 50_000  # steps; harm is seen, and help where the task is half solved
LOW_COMPETENCE = 0.2
LONG_HORIZON = 200_000  # help at low competence shows only here


def horizon_steps(config: BranchConfig, success: float | None, competence: float | None, stage: Stage) -> int:
    """Environment steps of a full branch; screening takes `screening_steps` of them.

    auto: as the stage says (`rl.stage`): short where the run has converged, or is rising and competent (success rate,
    else the return as a share of its range, at least 0.2), long otherwise, since at low competence help shows late and
    a potential's early dip is not yet harm.
    """
    if config.horizon != "auto":
        return config.horizon
    rule, level = STAGES[stage].horizon, competence if success is None else success
    competent = rule == "by competence" and level is not None and level >= LOW_COMPETENCE
    return SHORT_HORIZON if rule == "short" or competent else LONG_HORIZON


def screening_steps(horizon: int) -> int:
    """Half the horizon."""
    return max(1, horizon // 2)
