"""Monte Carlo of the whole gate: how often it accepts noise, and how often it sees what helps.

Branch returns are resampled from recorded ones, so that their zero inflation and bimodality are in the simulation:
candidates and control of one intervention are drawn alike, screened on the first seeds, the best continued on the
same seeds and judged at every look with the arithmetic of `gate.judge`. All candidates share one control, as they do
in a run. Left out is what can only withhold an acceptance (success that falls; under a new exploration a return below
the fork's), so that the level is measured where it is hardest to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict
from scipy import stats

from ...rl.branches.config import BranchConfig, GateConfig
from ...rl.branches.gate import Floats, look_levels, lower_bounds, sd_floor

Draw = Callable[[tuple[int, ...]], Floats]


class GatePower(BaseModel):
    """Shares of simulated interventions.

    Attributes:
        levels: level of each look.
        trials: how many interventions were simulated.
        accept_null: share in which anything was accepted while all candidates had a gain of 0; has to stay below the
            gate's level.
        accept_margin: the same where all candidates had a gain of just the margin.
        power: [gain in margins, share in which the one candidate that has it was accepted].
        power_mode: share in which a candidate was accepted of whose branches most escape where the control's do not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: list[float]
    trials: int
    accept_null: float
    accept_margin: float
    power: list[tuple[float, float]]
    power_mode: float


def zero_inflated(escaped: float, size: int = 200) -> Floats:
    """Return `size` final returns as short branches of a stalled run have them.

    Most are 1.00 ± 0.02, a share `escaped` lies between 2.5 and 2.83. It is a stand-in with the measured shape, for use
    where no recorded returns are at hand.
    """
    high = round(escaped * size)
    quantiles = (np.arange(size - high) + 0.5) / max(size - high, 1)
    return np.concatenate([1.0 + 0.02 * stats.norm.ppf(quantiles), np.linspace(2.5, 2.83, high)])


def power(
    returns_null: ArrayLike,
    *,
    margin: float,
    gate: GateConfig,
    branches: BranchConfig,
    rng: np.random.Generator,
    candidates: int = 4,
    rounds: int = 1,
    shifts: Sequence[float] = (1.0, 2.0, 4.0),
    carry: float = 1.0,
    escaped: float = 0.9,
    trapped: float = 0.05,
    trials: int = 4000,
) -> GatePower:
    """Simulate interventions on resampled returns.

    Power is measured in one round at the level that `rounds` leaves to it, with one helpful candidate among
    `candidates`.

    Args:
        returns_null: final returns of control branches.
        margin: of the gate, in sparse return.
        gate: looks and level.
        branches: numbers of screening seeds and finalists.
        rng: draws everything.
        candidates: proposals of a round.
        rounds: of an intervention.
        shifts: gains to measure the power for, in margins.
        carry: chance that a branch's screening return is already its final one; 1 is the hardest case for the level,
            since what screening picked by luck is then judged again.
        escaped: share of a helpful candidate's branches that escape, for `power_mode`.
        trapped: share of the control's that do.
        trials: how many interventions are simulated.
    """
    returns = np.asarray(returns_null, np.float64)
    # trapped and escaped returns: split at the largest gap; without a gap of four margins the escaped mode is made up,
    # 25 margins higher, which is half the return range at the default margin
    ordered = np.sort(returns)
    gaps = np.diff(ordered)
    if len(gaps) and gaps.max() > 4 * margin:
        low, high = np.split(ordered, [int(gaps.argmax()) + 1])
    else:
        low, high = ordered, ordered + 25 * margin
    levels = look_levels(gate.level, gate.looks, branches.finalists, rounds)

    # how returns are drawn: as recorded, or a share of them escaped
    def null(shape: tuple[int, ...]) -> Floats:
        return rng.choice(returns, shape)

    def mode(share: float) -> Draw:
        return lambda shape: np.where(rng.random(shape) < share, rng.choice(high, shape), rng.choice(low, shape))

    def simulate(control: Draw, arms: list[tuple[Draw, float]], rounds: int) -> Floats:
        shape = (trials, max(gate.looks))
        base = control(shape)
        accepted = np.zeros((trials, len(arms)), bool)
        for _ in range(rounds):
            # returns at the end of the horizon, and what screening sees of them half-way
            finals = np.stack([draw(shape) + shift for draw, shift in arms], axis=1)
            early = np.stack([draw(shape) + shift for draw, shift in arms], axis=1)
            halfway = np.where(rng.random(finals.shape) < carry, finals, early)
            screened = halfway[:, :, : branches.screen_seeds].mean(axis=-1)
            rank = np.argsort(np.argsort(-screened, axis=1, kind="stable"), axis=1)
            gains = finals - base[:, None]  # [trials, candidates, seeds]
            for seeds, level in zip(gate.looks, levels, strict=True):
                lower = lower_bounds(gains[:, :, :seeds], level, sd_floor(margin))
                accepted |= (rank < branches.finalists) & (lower > margin)
        return accepted.astype(np.float64)

    def anything(shift: float) -> float:
        return float(simulate(null, [(null, shift)] * candidates, rounds).any(axis=1).mean())

    def helpful(control: Draw, helper: tuple[Draw, float]) -> float:
        return float(simulate(control, [helper, *[(control, 0.0)] * (candidates - 1)], 1)[:, 0].mean())

    return GatePower(
        levels=levels,
        trials=trials,
        accept_null=anything(0.0),
        accept_margin=anything(margin),
        power=[(shift, helpful(null, (null, shift * margin))) for shift in shifts],
        power_mode=helpful(mode(trapped), (mode(escaped), 0.0)),
    )
