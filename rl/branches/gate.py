"""The gate: the deterministic rule that turns branch results into a verdict. No model has a vote.

The statistic is the final sparse return of a candidate's branches, paired with the control's over their common seeds.
Returns of short branches are bimodal (a branch escapes a trap or it does not), so a bare mean, a majority, or one
seed accept noise in 20 to 40 % of cases; a one-sided t bound does not. Two things need care beyond it:

* Gains of branches that all fell into the same mode have a standard deviation near 0 by chance. It is floored at half
  the margin, which is about what an evaluation on a few dozen episodes cannot resolve.
* Even with any floor, n candidate branches may all escape while no control branch does. Where half of all branches
  escape, this has the probability 4⁻ⁿ per candidate, whatever the level of the t bound. `look_levels` spends the level
  accordingly, and `studies.adversary.gate_power` measures by simulation what error is left.

Seeds are run one after another, and no further one where none can matter: `can_clear` says which gains are still to
decide at a later look, whatever the seeds to come give. This spends no level, since the verdict that is forgone is
known; expected steps fall by a third and more.

All returns, gains and margins are undiscounted sparse returns; levels are one-sided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from ...errors import ConfigError
from ..ipc.messages import BranchResult
from ..signals.signal import Signal
from .horizon import SHORT_HORIZON

JudgementVerdict = Literal["accept", "reject", "no_difference"]
Verdict = Literal["accept", "not_informative", "no_difference", "reject"]
Kind = Literal["potential", "event"]

INFORMATIVE_SHARE = 0.05  # of the width of the return range, above the fork
LARGEST_LOOK = 0.625  # share of a finalist's level that one look may spend
SUCCESS_FLOOR = 0.02  # floor of the standard deviation of a success rate's change

Floats = NDArray[np.float64]
Looks = Sequence[tuple[int, float]]  # (number of seeds, one-sided level) of looks that can decide, ascending


# ------------------------------------------------------------ bounds of a mean gain


@dataclass(frozen=True)
class GainBounds:
    """A mean gain with its one-sided bounds by Student's t.

    Attributes:
        mean: mean gain over n seeds.
        deviation: sample standard deviation of the gains (n - 1 in the denominator), or the floor where that is larger.
        floored: whether the floor is larger.
        t: quantile 1 - level of Student's t with n - 1 degrees of freedom; infinite at level 0.
        reach: t × deviation / √n, from the mean to either bound.
        lower: mean - reach, the one-sided lower confidence bound.
        upper: mean + reach, the one-sided upper confidence bound.
    """

    mean: float
    deviation: float
    floored: bool
    t: float
    reach: float
    lower: float
    upper: float


def gain_bounds(gains: Sequence[float] | Floats, level: float, floor: float) -> GainBounds:
    """Bound the mean of `gains` [n].

    Args:
        gains: one gain per seed, at least two.
        level: one-sided level, in 0..0.5; both bounds together hold at twice that.
        floor: lowest standard deviation that is believed; the gate takes `sd_floor`.
    """
    values = np.asarray(gains, np.float64)
    mean, deviation, t, reach = _student(values, level, floor)
    return GainBounds(
        mean=float(mean),
        deviation=float(deviation),
        floored=bool(floor > values.std(ddof=1)),
        t=t,
        reach=float(reach),
        lower=float(mean - reach),
        upper=float(mean + reach),
    )


def lower_bounds(gains: Floats, level: float, floor: float) -> Floats:
    """Return [...], the lower bounds that `gain_bounds` gives for each row of `gains` [..., n]."""
    mean, _, _, reach = _student(gains, level, floor)
    return mean - reach


def _student(gains: Floats, level: float, floor: float) -> tuple[Floats, Floats, float, Floats]:
    """Return (mean, floored deviation, quantile of t, reach) of gains [..., n], the arrays of shape [...]."""
    n = gains.shape[-1]
    deviation = np.maximum(gains.std(axis=-1, ddof=1), floor)
    t = float(stats.t.ppf(1.0 - level, n - 1))
    return gains.mean(axis=-1), deviation, t, t * deviation / np.sqrt(n)


def can_clear(gains: Floats, bar: float, level: float, seeds: int) -> NDArray[np.bool_]:
    """Return [...]: whether a row of `gains` [..., k] may yet have a lower bound above `bar` with all its `seeds`.

    False is certain: whatever the gains of the other r = n - k seeds are, the bound of all n stays at `bar` or below.
    Let the first k have the mean a and the sum of squared deviations S. For a given sum of the others the deviation is
    least where they are equal, a + d each; then

        bound(d) = a + (r/n)·d - c·√(S + (k·r/n)·d²),   c = t/√(n·(n - 1)),

    which is concave in d. Its least upper bound is a - √(S·(c² - r/(k·n))) where c² ≥ r/(k·n), else infinite. The floor
    of the deviation would only lower it.

    Args:
        gains: of the seeds that are known.
        bar: that the lower bound has to be above.
        level: one-sided level of the bound, in 0..0.5; at 0 nothing can be cleared.
        seeds: n, more than k or k itself; at least two.
    """
    k = gains.shape[-1]
    if level == 0.0:
        return np.zeros(gains.shape[:-1], np.bool_)
    mean = gains.mean(axis=-1)
    squares = ((gains - mean[..., None]) ** 2).sum(axis=-1)
    t = float(stats.t.ppf(1.0 - level, seeds - 1))
    slack = t**2 / (seeds * (seeds - 1)) - (seeds - k) / (k * seeds)
    reachable = mean - np.sqrt(squares * max(slack, 0.0)) > bar
    return np.asarray(reachable | (slack < 0.0), np.bool_)


def sd_floor(margin: float) -> float:
    """Return the lowest standard deviation that the gate believes: half the margin, see the docstring of the module."""
    return max(margin / 2.0, 1e-9)


# ------------------------------------------------------------ screening and levels


def screen(gains: Mapping[str, Sequence[float]], finalists: int) -> list[str]:
    """Return the `finalists` candidates with the best mean gain at the screening horizon, best first.

    `gains` maps a candidate to its gains, one per seed; ties keep the order of the mapping.
    """
    return sorted(gains, key=lambda name: -float(np.mean(gains[name])))[:finalists]


def look_levels(level: float, looks: Sequence[int], finalists: int, rounds: int = 1) -> list[float]:
    """Return the one-sided level of each look, so that accepting anything when nothing helps stays below `level`.

    The level is divided by Bonferroni over `rounds` and finalists (at least two, since a single finalist is still the
    best of several). Each look gets a part of its finalist's share in proportion to its seeds, so the last one gets
    most, but no look more than 5/8: what stays unspent pays for screening on the same seeds. A look whose part is
    below 4⁻ⁿ cannot hold its level on bimodal returns; it gets 0 (it only continues) and leaves its part to the next.

    Args:
        level: probability of accepting anything in one intervention when nothing helps.
        looks: numbers of seeds at which a finalist is judged, ascending.
        finalists: candidates that are judged in a round.
        rounds: rounds of an intervention.

    Raises:
        ConfigError: no look has a level that it can hold.
    """
    share = level / (max(finalists, 2) * rounds)
    levels, carried = [], 0.0
    for seeds in looks:
        # In proportion to its seeds, plus what an earlier look could not use.
        part = carried + share * seeds / sum(looks)
        # 4⁻ⁿ: the probability that all candidates escape and no control does, where half of all branches escape.
        enough = min(part, LARGEST_LOOK * share) >= 4.0**-seeds
        levels.append(min(part, LARGEST_LOOK * share) if enough else 0.0)
        carried = 0.0 if enough else part
    if not any(levels):
        raise ConfigError(
            f"gate.looks must have a look whose level can be kept, got {list(looks)!r} with level {level!r}, "
            f"{finalists} finalists and {rounds} rounds; judge on 5 seeds or more"
        )
    return levels


# ------------------------------------------------------------ judging one finalist


class Arm(BaseModel):
    """The finished branches of one candidate, or of the control.

    Attributes:
        name: id of the proposal, or `control`.
        finals: final return by seed.
        successes: success rate by seed, None where the task has no success test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    finals: dict[int, float]
    successes: dict[int, float | None] = {}

    @classmethod
    def of(cls, name: str, results: Sequence[BranchResult]) -> Arm:
        """Build the arm `name` from the results of its branches, one per seed."""
        finals = {result.seed: result.final_return for result in results}
        return cls(name=name, finals=finals, successes={result.seed: result.success_rate for result in results})


