"""The policy claim: is this policy better than that one? Fresh episodes answer it; training seeds play no part.

Claim: the mean return of the arm's policy, minus that of the main line's, is above `margin`, on the distribution of
episodes that the task draws from reset seeds. Both policies play episodes that no decision has seen.

**What is assumed.** Each side's episodes are independent draws of one distribution (fresh seeds, a frozen policy), and
every return lies in the task's declared `return_range`. Nothing is assumed of the shape: no normality, no variance.
This matters here, because returns are bimodal and full of repeated values. Student's t fails on them: an arm that
returns 1.2 in every episode beside a control that returns 1.0, or 2.83 once in 18 episodes, is accepted by t in 13 % of
cases at level 0.03, since the control's rare success is not in the sample (`studies.adversary.policy_power`).

**Derivation** (testing by betting: Waudby-Smith and Ramdas 2024, section 4; Howard, Ramdas et al. 2021 for the
sequences; Thomas et al. 2015 for the use). Let z in 0…1 have a mean of at most a. A player who bets the share c of the
capital, in 0…1, on z multiplies it in a draw by 1 − c + c z / a, which is never negative and has a mean of at most 1.
So is the mean of the product over n independent draws, and that of an average of such products over several c:

    K(a) = Σ_c w_c Π_i (1 − c + c z_i / a),        E K(a) ≤ 1,        P(K(a) ≥ 1/level) ≤ level   (Markov).

The mean is above a at `level` where K(a) ≥ 1/level. K falls as a rises, so the a's that are refuted are all those
below a number, the lower bound. It holds at every level and every n, without a limit theorem.

* *Independent sides* (`paired=False`). Let b be the control's true mean return. If the gain is at most g, the arm's
  mean is at most b + g. One player bets on the arm's returns against a mean of b + g, another on the control's being
  low against a mean of b; as the sides are independent the product K_arm(b + g) · K_main(b) has a mean of at most 1.
  b is not known, so g is refuted where the *least* product over all b is 1/level or more. K_arm falls and K_main rises
  in b, so between two nodes of a grid the product is at least K_arm at the right one times K_main at the left one: the
  grid costs a little power and no validity.
* *Pairs* (`paired=True`, both sides played the same reset seeds). The sides are not independent; the player bets on the
  differences, which lie within plus and minus the width of the range.

*Looking again.* Bets with fixed shares make K_n(a), as n grows, a non-negative supermartingale, also where each draw
may depend on the past; so is the product of both sides'. Hence P(some n has K_n(a) ≥ 1/level) ≤ level (Ville 1939): a
bound may be looked at after every episode, and a confirmation may stop where it proves and go on where it does not, at
no price. Where no return range is declared this holds as long as the assumed one stays the same.

The worst that can happen to an unseen difference of pairs is the whole width down, to independent sides about half of
it on either. So independent sides prove small gains of steady policies with fewer episodes; where returns spread over
much of the range, or returns of the same seed hang together closely, pairs do (`studies.adversary.policy_power`).
Maurer and Pontil's empirical Bernstein bound (2009) assumes the same and proves nothing at this price: its term
7 W ln(2/level) / (3 (n − 1)) alone is 0.16 of the width W at 64 episodes and level 0.03, on either side.

**Episodes that repeat.** Zero variance is no proof. Where n pairs all differ by d, K at c = 1 refutes g exactly where
the unseen rest, of which n identical episodes say that its probability is at most 1 − level^(1/n), cannot pull the mean
difference to g at the worst return. The bound therefore needs no rule for repeated episodes: n identical ones are n
draws, and they count; so greedy policies on one start can be proven too. `distinct` says how many differ.

**No declared return range.** Then nothing can be promised (Bahadur and Savage 1956: no test of a mean without a bound
has any power), as a return that was never seen may be as bad as one likes. The range of all returns that were seen is
taken in its place (of both sides, and of the run where `seen_range` is given), widened by half its width at either end.
This is an assumption, and the explanation says so: a catastrophe below it that no episode has shown is not guarded
against.

**Which policy the claim is about.** The reference is the best main-line policy of the race, and looks chose it, as they
chose the arm. Both choices are made before the first episode of the confirmation is drawn, on episodes that are not
among them; given the choice the episodes are independent of it, and the bound holds for whichever pair was chosen. What
was chosen by luck is over-rated by its look and not by the confirmation. Where looks picked the *wrong* reference (they
over-rated a worse main-line policy), the claim still holds, against that policy only: the arm may then be worse than
the main line at its true best, by at most what the true best has over the picked one minus the margin. It is never
compared with less than an honest main-line policy of this race. The claim says nothing of the future of the signal.

**The error of a run.** Confirmation j may err with α_j = error · 6 / (π² j²), and Σ_j α_j = error over ever so many
confirmations: with probability 1 − error no adoption of the whole run rests on a false claim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ..ipc.messages import EpisodeStats

Floats = NDArray[np.float64]

# Shares of the capital that are bet, and how the capital is divided among them. The best share is nearly always 1,
# because gains that can be proven are large against the variance in units of the range.
SHARES = np.array([1.0, 0.5, 0.25, 0.1, 0.0])
WEIGHTS = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
NODES = np.linspace(0.0, 1.0, 513)  # the grid over the control's unknown mean
PRECISION = 1e-6  # of a lower bound, in widths of the range
WIDENED = 0.5  # of the seen width, at either end, where no range is declared


def confirmation_level(error: float, number: int) -> float:
    """Return the one-sided level of confirmation `number` of a run, error · 6 / (π² number²); all sum up to `error`.

    Args:
        error: probability over the whole run of adopting anything on a false claim, in 0…1.
        number: of the confirmation in the run, from 1.

    Raises:
        ValueError: `error` is not between 0 and 1, or `number` is below 1.
    """
    if not 0 < error < 1:
        raise ValueError(f"error must lie between 0 and 1, got {error!r}; 0.05 is usual")
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number!r}; confirmations of a run count from 1")
    return error * 6.0 / (math.pi**2 * number**2)


@dataclass(frozen=True)
class PolicyBound:
    """What fresh episodes of two policies say about the gain of the one over the other.

    Attributes:
        gain: mean return of the arm's policy minus that of the main line's, over these episodes.
        lower: its one-sided lower bound at `level`; None where nothing can be said (all returns that were ever seen are
            the same, and no return range is declared).
        margin: what the bound has to clear.
        level: one-sided level.
        episodes: of a side, of the one that has fewer.
        distinct: different episodes, by return, length and milestones, of the side that has fewer.
        paired: whether both sides played the same reset seeds.
        proven: whether `lower` is above `margin`.
        explanation: the arithmetic in one line.
    """

    gain: float
    lower: float | None
    margin: float
    level: float
    episodes: int
    distinct: int
    paired: bool
    proven: bool
    explanation: str


def prove(
    arm: EpisodeStats,
    main: EpisodeStats,
    *,
    level: float,
    margin: float,
    return_range: tuple[float, float] | None,
    paired: bool,
    seen_range: tuple[float, float] | None = None,
) -> PolicyBound:
    """Bound the gain of the arm's policy over the main line's from fresh episodes of both.

    Args:
        arm: episodes of the policy that is to be proven.
        main: episodes of the main-line policy that it is compared with.
        level: one-sided level, see `confirmation_level`.
        margin: gain that counts, in sparse return.
        return_range: (worst, best) return that the task declares; None where it declares none. It is widened where a
            return lies outside.
        paired: whether episode i of both sides had the same reset seed. False only where no seed is common: sides are
            then taken to be independent.
        seen_range: (worst, best) return of the whole run so far, which is added to what these episodes show where no
            range is declared.

    Raises:
        ValueError: an argument is outside its range, a return is not finite, a side has no episodes, or pairs are not
            complete.
    """
    x, y = np.asarray(arm.returns, np.float64), np.asarray(main.returns, np.float64)
    _validate(x, y, level=level, margin=margin, paired=paired)
    for name, bounds in (("return_range", return_range), ("seen_range", seen_range)):
        if bounds is not None and not (all(map(math.isfinite, bounds)) and bounds[0] <= bounds[1]):
            raise ValueError(f"{name} must be (worst, best), finite and ascending, got {bounds!r}")
    if return_range is not None and return_range[0] == return_range[1]:
        raise ValueError(f"return_range must have a width, got {return_range!r}; leave it out where it is not known")
    gain = float(x.mean() - y.mean())
    sides = (distinct_episodes(arm), distinct_episodes(main))
    seen = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    if return_range is None and seen_range is not None:
        seen = min(seen[0], seen_range[0]), max(seen[1], seen_range[1])
    notes: list[str] = []
    lower: float | None
    if return_range is None and seen[0] == seen[1]:
        lower = None
        notes.append("all returns are the same and no return range is declared: nothing can be said")
    else:
        low, high = _bounds(seen, return_range, notes)
        lower = gain_lower_bound(x, y, level=level, low=low, high=high, paired=paired)
        for side, episodes, count in (("arm's", len(x), sides[0]), ("main line's", len(y), sides[1])):
            if count == 1 and episodes > 1:
                rest = 1.0 - level ** (1.0 / episodes)
                notes.append(f"all of the {side} episodes are the same: others may have a probability of {rest:.2g}")
    proven = lower is not None and lower > margin
    means = f"mean return {x.mean():.3f} against {y.mean():.3f}, gain {gain:+.3f}"
    over = f"over {min(len(x), len(y))} {'paired' if paired else 'independent'} episodes of each"
    bound = "" if lower is None else f", lower bound {lower:+.3f} at level {level:.3g}"
    verdict = f"{'proven' if proven else 'not proven'}, it {'clears' if proven else 'does not clear'} {margin:+.3g}"
    return PolicyBound(
        gain=gain,
        lower=lower,
        margin=margin,
        level=level,
        episodes=min(len(x), len(y)),
        distinct=min(sides),
        paired=paired,
        proven=proven,
        explanation="; ".join([f"{means} {over}{bound}: {verdict}", *notes]),
    )


def together(parts: Sequence[EpisodeStats]) -> EpisodeStats:
    """Return the episodes of one policy, played in several parts, as one. Raises ValueError where there are none."""
    if not parts:
        raise ValueError("episodes must be given, got none")
    successes = [success for part in parts for success in part.successes or []]
    names = {name for part in parts for name in part.reached}
    return EpisodeStats(
        returns=[value for part in parts for value in part.returns],
        successes=None if parts[0].successes is None else successes,
        lengths=[length for part in parts for length in part.lengths],
        reached={
            name: [n for part in parts for n in part.reached.get(name, [0] * len(part.returns))] for name in names
        },
        steps=sum(part.steps for part in parts),
    )


def distinct_episodes(stats: EpisodeStats) -> int:
    """Return how many episodes differ in return, length or in how often a milestone was reached."""
    reached = [stats.reached[name] for name in sorted(stats.reached)]
    return len(set(zip(stats.returns, stats.lengths, *reached, strict=True)))


def least_provable_gain(level: float, episodes: int, *, margin: float, width: float, paired: bool) -> float:
    """Return the gain that has to be seen at least, so that `episodes` of a side without any spread prove the margin.

    With spread more is needed. Independent sides are taken in the middle of the range, where they prove most. It serves
    to spend no confirmation, and none of the run's error, on a look whose gain cannot be proven anyway.

    Args:
        level: one-sided level of the confirmation.
        episodes: of a side.
        margin: gain that counts.
        width: of the return range.
        paired: as for `prove`.

    Returns:
        A gain in return, above `margin`; infinite where not even the width of the range would be enough.
    """

    def enough(gain: float) -> bool:
        x, y = np.full(episodes, (width + gain) / 2), np.full(episodes, (width - gain) / 2)
        return gain_lower_bound(x, y, level=level, low=0.0, high=width, paired=paired) > margin

    if not enough(width):
        return math.inf
    short, long = margin, width
    while long - short > 1e-3 * width:
        middle = (short + long) / 2
        short, long = (short, middle) if enough(middle) else (middle, long)
    return long


# ------------------------------------------------------------ the bound


def gain_lower_bound(x: Floats, y: Floats, *, level: float, low: float, high: float, paired: bool) -> float:
    """Return the lower bound of E x − E y at `level`, for returns x [n] and y [m] in low…high; derived above.

    It is at least low − high and at most the mean gain; by bisection, PRECISION widths below the exact one at most.
    """
    width = high - low
    bottom, top = -width, float(x.mean() - y.mean())
    # `bottom` is refuted or the least gain there is, `top` is not refuted
    while top - bottom > PRECISION * width:
        middle = (bottom + top) / 2
        refuted = refutes(x, y, middle, level=level, low=low, high=high, paired=paired)
        bottom, top = (middle, top) if refuted else (bottom, middle)
    return bottom


def refutes(x: Floats, y: Floats, gain: float, *, level: float, low: float, high: float, paired: bool) -> bool:
    """Tell whether returns x [n] and y [m] in low…high refute at `level` that E x − E y is at most `gain`."""
    width = high - low
    x, y, gain = (x - low) / width, (y - low) / width, gain / width
    needed = -math.log(level)
    # above the mean gain no bet wins
    if gain >= min(1.0, float(x.mean() - y.mean())):
        return False
    if paired:
        return bool(log_capital((x - y + 1.0) / 2.0, [(gain + 1.0) / 2.0])[0] >= needed)
    # one mean of the main line's that is not refuted is enough to see it, which most often is so
    b = y.mean()
    if b + gain >= 0 and (log_capital(x, [b + gain]) + log_capital(1.0 - y, [1.0 - b]))[0] < needed:
        return False
    # else the least product over the main line's mean b, where b and b + gain lie in 0…1
    b = NODES * (1.0 - abs(gain)) + max(0.0, -gain)
    arm = log_capital(x, np.clip(b + gain, 0.0, 1.0))
    main = log_capital(1.0 - y, np.clip(1.0 - b, 0.0, 1.0))
    return bool((arm[1:] + main[:-1]).min() >= needed)


def log_capital(z: Floats, means: ArrayLike) -> Floats:
    """Return [k], log K(a) of the bets on z [n], values in 0…1, against each mean a [k] in 0…1.

    K(0) is infinite where any z is above 0: a mean of 0 is then refuted.
    """
    a = np.asarray(means, np.float64)
    values, counts = np.unique(z, return_counts=True)  # repeated returns are common, and make this cheap
    with np.errstate(divide="ignore", invalid="ignore"):
        # [k, values]; 0/0 is a draw of what is expected, which neither wins nor loses
        ratio = np.where((values == 0) & (a[:, None] == 0), 1.0, values / a[:, None])
        gains = np.stack([np.log(1.0 - c + c * ratio) @ counts if c > 0 else np.zeros(len(a)) for c in SHARES])
    return np.asarray(logsumexp(gains + np.log(WEIGHTS)[:, None], axis=0), np.float64)


# ------------------------------------------------------------ arguments


def _bounds(
    seen: tuple[float, float], return_range: tuple[float, float] | None, notes: list[str]
) -> tuple[float, float]:
    """Return the range that returns are taken to lie in; append to `notes` what is assumed besides the declaration."""
    if return_range is None:
        reach = WIDENED * (seen[1] - seen[0])
        low, high = seen[0] - reach, seen[1] + reach
        notes.append(f"no return range is declared: returns are assumed to lie in {low:.3f} … {high:.3f}")
        return low, high
    low, high = min(return_range[0], seen[0]), max(return_range[1], seen[1])
    # rounding of sums of float32 rewards is no breach
    slack = 1e-4 * (return_range[1] - return_range[0])
    if low < return_range[0] - slack or high > return_range[1] + slack:
        notes.append(f"returns lie outside the declared range {return_range}, so {low:.3f} … {high:.3f} is assumed")
    return low, high


def _validate(x: Floats, y: Floats, *, level: float, margin: float, paired: bool) -> None:
    """Raise ValueError where `prove` cannot work with its arguments."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}; see confirmation_level")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be finite and at least 0, got {margin!r}; give it in sparse return")
    if not len(x) or not len(y):
        raise ValueError(f"both sides need episodes, got {len(x)} and {len(y)}; evaluate both policies")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("returns must be finite, got nan or inf; the task's rewards are at fault")
    if paired and len(x) != len(y):
        raise ValueError(f"pairs must be complete, got {len(x)} and {len(y)} episodes; play the same seeds")
