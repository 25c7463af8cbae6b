"""The gate: the deterministic rule that turns branch results into a verdict. No model has a vote.

Statistic: the final sparse return of a candidate's branches paired with the control's over their common seeds.
Returns of short branches are bimodal (a branch escapes a trap or it does not), so a bare mean, a majority, or one
seed accept noise in 20 to 40 % of cases; a one-sided t bound does not. Two things need care beyond it:

* Gains of branches that all fell into the same mode have a standard deviation near 0 by chance. It is floored at half
  the margin, which is about what evaluation on a few dozen episodes cannot resolve.
* Even with any floor, n candidate branches may all escape while no control branch does. Where half of all branches
  escape this has the chance 4⁻ⁿ per candidate, whatever the t bound's level. `look_levels` spends accordingly, and
  `power.power` measures by simulation what error is left.

All returns, gains and margins are undiscounted sparse returns; levels are one-sided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats

from ...errors import ConfigError
from ..ipc.messages import BranchResult
from ..signals.signal import Signal
from ..stage import Stage
from .horizon import LOW_COMPETENCE, SHORT_HORIZON

JudgementVerdict = Literal["accept", "reject", "no_difference"]
Verdict = Literal["accept", "not_informative", "no_difference", "reject"]
Kind = Literal["potential", "event"]

ZERO_COMPETENCE = 0.05
INFORMATIVE_SHARE = 0.05  # of the width of the return range, above the fork
LARGEST_LOOK = 0.625  # share of a finalist's level that one look may spend
SUCCESS_FLOOR = 0.02  # floor of the standard deviation of a success rate's change

Floats = NDArray[np.float64]


class Arm(BaseModel):
    """Finished branches of one candidate or of the control: seed → final return, seed → success rate or None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    finals: dict[int, float]
    successes: dict[int, float | None] = {}

    @classmethod
    def of(cls, name: str, results: Sequence[BranchResult]) -> Arm:
        finals = {r.seed: r.final_return for r in results}
        return cls(name=name, finals=finals, successes={r.seed: r.success_rate for r in results})


class Judgement(BaseModel):
    """One finalist at one look. `lower`, `upper`: one-sided bounds of the gain at `level`, None where the look only
    continues. `gain` and bounds in sparse return; `success_change` in shares, None where the task has no success test.
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


# ------------------------------------------------------------ before: horizon, screening, levels


def screen(gains: Mapping[str, Sequence[float]], finalists: int) -> list[str]:
    """The `finalists` best by mean gain at the screening horizon, best first; ties keep the given order."""
    return sorted(gains, key=lambda name: -float(np.mean(gains[name])))[:finalists]


def look_levels(level: float, looks: Sequence[int], finalists: int, rounds: int = 1) -> list[float]:
    """The one-sided level of each look, so that accepting anything when nothing helps stays below `level`.

    Bonferroni over `rounds` and finalists (at least two, since a single finalist is still the best of several). Each
    look gets a part of its finalist's share in proportion to its seeds, so the last one gets most, but no look more
    than 5/8: what stays unspent pays for screening on the same seeds. A look whose part is below 4⁻ⁿ cannot keep its
    word on bimodal returns; it gets 0 (it only continues) and leaves its part to the next look. Raises ConfigError
    where no look is left.
    """
    share = level / (max(finalists, 2) * rounds)
    levels, carried = [], 0.0
    for seeds in looks:
        part = carried + share * seeds / sum(looks)
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


def gain_bounds(gains: Floats, level: float, floor: float) -> tuple[Floats, Floats, Floats]:
    """(mean, lower, upper) of gains [..., n] by Student's t with the standard deviation floored at `floor`."""
    n = gains.shape[-1]
    mean = gains.mean(axis=-1)
    deviation = np.maximum(gains.std(axis=-1, ddof=1), floor)
    reach = stats.t.ppf(1.0 - level, n - 1) * deviation / np.sqrt(n)
    return mean, mean - reach, mean + reach


def sd_floor(margin: float) -> float:
    """Half the margin: see the module's docstring."""
    return max(margin / 2.0, 1e-9)


