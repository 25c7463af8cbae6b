"""The cost of an intervention in environment steps, and how many of them a run can pay. Pure arithmetic, no torch.

Every arm (the candidates and the control) is screened for half the horizon on a few seeds; the finalists and the
control are continued to the full horizon and judged at each number of seeds in `gate.looks`. Evaluation steps come on
top and are counted apart; they are small against the branches.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from ..rl.branches.config import BranchConfig, GateConfig
from ..rl.branches.horizon import LONG_HORIZON
from .adaptation import AdaptationConfig


class InterventionCost(NamedTuple):
    """Environment steps of one round of one intervention; evaluation is not in it.

    Attributes:
        screen: of screening.
        full: of the finalists and the control up to the full horizon.
    """

    screen: int
    full: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.screen + self.full


def horizon_to_plan_for(branches: BranchConfig) -> int:
    """Return the steps of the longest full branch that this config can ask for.

    `auto` may ask for the long horizon: near zero competence help shows after so many steps and not earlier.
    """
    return LONG_HORIZON if branches.horizon == "auto" else branches.horizon


def cost_of_intervention(
    branches: BranchConfig,
    gate: GateConfig,
    adaptation: AdaptationConfig,
    horizon: int,
    look: int = -1,
    finalists: int = 1,
    candidates: int | None = None,
) -> InterventionCost:
    """Return the steps of one round.

    Screening: (candidates + control) · screen_seeds · horizon/2. Full: (finalists + control) times what each of the
    look's seeds still needs: horizon/2 where the screened branch is continued, horizon on a fresh seed.

    Args:
        branches: number of screening seeds.
        gate: seeds of each look.
        adaptation: number of candidates.
        horizon: steps of a full branch.
        look: number of the last look that is paid for; 0 is the first, -1 the last.
        finalists: how many are judged, one after another.
        candidates: how many are branched, where that is known already; None for as many as the config allows.
    """
    half = horizon // 2
    # every arm is screened for half the horizon
    arms = (adaptation.candidates if candidates is None else candidates) + 1
    judged = finalists + 1  # the control runs beside them
    # screened seeds are continued, further ones begin at the fork
    continued = min(branches.screen_seeds, gate.looks[look])
    fresh = gate.looks[look] - continued
    return InterventionCost(
        screen=arms * branches.screen_seeds * half,
        full=judged * (continued * (horizon - half) + fresh * horizon),
    )


def branch_budget(adaptation: AdaptationConfig, steps_main: int) -> int:
    """Return the branch steps that main steps pay for: a share s of all steps is s/(1−s) of the main steps."""
    return int(steps_main * _per_main_step(adaptation))


def steps_needed(adaptation: AdaptationConfig, cost: int) -> int:
    """Return the main steps from which on `cost` branch steps are within `max_share`."""
    return math.ceil(cost / _per_main_step(adaptation))


def _per_main_step(adaptation: AdaptationConfig) -> Fraction:
    """Return the branch steps that one main step pays for; exact, so that 0.75 is 3 and not 2.999…"""
    share = Fraction(str(adaptation.max_share))
    return share / (1 - share)


def affordable_interventions(adaptation: AdaptationConfig, cost: InterventionCost, steps_main: int) -> int:
    """Return how many interventions of this cost the run can pay."""
    return branch_budget(adaptation, steps_main) // cost.total


def explain_shortage(adaptation: AdaptationConfig, cost: InterventionCost, horizon: int, steps_main: int) -> str:
    """Return the arithmetic in one line, with a remedy, for a config that affords no intervention."""
    budget = branch_budget(adaptation, steps_main)
    return (
        f"adaptation.max_share: must afford at least one intervention, but one costs {cost.total:_} branch steps "
        f"(screening {cost.screen:_} + finalists {cost.full:_} at horizon {horizon:_}) and max_share "
        f"{adaptation.max_share!r} of {steps_main:_} main steps pays {budget:_}; raise trainer.steps to "
        f"{steps_needed(adaptation, cost.total):_}, lower branches.horizon or adaptation.candidates, "
        "or set adaptation.enabled to false"
    )