class Judgement(BaseModel):
    """One finalist judged at one look.

    Attributes:
        arm: name of the finalist.
        verdict: `no_difference` also where the look only continues.
        gain: mean gain over the control, in sparse return.
        lower: one-sided lower bound of the gain at `level`, None where the look only continues.
        upper: one-sided upper bound, likewise.
        level: level of the look, 0 where it only continues.
        seeds: common seeds, ascending.
        success_change: mean change of the success rate, None where the task has no success test.
        margin: gain that counts, in sparse return.
        removal: whether the candidate only takes terms away.
        explanation: the judgement in one line.
        is_open: whether the looks ahead may still accept or reject; not recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    verdict: JudgementVerdict
    gain: float
    lower: float | None
    upper: float | None
    level: float
    seeds: list[int]
    success_change: float | None
    margin: float
    removal: bool
    explanation: str
    is_open: bool = Field(default=False, exclude=True)


def signal_kind(signal: Signal) -> Kind:
    """Return `potential` where all terms are potentials, which do not change what is optimal; else `event`."""
    return "potential" if all(term.is_potential for term in signal.terms) else "event"


def judge(
    candidate: Arm,
    control: Arm,
    *,
    margin: float,
    level: float,
    removal: bool,
    fork_return: float,
    return_width: float,
    kind: Kind = "potential",
    horizon: int | None = None,
    explores: bool = False,
    ahead: Looks = (),
) -> Judgement:
    """Judge a finalist against the control on their common seeds.

    * accept: the lower bound of the gain is above `margin` (above -margin for a `removal`) and success did not fall.
    * reject: the upper bound of the gain is below -margin, or success fell (the upper bound of its change is below 0).
      A potential at a horizon of 50 000 steps or less is not rejected for its return: it dips first.
    * no_difference: everything else.

    Args:
        candidate: branches under the candidate signal.
        control: branches under the signal in force, from the same snapshot.
        margin: gain that counts, in sparse return.
        level: one-sided level of this look; 0 for a look that only continues, and between looks.
        removal: whether the candidate only takes terms away; then it is enough that nothing is lost.
        fork_return: training return at the fork, before any kick.
        return_width: width of the return range.
        kind: `signal_kind` of the candidate.
        horizon: environment steps of the branches, None where that does not matter.
        explores: whether all arms of the round, the control included, had another exploration than the one in force. A
            control that a kick has wrecked is easily beaten, so an acceptance then also needs the lower bound of
            (final - `fork_return`) above -margin: what would be promoted has not lost against the run as it was.
        ahead: looks with more seeds that could be had; the judgement says whether they may still accept or reject.

    Raises:
        ValueError: there are fewer than two common seeds.
    """
    seeds = sorted(candidate.finals.keys() & control.finals.keys())
    if len(seeds) < 2:
        raise ValueError(f"a judgement needs two common seeds, got {seeds!r} of {candidate.name!r}; run more branches")
    # Paired by seed: the branches of one seed have the same random streams.
    gains = np.array([candidate.finals[seed] - control.finals[seed] for seed in seeds])
    rises = np.array([candidate.finals[seed] - fork_return for seed in seeds])
    gain = gain_bounds(gains, level, sd_floor(margin))
    changes = _success_changes(candidate, control, seeds)
    # It fell for sure where even the upper bound of the change is below 0.
    success = None if changes is None else gain_bounds(changes, level, SUCCESS_FLOOR)
    success_change, success_fell = (None, False) if success is None else (success.mean, success.upper < 0)
    # A potential may dip first; a removal may not, and neither may a long branch.
    early = kind == "potential" and not removal and horizon is not None and horizon <= SHORT_HORIZON
    verdict, reason = _verdict(gain, margin, removal=removal, success_fell=success_fell, early=early)

    # The new exploration may have harmed the control, so the fork is a second yardstick.
    if explores and verdict == "accept" and level > 0:
        rise = gain_bounds(rises, level, sd_floor(margin))
        against = f"against the fork before the new exploration {rise.mean:+.3f}, lower bound {rise.lower:+.3f}"
        if rise.lower > -margin:
            reason = f"{reason}; {against}"
        else:
            verdict = "no_difference"
            reason = f"it beats a control that the new exploration harmed: {against} is not above {-margin:+.3g}"
    # Without a level there is no decision, whatever the numbers say.
    if level == 0.0:
        verdict, reason = "no_difference", "this look only continues: it has too few seeds for the level that is left"

    def may_accept(n: int, level: float) -> bool:
        above_fork = not explores or bool(can_clear(rises, -margin, level, n))
        return above_fork and bool(can_clear(gains, -margin if removal else margin, level, n))

    def may_reject(n: int, level: float) -> bool:
        falls = changes is not None and bool(can_clear(-changes, 0.0, level, n))
        return falls or (not early and bool(can_clear(-gains, margin, level, n)))

    is_open = any(may_accept(*look) or may_reject(*look) for look in ahead)
    if ahead and verdict == "no_difference" and not is_open:
        undecided = f"no gain on further seeds, up to {ahead[-1][0]}, could decide it"
        reason = undecided if level == 0.0 else f"{reason}, and {undecided}"
    # Say so where exploration has collapsed in both arms.
    if verdict == "no_difference" and not is_informative([candidate, control], fork_return, return_width):
        reason += "; no branch of either arm rose above the fork"

    bounds = f", bounds {gain.lower:+.3f} … {gain.upper:+.3f} at level {level:.3g}" if level > 0 else ""
    told = "" if success_change is None else f", success {success_change:+.2f}"
    summary = f"{candidate.name}: gain {gain.mean:+.3f} over {len(seeds)} seeds{bounds}{told}"
    return Judgement(
        arm=candidate.name,
        verdict=verdict,
        gain=gain.mean,
        lower=gain.lower if level > 0 else None,
        upper=gain.upper if level > 0 else None,
        level=level,
        seeds=seeds,
        success_change=success_change,
        margin=margin,
        removal=removal,
        explanation=f"{summary}: {verdict.replace('_', ' ')}, {reason}",
        is_open=is_open,
    )


def _verdict(
    gain: GainBounds, margin: float, *, removal: bool, success_fell: bool, early: bool
) -> tuple[JudgementVerdict, str]:
    """Return the verdict on a gain over the control, and the reason. `early`: a potential may still dip."""
    bar = -margin if removal else margin
    if success_fell:
        return "reject", "the success rate fell"
    if gain.lower > bar:
        return "accept", f"the lower bound clears {bar:+.3g}" + (" (nothing is lost by removing)" if removal else "")
    if gain.upper < -margin and early:
        return "no_difference", f"the upper bound is below {-margin:+.3g}, but a potential may dip this early"
    if gain.upper < -margin:
        return "reject", f"the upper bound is below {-margin:+.3g}"
    return "no_difference", f"the lower bound does not clear {bar:+.3g}"


def _success_changes(candidate: Arm, control: Arm, seeds: list[int]) -> Floats | None:
    """Return the changes of the success rate by seed, None where one is not known."""
    pairs = [(candidate.successes.get(seed), control.successes.get(seed)) for seed in seeds]
    changes = [a - b for a, b in pairs if a is not None and b is not None]
    return np.array(changes) if len(changes) == len(seeds) else None


def judge_kick(control: Arm, *, fork_return: float, margin: float, level: float, ahead: Looks = ()) -> Judgement:
    """Judge the exploration kick that all arms of a round had: compare the control's branches with the fork.

    Where the kick alone revives a run, candidate and control both rise and no candidate can be told from the control,
    yet the main line, which had no kick, stays where it is. The verdict is accept where the lower bound of
    (final - `fork_return`) is above `margin`, since a state is then adopted that has proven its return; else it is
    no_difference. The arguments are those of `judge`.

    Raises:
        ValueError: there are fewer than two seeds.
    """
    seeds = sorted(control.finals)
    if len(seeds) < 2:
        raise ValueError(f"a judgement needs two seeds, got {seeds!r} of {control.name!r}; run more branches")
    rises = np.array([control.finals[seed] - fork_return for seed in seeds])
    rise = gain_bounds(rises, level, sd_floor(margin))
    verdict: JudgementVerdict = "accept" if rise.lower > margin else "no_difference"
    summary = f"{control.name}: with the kick alone {rise.mean:+.3f} above the fork over {len(seeds)} seeds"
    reason = f"the lower bound {'clears' if rise.lower > margin else 'does not clear'} {margin:+.3g}"
    return Judgement(
        arm=control.name,
        verdict=verdict,
        gain=rise.mean,
        lower=rise.lower,
        upper=rise.upper,
        level=level,
        seeds=seeds,
        success_change=None,
        margin=margin,
        removal=False,
        explanation=f"{summary}, bounds {rise.lower:+.3f} … {rise.upper:+.3f} at level {level:.3g}: "
        f"{verdict.replace('_', ' ')}, {reason}",
        is_open=any(bool(can_clear(rises, margin, level_ahead, n)) for n, level_ahead in ahead),
    )


# ------------------------------------------------------------ the verdict of an intervention


def is_informative(
    arms: Sequence[Arm], fork_return: float, return_width: float, best_return: float | None = None
) -> bool:
    """Return whether any branch of any arm ended above the fork by more than 5 % of the width of the return range.

    Where none rose, exploration has collapsed, and neither a signal nor a longer horizon mends that.

    Args:
        arms: candidates and control.
        fork_return: training return at the fork, measured before any kick.
        return_width: width of the return range.
        best_return: upper end of the declared return range, None where none is declared. A fork within 5 % of it
            cannot be risen above: it is solved, not collapsed, and counts as informative.
    """
    rise = INFORMATIVE_SHARE * return_width
    # Solved already: nothing can rise above it by that much.
    if best_return is not None and fork_return >= best_return - rise:
        return True
    return any(final > fork_return + rise for arm in arms for final in arm.finals.values())


def conclude(judgements: Sequence[Judgement], informative: bool) -> Verdict:
    """Return the verdict of the intervention, the first that holds of: accept, not_informative, no_difference, reject.

    Raises:
        ValueError: there are no judgements.
    """
    verdicts = {judgement.verdict for judgement in judgements}
    if not verdicts:
        raise ValueError("conclude needs the judgement of at least one finalist, got none; validate before deciding")
    if "accept" in verdicts:
        return "accept"
    if not informative:
        return "not_informative"
    return "no_difference" if "no_difference" in verdicts else "reject"


def winner(judgements: Sequence[Judgement]) -> Judgement | None:
    """Return the accepted judgement with the largest gain (the first of equals), None where none was accepted."""
    accepted = [judgement for judgement in judgements if judgement.verdict == "accept"]
    return max(accepted, key=lambda judgement: judgement.gain, default=None)
