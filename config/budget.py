"""The cost of an intervention in environment steps, and how many of them a run can pay. Pure arithmetic, no torch.

A claim about a *policy* is a race (`cost_of_race`): every arm trains one `adaptation.interval` a rung, beside the main
line, and some leave on the way. A claim about a *signal* (`cost_of_intervention`) screens every arm, the control
included, for half the horizon on a few seeds; the finalists and the control are continued to the full horizon and
judged at each number of seeds in `gate.looks`. Evaluation comes on top and is counted apart: how many steps an episode
takes is not known before.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from ..rl.branches.config import BranchConfig, GateConfig, RaceConfig
from ..rl.branches.horizon import LONG_HORIZON
from ..rl.branches.survival import FRESH_RUNGS
from .adaptation import AdaptationConfig

FIRST_RUNGS = 4  # rungs of all arms before which nothing is expected to be proven: a potential costs return at first


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


class RaceCost(NamedTuple):
    """The price of one race; neither the main line's own steps nor an arm carried over from the race before are in it.

    Attributes:
        first: environment steps of the arms that race at a time over the first rungs, see `first_rungs`.
        whole: environment steps where no arm rises and each is dropped for that alone, after `race.rungs`, a fresh
            start after FRESH_RUNGS, of which the last may be trained in the next race. An arm that rises may train on,
            up to `race.longest`.
        first_episodes: of the looks up to the same rungs as `first`, those of the main line and of the fork included.
        whole_episodes: of all looks.
    """

    first: int
    whole: int
    first_episodes: int
    whole_episodes: int


# ---------------------------------------------------------------- a policy claim


def race_arms(race: RaceConfig, adaptation: AdaptationConfig) -> int:
    """Return how many arms race beside the main line in all: the candidates, the kick alone, and a fresh start."""
    return adaptation.candidates + race.kick_alone + race.fresh_start


def arms_at_a_time(race: RaceConfig, adaptation: AdaptationConfig) -> int:
    """Return how many arms train a rung at most; the others join when these are out."""
    return min(race.arms, race_arms(race, adaptation))


def first_rungs(race: RaceConfig) -> int:
    """Return after how many rungs the first policy can be expected to be proven."""
    return min(FIRST_RUNGS, race.rungs, race.longest)


def cost_of_race(race: RaceConfig, adaptation: AdaptationConfig, *, overlap: bool = False) -> RaceCost:
    """Return what a race costs in which no arm rises.

    Args:
        race: which arms there are beside the candidates, how long they train, and how many episodes a look has.
        adaptation: number of candidates, and the steps of a rung.
        overlap: whether the control is a branch too, since the main line goes on by itself.
    """
    arms, at_a_time = race_arms(race, adaptation), arms_at_a_time(race, adaptation)
    # An arm that does not rise is dropped at this age. The next ones join when all are out, the fresh start last.
    ages = [race.rungs] * (arms - race.fresh_start) + [FRESH_RUNGS] * race.fresh_start
    first, trained, rungs = first_rungs(race), 0, 0
    for k in range(0, arms, at_a_time):
        together = [min(age, race.longest - rungs) for age in ages[k : k + at_a_time]]
        trained, rungs = trained + sum(together), rungs + max(together)
    # The fork is looked at once; after each rung its arms and the control.
    return RaceCost(
        first=first * (at_a_time + overlap) * adaptation.interval,
        whole=(trained + overlap * rungs) * adaptation.interval,
        first_episodes=(1 + first * (at_a_time + 1)) * race.look_episodes,
        whole_episodes=(1 + trained + rungs) * race.look_episodes,
    )


def explain_race_shortage(adaptation: AdaptationConfig, cost: RaceCost, rungs: int, steps_main: int) -> str:
    """Return the arithmetic in one line, with a remedy, for a config that cannot pay the first `rungs` of a race."""
    arms = cost.first // (rungs * adaptation.interval)  # nobody leaves so early
    return (
        f"adaptation.max_share: must afford the first {rungs} rungs of a race, but {arms} arms × {rungs} × "
        f"adaptation.interval {adaptation.interval:_} cost {cost.first:_} steps and max_share "
        f"{adaptation.max_share!r} of {steps_main:_} main steps pays {branch_budget(adaptation, steps_main):_}; raise "
        f"trainer.steps to {steps_needed(adaptation, cost.first):_}, lower race.arms or "
        "adaptation.interval, or set adaptation.enabled to false"
    )


# ---------------------------------------------------------------- a signal claim


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


# ---------------------------------------------------------------- what a run pays


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


def affordable_interventions(adaptation: AdaptationConfig, cost: int, steps_main: int) -> int:
    """Return how many interventions of `cost` steps the run can pay."""
    return branch_budget(adaptation, steps_main) // cost


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