def signal_kind(signal: Signal) -> Kind:
    """Whether anything is in it that changes what is optimal, or potentials alone (which do not)."""
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
) -> Judgement:
    """Judge a finalist against the control on their common seeds.

    accept: the lower bound of the gain is above `margin` (in sparse return; above −margin for a `removal`) and
    success did not fall. `explores`: the round's arms, control included, were all given another exploration than the
    one in force; a control that a kick has wrecked is easily beaten, so an acceptance then also needs the lower bound
    of (final − `fork_return`) above −margin: what would be promoted has not lost against the run as it was.
    reject: the upper bound of the gain is below −margin, or success fell (the upper bound of its change is below 0). A
    potential at a horizon of 50 000 steps or less is not rejected for its return: it dips first. Else no_difference.
    Raises ValueError with fewer than two common seeds.
    """
    seeds = sorted(candidate.finals.keys() & control.finals.keys())
    if len(seeds) < 2:
        raise ValueError(f"a judgement needs two common seeds, got {seeds!r} of {candidate.name!r}; run more branches")
    gains = np.array([candidate.finals[s] - control.finals[s] for s in seeds])
    change, fell = _success_change(candidate, control, seeds, level)
    mean, lower, upper = (float(x) for x in gain_bounds(gains, level, sd_floor(margin)))
    early = kind == "potential" and not removal and horizon is not None and horizon <= SHORT_HORIZON
    verdict, why = _verdict(lower, upper, margin, removal=removal, fell=fell, early=early)
    if explores and verdict == "accept" and level > 0:
        verdict, why = _against_the_fork(candidate, seeds, fork_return, margin, level, why)
    if level == 0.0:
        verdict, why = "no_difference", "this look only continues: it has too few seeds for the level that is left"
    if verdict == "no_difference" and not is_informative([candidate, control], fork_return, return_width):
        why += "; no branch of either arm rose above the fork"
    words = _words(candidate.name, mean, lower, upper, level, seeds, change)
    bounds = (lower, upper) if level > 0 else (None, None)
    return Judgement(
        arm=candidate.name, verdict=verdict, gain=mean, lower=bounds[0], upper=bounds[1], level=level, seeds=seeds,
        success_change=change, margin=margin, removal=removal,
        explanation=f"{words}: {verdict.replace('_', ' ')}, {why}",
    )  # fmt: skip


def judge_kick(control: Arm, *, fork_return: float, margin: float, level: float) -> Judgement:
    """Judge the exploration kick that all arms of a round were given: the control's branches against the fork.

    Where the kick alone revives a run, candidate and control both rise and no candidate can be told from the control,
    yet the main line, which had no kick, stays where it is. accept: the lower bound of (final − `fork_return`) is above
    `margin`; what is then adopted is a state that has proven its return. Else no_difference. Raises ValueError with
    fewer than two seeds.
    """
    seeds = sorted(control.finals)
    if len(seeds) < 2:
        raise ValueError(f"a judgement needs two seeds, got {seeds!r} of {control.name!r}; run more branches")
    gains = np.array([control.finals[seed] - fork_return for seed in seeds])
    mean, lower, upper = (float(x) for x in gain_bounds(gains, level, sd_floor(margin)))
    verdict: JudgementVerdict = "accept" if lower > margin else "no_difference"
    words = f"{control.name}: with the kick alone {mean:+.3f} above the fork over {len(seeds)} seeds"
    why = f"the lower bound {'clears' if lower > margin else 'does not clear'} {margin:+.3g}"
    return Judgement(
        arm=control.name, verdict=verdict, gain=mean, lower=lower, upper=upper, level=level, seeds=seeds,
        success_change=None, margin=margin, removal=False,
        explanation=f"{words}, bounds {lower:+.3f} … {upper:+.3f} at level {level:.3g}: "
        f"{verdict.replace('_', ' ')}, {why}",
    )  # fmt: skip


def _verdict(
    lower: float, upper: float, margin: float, *, removal: bool, fell: bool, early: bool
) -> tuple[JudgementVerdict, str]:
    bar = -margin if removal else margin
    if fell:
        return "reject", "the success rate fell"
    if lower > bar:
        return "accept", f"the lower bound clears {bar:+.3g}" + (" (nothing is lost by removing)" if removal else "")
    if upper < -margin and early:
        return "no_difference", f"the upper bound is below {-margin:+.3g}, but a potential may dip this early"
    if upper < -margin:
        return "reject", f"the upper bound is below {-margin:+.3g}"
    return "no_difference", f"the lower bound does not clear {bar:+.3g}"


