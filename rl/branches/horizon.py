"""The rule of the branch length: harm shows early, help at low competence shows late."""

from __future__ import annotations

from ..stage import STAGES, Stage
from .config import BranchConfig

SHORT_HORIZON = 50_000  # steps; harm shows, and help where the task is half solved
LOW_COMPETENCE = 0.2
LONG_HORIZON = 200_000  # steps; help at low competence shows only here


def horizon_steps(config: BranchConfig, success: float | None, competence: float | None, stage: Stage) -> int:
    """Return the environment steps of a full branch.

    A configured horizon is taken as it is. `auto` follows the stage (`rl.stage`): short where the run has converged,
    or is rising and competent; long otherwise, since at low competence help shows late and a potential's early dip is
    not yet harm.

    Args:
        config: its `horizon`.
        success: success rate of the last evaluation, None where the task has no success test.
        competence: return as a share of its range, None where it is not known; it counts where `success` is None.
        stage: stage of learning at the fork.
    """
    if config.horizon != "auto":
        return config.horizon
    rule, level = STAGES[stage].horizon, competence if success is None else success
    competent = rule == "by competence" and level is not None and level >= LOW_COMPETENCE
    return SHORT_HORIZON if rule == "short" or competent else LONG_HORIZON


def screening_steps(horizon: int) -> int:
    """Return half the horizon: the environment steps after which candidates are screened."""
    return max(1, horizon // 2)
