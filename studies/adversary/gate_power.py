"""Monte Carlo of the whole gate: how often it accepts noise, and how often it sees what helps.

Branch returns are resampled from recorded ones, so that their zero inflation and bimodality are in the simulation:
candidates and control of one intervention are drawn alike, screened on the first seeds, the best continued on the
same seeds, one after another, and judged at every look with the arithmetic of `gate.judge`, until nothing more can be
decided. All candidates share one control, as they do in a run. Left out is what can only withhold an acceptance
(success that falls; under a new exploration a return below the fork's), so that the level is measured where it is
hardest to keep.

    python -m cosignal.studies.adversary.gate_power tests/data/control_returns.json

prints the tables of docs/results.md: the shipped gate with and without `sequential`, beside other looks and other ways
to spend the level.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats

from ...rl.branches.config import BranchConfig, GateConfig
from ...rl.branches.gate import Floats, can_clear, look_levels, lower_bounds, sd_floor

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
        steps_null: expected branch steps of a round where all candidates have a gain of 0, in full horizons.
        steps: [gain in margins, expected branch steps of a round with one candidate that has it].
        steps_mode: the same for the candidate of `power_mode`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: list[float]
    trials: int
    accept_null: float
    accept_margin: float
    power: list[tuple[float, float]]
    power_mode: float
    steps_null: float
    steps: list[tuple[float, float]]
    steps_mode: float


class Judged(NamedTuple):
    """What became of finalists that were judged seed by seed; all arrays are of shape [trials]."""

    accepted: NDArray[np.bool_]
    seeds: NDArray[np.int64]  # full branches that the finalist got


def judge_many(gains: Floats, looks: Sequence[tuple[int, float]], margin: float, sequential: bool = True) -> Judged:
    """Judge finalists as `validate` does.

    Args:
        gains: [trials, seeds], of all seeds that the last look has.
        looks: (number of seeds, level) of the looks that can decide.
        margin: of the gate.
        sequential: run a further seed only while it can still decide; else all seeds of the next look.
    """
    trials = len(gains)
    accepted, going = np.zeros(trials, bool), np.ones(trials, bool)
    seeds = np.zeros(trials, np.int64)
    levels = dict(looks)
    for n in range(2, looks[-1][0] + 1):
        known = gains[:, :n]
        seeds[going] = n
        if n in levels:
            accept = lower_bounds(known, levels[n], sd_floor(margin)) > margin
            reject = lower_bounds(-known, levels[n], sd_floor(margin)) > margin
            accepted |= going & accept
            going &= ~(accept | reject)
        ahead = [look for look in looks if look[0] > n]
        if sequential and ahead:
            chances = [can_clear(way, margin, level, last) for last, level in ahead for way in (known, -known)]
            going &= np.any(chances, axis=0)
    return Judged(accepted, seeds)


def spending_levels(
    share: float,
    looks: Sequence[int],
    spend: Literal["pocock", "obrien_fleming"],
    rng: np.random.Generator,
    draws: int = 400_000,
) -> list[float]:
    """Return the nominal one-sided level of t at each look, so that normal gains are accepted with probability `share`.

    After the part u of the seeds share·ln(1 + (e - 1)·u) is spent (Pocock), or 2 - 2·Φ(z/√u) with z = Φ⁻¹(1 - share/2)
    (O'Brien and Fleming). Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983. The
    levels of later looks are found on `draws` series. A look that may spend less than 4⁻ⁿ gets 0, as in `look_levels`.
    """
    parts = np.asarray(looks) / looks[-1]
    if spend == "pocock":
        spent = share * np.log1p((np.e - 1) * parts)
    else:
        spent = 2 * stats.norm.sf(stats.norm.isf(share / 2) / np.sqrt(parts))
    gains, going = rng.standard_normal((draws, looks[-1])), np.ones(draws, bool)
    levels, before = [], 0.0
    for seeds, total in zip(looks, spent, strict=True):
        if total - before < 4.0**-seeds:
            levels.append(0.0)
            continue
        known = gains[:, :seeds]
        t = known.mean(axis=1) * np.sqrt(seeds) / known.std(axis=1, ddof=1)
        # Of the series that no look has accepted so many are accepted now.
        bound = np.sort(t[going])[-round((total - before) * draws)]
        levels.append(float(stats.t.sf(bound, seeds - 1)))
        going &= t < bound
        before = float(total)
    return levels


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
    sequential: bool = True,
    levels: Sequence[float] | None = None,
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
        sequential: run a further seed only while it can still decide; False for all seeds of each look.
        levels: of the looks; None for those of `look_levels`.
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
    if levels is None:
        levels = look_levels(gate.level, gate.looks, branches.finalists, rounds)

    # how returns are drawn: as recorded, or a share of them escaped
    def null(shape: tuple[int, ...]) -> Floats:
        return rng.choice(returns, shape)

    def mode(share: float) -> Draw:
        return lambda shape: np.where(rng.random(shape) < share, rng.choice(high, shape), rng.choice(low, shape))

    looks = [(seeds, level) for seeds, level in zip(gate.looks, levels, strict=True) if level > 0]

    def simulate(control: Draw, arms: list[tuple[Draw, float]], rounds: int) -> tuple[NDArray[np.bool_], float]:
        """Return what was accepted, [trials, candidates], and the expected steps of a round, in full horizons."""
        shape = (trials, looks[-1][0])
        base = control(shape)
        accepted = np.zeros((trials, len(arms)), bool)
        continued = branches.screen_seeds / 2  # of the full branches this much was run in screening
        steps = np.full(trials, rounds * (len(arms) + 1) * continued)
        for _ in range(rounds):
            # returns at the end of the horizon, and what screening sees of them half-way
            finals = np.stack([draw(shape) + shift for draw, shift in arms], axis=1)
            early = np.stack([draw(shape) + shift for draw, shift in arms], axis=1)
            halfway = np.where(rng.random(finals.shape) < carry, finals, early)
            screened = halfway[:, :, : branches.screen_seeds].mean(axis=-1)
            best = np.argsort(-screened, axis=1, kind="stable")[:, : branches.finalists]
            gains = finals - base[:, None]  # [trials, candidates, seeds]
            done, of_control = np.zeros(trials, bool), np.zeros(trials)
            for arm in best.T:
                got = judge_many(gains[np.arange(trials), arm], looks, margin, sequential)
                steps += np.where(done, 0.0, got.seeds - continued)
                of_control = np.where(done, of_control, np.maximum(of_control, got.seeds - continued))
                accepted[np.arange(trials), arm] |= got.accepted & ~done
                done |= got.accepted
            steps += of_control
        return accepted, float(steps.mean()) / rounds

    def anything(shift: float) -> tuple[float, float]:
        accepted, steps = simulate(null, [(null, shift)] * candidates, rounds)
        return float(accepted.any(axis=1).mean()), steps

    def helpful(control: Draw, helper: tuple[Draw, float]) -> tuple[float, float]:
        accepted, steps = simulate(control, [helper, *[(control, 0.0)] * (candidates - 1)], 1)
        return float(accepted[:, 0].mean()), steps

    (accept_null, steps_null), (accept_margin, _) = anything(0.0), anything(margin)
    helped = {shift: helpful(null, (null, shift * margin)) for shift in shifts}
    power_mode, steps_mode = helpful(mode(trapped), (mode(escaped), 0.0))
    return GatePower(
        levels=list(levels),
        trials=trials,
        accept_null=accept_null,
        accept_margin=accept_margin,
        power=[(shift, rate) for shift, (rate, _) in helped.items()],
        power_mode=power_mode,
        steps_null=steps_null,
        steps=[(shift, steps) for shift, (_, steps) in helped.items()],
        steps_mode=steps_mode,
    )


def report(recorded: ArrayLike, trials: int = 20_000) -> str:
    """Return the tables in Markdown. `recorded`: final returns of control branches; the margin is 0.1."""
    deviations = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    returns: Mapping[str, ArrayLike] = {
        "recorded": recorded,
        **{f"{escaped:g}": zero_inflated(escaped) for escaped in (0.0, 0.05, 0.3, 0.5, 0.7)},
        "normal, sd 1 margin": 1.0 + 0.1 * deviations,
        "normal, sd 3 margins": 1.0 + 0.3 * deviations,
    }
    gate, branches, rounds = GateConfig(), BranchConfig(), 2
    share = gate.level / (branches.finalists * rounds)
    cases: list[tuple[tuple[int, ...], Literal["all_seeds", "shipped", "pocock", "obrien_fleming"]]] = [
        ((4, 6), "all_seeds"), ((4, 6), "shipped"), ((4, 6), "pocock"), ((4, 6), "obrien_fleming"),
        ((4, 5, 6), "shipped"), ((4, 5, 6), "pocock"), ((4, 5, 6), "obrien_fleming"), ((4, 6, 8), "shipped"),
    ]  # fmt: skip
    lines = []
    for looks, how in cases:
        if how == "all_seeds" or how == "shipped":
            levels = look_levels(gate.level, looks, branches.finalists, rounds)
        else:
            levels = spending_levels(share, looks, how, np.random.default_rng(5))
        lines += [
            "",
            f"looks {looks}, {how}: levels {', '.join(f'{level:.4f}' for level in levels)}",
            "",
            "| returns | accepted at gain 0 | at the margin | power at 1 / 2 / 4 margins | escaping | steps at gain 0 "
            "| at 1 / 2 / 4 margins | escaping |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, values in returns.items():
            got = power(
                values,
                margin=0.1,
                gate=gate.model_copy(update={"looks": looks}),
                branches=branches,
                rounds=rounds,
                trials=trials,
                levels=levels,
                sequential=how != "all_seeds",
                rng=np.random.default_rng(0),
            )
            rates = " / ".join(f"{rate:.3f}" for _, rate in got.power)
            steps = " / ".join(f"{steps:.1f}" for _, steps in got.steps)
            cells = (
                name, f"{got.accept_null:.3f}", f"{got.accept_margin:.3f}", rates, f"{got.power_mode:.2f}",
                f"{got.steps_null:.1f}", steps, f"{got.steps_mode:.1f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["returns"]) + "\n")