def _against_the_fork(
    candidate: Arm, seeds: list[int], fork_return: float, margin: float, level: float, why: str
) -> tuple[JudgementVerdict, str]:
    """Accept only where the candidate has not lost against the fork; it may still have beaten the control."""
    gains = np.array([candidate.finals[seed] - fork_return for seed in seeds])
    mean, lower, _ = (float(x) for x in gain_bounds(gains, level, sd_floor(margin)))
    said = f"against the fork before the new exploration {mean:+.3f}, lower bound {lower:+.3f}"
    if lower > -margin:
        return "accept", f"{why}; {said}"
    return "no_difference", f"it beats a control that the new exploration harmed: {said} is not above {-margin:+.3g}"


def _success_change(candidate: Arm, control: Arm, seeds: list[int], level: float) -> tuple[float | None, bool]:
    """(mean change of the success rate or None, whether it surely fell)."""
    pairs = [(candidate.successes.get(seed), control.successes.get(seed)) for seed in seeds]
    changes = [a - b for a, b in pairs if a is not None and b is not None]
    if len(changes) < len(seeds):
        return None, False
    mean, _, upper = gain_bounds(np.array(changes), level, SUCCESS_FLOOR)
    return float(mean), bool(upper < 0)


def _words(
    name: str, mean: float, lower: float, upper: float, level: float, seeds: list[int], change: float | None
) -> str:
    bounds = f", bounds {lower:+.3f} … {upper:+.3f} at level {level:.3g}" if level > 0 else ""
    success = "" if change is None else f", success {change:+.2f}"
    return f"{name}: gain {mean:+.3f} over {len(seeds)} seeds{bounds}{success}"


# ------------------------------------------------------------ the intervention


def is_informative(
    arms: Sequence[Arm], fork_return: float, return_width: float, best_return: float | None = None
) -> bool:
    """Did any branch of any arm end above the fork by more than 5 % of the width of the return range?

    `fork_return`: measured before any kick. Where none rose, exploration has collapsed, and neither a signal nor a
    longer horizon mends that. A fork that is itself within 5 % of `best_return` (the end of the declared range)
    cannot be risen above: it is solved, not collapsed, and counts as informative.
    """
    rise = INFORMATIVE_SHARE * return_width
    if best_return is not None and fork_return >= best_return - rise:
        return True
    return any(final > fork_return + rise for arm in arms for final in arm.finals.values())


def conclude(judgements: Sequence[Judgement], informative: bool) -> Verdict:
    """The intervention's verdict, in this order: accept, not_informative, no_difference, reject."""
    verdicts = {judgement.verdict for judgement in judgements}
    if not verdicts:
        raise ValueError("conclude needs the judgement of at least one finalist, got none; validate before deciding")
    if "accept" in verdicts:
        return "accept"
    if not informative:
        return "not_informative"
    return "no_difference" if "no_difference" in verdicts else "reject"


def winner(judgements: Sequence[Judgement]) -> Judgement | None:
    """The accepted judgement with the largest gain (the first of equals), None where none was accepted."""
    accepted = [judgement for judgement in judgements if judgement.verdict == "accept"]
    return max(accepted, key=lambda judgement: judgement.gain, default=None)


def choose_adopt(
    adopt: Literal["auto", "signal", "winner"], stage: Stage, success: float | None, competence: float | None
) -> Literal["state", "signal"]:
    """What a promotion takes over: the winning branch's end state, or the signal alone.

    auto: the state at zero competence (below 0.05) and when the run is stuck (plateaued or regressing below 0.2),
    because a proven state is worth more than a signal that may not repeat its luck; the signal in a healthy run.
    """
    if adopt != "auto":
        return "state" if adopt == "winner" else "signal"
    level = (competence if success is None else success) or 0.0
    stuck = stage in ("plateaued", "regressing") and level < LOW_COMPETENCE
    return "state" if stuck or level < ZERO_COMPETENCE else "signal"


def winning_seed(finals: Mapping[int, float]) -> int:
    """The seed of the best final return; of equals the lowest."""
    return min(finals, key=lambda seed: (-finals[seed], seed))
