"""The policy claim: bets by hand and in exact arithmetic, the level by enumeration, and what is said of oddities."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from cosignal.rl.branches import policy_claim
from cosignal.rl.branches.policy_claim import (
    SHARES,
    WEIGHTS,
    Floats,
    PolicyBound,
    confirmation_level,
    distinct_episodes,
    gain_lower_bound,
    least_provable_gain,
    log_capital,
    prove,
    refutes,
    together,
)
from cosignal.rl.ipc.messages import EpisodeStats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

RANGE = (-1.0, 4.0)
MARGIN = 0.1


def episodes(returns: list[float], lengths: list[int] | None = None, **reached: list[int]) -> EpisodeStats:
    lengths = lengths or [100] * len(returns)
    return EpisodeStats(returns=returns, successes=None, lengths=lengths, reached=reached, steps=sum(lengths))


def proven(x: list[float], y: list[float], **more: Any) -> PolicyBound:
    how: dict[str, Any] = {"level": 0.03, "margin": MARGIN, "return_range": RANGE, "paired": False}
    return prove(episodes(x), episodes(y), **how | more)


# ------------------------------------------------------------ levels


def test_the_levels_of_all_confirmations_sum_up_to_the_error() -> None:
    assert confirmation_level(0.05, 1) == pytest.approx(0.0303964, rel=1e-5)
    assert confirmation_level(0.05, 2) == pytest.approx(0.0075991, rel=1e-5)
    assert confirmation_level(0.05, 10) == pytest.approx(0.000303964, rel=1e-5)
    spent = sum(confirmation_level(0.05, j) for j in range(1, 20_001))
    assert 0.05 - 2e-6 < spent < 0.05


@pytest.mark.parametrize(("error", "number"), [(0.0, 1), (1.0, 1), (math.nan, 1), (0.05, 0), (0.05, -1)])
def test_a_level_of_nothing_is_refused(error: float, number: int) -> None:
    with pytest.raises(ValueError, match="must"):
        confirmation_level(error, number)


# ------------------------------------------------------------ the bets by hand and by exact arithmetic


def test_the_bets_are_a_division_of_the_whole_capital() -> None:
    assert WEIGHTS.sum() == pytest.approx(1.0)
    assert ((SHARES >= 0) & (SHARES <= 1)).all()
    assert (WEIGHTS > 0).all()


def test_one_pair_by_hand() -> None:
    """The best there is, z = 1: K(a) = Σ w (1 − c + c/a) = 0.365 + 0.635/a; it is 2 at a = 0.635/1.635.

    The difference is 2a − 1 widths, so the bound of 5 widths is 5 (2 · 0.388379 − 1) = −1.116208.
    """
    bound = gain_lower_bound(np.array([4.0]), np.array([-1.0]), level=0.5, low=-1.0, high=4.0, paired=True)
    assert bound == pytest.approx(5 * (2 * 0.635 / 1.635 - 1), abs=1e-5)


def test_two_draws_by_hand() -> None:
    """One win and one loss against a mean of 1/2: the factors are 1 + c and 1 − c."""
    expected = 0.5 * 0 + 0.2 * 0.75 + 0.1 * (1 - 1 / 16) + 0.1 * 0.99 + 0.1
    assert log_capital(np.array([1.0, 0.0]), [0.5])[0] == pytest.approx(math.log(expected))


def exact_capital(z: list[Fraction], mean: Fraction) -> Fraction:
    """Return K(mean) in rational numbers, draw by draw."""
    total = Fraction(0)
    for share, weight in zip(SHARES, WEIGHTS, strict=True):
        c, capital = Fraction(str(share)), Fraction(str(weight))
        for value in z:
            capital *= 1 - c + c * value / mean
        total += capital
    return total


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.integers(1, 8))
def test_the_capital_is_that_of_exact_arithmetic(eighths: list[int], mean: int) -> None:
    exact = float(exact_capital([Fraction(value, 8) for value in eighths], Fraction(mean, 8)))
    assert math.exp(log_capital(np.array(eighths) / 8, [mean / 8])[0]) == pytest.approx(exact)


def test_a_mean_of_nothing_is_refuted_by_anything() -> None:
    assert log_capital(np.array([0.0, 0.2]), [0.0])[0] == math.inf
    assert log_capital(np.array([0.0, 0.0]), [0.0])[0] == pytest.approx(0.0)


def reference_bound(x: Floats, y: Floats, level: float, paired: bool) -> float:
    """Return the lower bound for returns in 0…1, by root finding and a search over the control's mean."""

    def log_k(z: Floats, a: float) -> float:
        with np.errstate(divide="ignore"):
            parts = [math.log(w) + float(np.log1p(c * (z / a - 1)).sum()) for c, w in zip(SHARES, WEIGHTS, strict=True)]
        return float(np.logaddexp.reduce(parts))

    def least(gain: float) -> float:
        if paired:
            return log_k((x - y + 1) / 2, (gain + 1) / 2)
        low, high = max(0.0, -gain) + 1e-9, min(1.0, 1.0 - gain) - 1e-9
        grid = np.linspace(low, high, 801)
        return min(log_k(x, b + gain) + log_k(1 - y, 1 - b) for b in grid)

    target = -math.log(level)
    root = optimize.brentq(lambda gain: least(gain) - target, -0.999, float(x.mean() - y.mean()) + 1e-9, xtol=1e-4)
    return float(root)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_is_that_of_an_independent_computation_and_never_above_it(seed: int, paired: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.beta(4, 3, 24), rng.choice([0.2, 0.3, 0.9], 24, p=[0.5, 0.4, 0.1])
    got = gain_lower_bound(x, y, level=0.05, low=0.0, high=1.0, paired=paired)
    expected = reference_bound(x, y, 0.05, paired)
    assert got <= expected + 5e-4
    assert got == pytest.approx(expected, abs=0.003)  # the grid over the control's mean


def test_identical_pairs_say_as_much_as_the_unseen_rest_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """n differences of d: the rest has a probability of at most p = 1 − level^(1/n), at the worst return of −width.

    The bet with all capital gives the same number: d (1 − p) − width · p.
    """
    monkeypatch.setattr(policy_claim, "SHARES", np.array([1.0]))
    monkeypatch.setattr(policy_claim, "WEIGHTS", np.array([1.0]))
    rest = 1 - 0.03 ** (1 / 64)
    x, y = np.full(64, 2.83), np.full(64, 1.0)
    bound = gain_lower_bound(x, y, level=0.03, low=-1.0, high=4.0, paired=True)
    assert bound == pytest.approx(1.83 * (1 - rest) - 5.0 * rest, abs=1e-4)


# ------------------------------------------------------------ level


def error_by_enumeration(
    accepts: Callable[[Floats, Floats], bool], n: int, high_arm: float, high_main: float, values: tuple[float, float]
) -> float:
    """Return the exact probability of an acceptance where both sides have two returns, the better with a chance."""
    low, high = values
    total = 0.0
    for k, m in product(range(n + 1), repeat=2):
        chance = float(stats.binom.pmf(k, n, high_arm) * stats.binom.pmf(m, n, high_main))
        if chance > 1e-9:
            x, y = (np.array([high] * i + [low] * (n - i), np.float64) for i in (k, m))
            total += chance * accepts(x, y)
    return total


@pytest.mark.parametrize("level", [0.2, 0.03])
@pytest.mark.parametrize("main", [0.0, 0.05, 0.3, 0.5, 0.89])
def test_the_level_holds_exactly_where_returns_have_two_values(main: float, level: float) -> None:
    """Successes of two policies, the arm's better by just the margin 0.1 of a range of 1: all outcomes."""

    def accepts(x: Floats, y: Floats) -> bool:
        return refutes(x, y, 0.1, level=level, low=0.0, high=1.0, paired=False)

    assert error_by_enumeration(accepts, 20, main + 0.1, main, (0.0, 1.0)) <= level


def welch(x: Floats, y: Floats, level: float, margin: float) -> bool:
    """Tell whether Student's t with a floored deviation, as the gate has it, would accept."""
    errors = [max(z.var(ddof=1), (margin / 2) ** 2) / len(z) for z in (x, y)]
    reach = stats.t.ppf(1 - level, len(x) + len(y) - 2) * math.sqrt(sum(errors))
    return bool(x.mean() - y.mean() - reach > margin)


RARE = 0.2 / 3.66  # chance of 2.83 instead of 1.00 that is worth 0.1
NULLS: dict[str, tuple[Callable[[np.random.Generator], tuple[Floats, Floats]], bool]] = {
    "normal": (lambda rng: (rng.normal(1.1, 0.5, 64), rng.normal(1.0, 0.5, 64)), False),
    "bimodal": (
        lambda rng: (rng.choice([1.0, 2.83], 64) + 0.1, rng.choice([1.0, 2.83], 64)),
        False,
    ),
    "zero-inflated arm": (lambda rng: (np.where(rng.random(64) < RARE, 2.83, 1.0), np.ones(64)), False),
    "zero-inflated main line": (lambda rng: (np.full(64, 1.2), np.where(rng.random(64) < RARE, 2.83, 1.0)), True),
    "a rare catastrophe": (lambda rng: (np.where(rng.random(64) < 0.02, -1.0, 1.1429), np.ones(64)), True),
    "heavy right tail": (lambda rng: (np.full(64, 0.6), rng.exponential(0.5, 64).clip(max=4.0)), True),
}


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("name", NULLS)
def test_the_level_holds_at_a_gain_of_just_the_margin(name: str, paired: bool) -> None:
    """1000 confirmations each; Student's t is the twin that fails where a side's rare returns are not in the sample."""
    draw, fails = NULLS[name]
    rng = np.random.default_rng(0)
    bets = students = 0
    for _ in range(1000):
        x, y = (side.clip(*RANGE) for side in draw(rng))
        bets += refutes(x, y, MARGIN, level=0.03, low=-1.0, high=4.0, paired=paired)
        students += welch(x, y, 0.03, MARGIN)
    allowed = 0.03 + 3 * math.sqrt(0.03 * 0.97 / 1000)  # three binomial standard errors
    assert bets / 1000 <= allowed
    if fails:
        assert students / 1000 > allowed


def test_the_mean_capital_is_at_most_one_for_pairs_that_oppose_each_other_and_not_for_sides_taken_as_independent() -> (
    None
):
    """One policy succeeds at just the starts where the other fails, half of them: all 2^6 samples, mean gain 0."""
    pairs, sides = [], []
    for starts in product([0.0, 1.0], repeat=6):
        x = np.array(starts)
        pairs.append(math.exp(log_capital(x, [0.5])[0]))  # z = (x − y + 1)/2 = x, and its mean is 1/2
        sides.append(math.exp(log_capital(x, [0.5])[0] + log_capital(1 - (1 - x), [0.5])[0]))
    assert np.mean(pairs) == pytest.approx(1.0)
    assert np.mean(sides) > 2.0


# ------------------------------------------------------------ power


@pytest.mark.parametrize(("n", "level", "expected"), [(64, 0.0304, 0.8), (128, 0.00122, 0.9)])
def test_an_arm_that_solves_thirty_percent_of_the_episodes_is_proven(n: int, level: float, expected: float) -> None:
    """Beside a main line that returns exactly 1.00 for ever; at the first confirmation, and at the fifth."""
    rng = np.random.default_rng(0)
    shown = [
        refutes(
            np.where(rng.random(n) < 0.3, 2.83, 1.0), np.ones(n), MARGIN, level=level, low=-1.0, high=4.0, paired=False
        )
        for _ in range(300)
    ]
    assert np.mean(shown) > expected


def test_power_grows_with_episodes_and_with_the_gain() -> None:
    least = {n: least_provable_gain(0.03, n, margin=0.1, width=5.0, paired=False) for n in (32, 64, 128, 256)}
    assert list(least.values()) == sorted(least.values(), reverse=True)
    assert least[64] < 0.35  # without any spread
    assert least_provable_gain(0.03, 64, margin=0.1, width=5.0, paired=True) > least[64]
    assert least_provable_gain(0.03, 2, margin=4.9, width=5.0, paired=True) == math.inf


@pytest.mark.parametrize("paired", [True, False])
def test_the_least_provable_gain_is_proven_and_a_smaller_one_is_not(paired: bool) -> None:
    gain = least_provable_gain(0.03, 64, margin=MARGIN, width=5.0, paired=paired)
    for scale, expected in ((1.001, True), (0.97, False)):
        x, y = [1.5 + scale * gain / 2] * 64, [1.5 - scale * gain / 2] * 64
        assert proven(x, y, paired=paired).proven == expected


# ------------------------------------------------------------ laws

returns = st.lists(st.integers(-4, 16).map(lambda quarter: quarter / 4), min_size=8, max_size=8)  # in RANGE
levels = st.sampled_from([0.2, 0.05, 0.003])
pairing = st.booleans()


def bound(x: list[float], y: list[float], level: float, paired: bool, low: float = -1.0, high: float = 4.0) -> float:
    return gain_lower_bound(np.array(x), np.array(y), level=level, low=low, high=high, paired=paired)


@settings(max_examples=20, deadline=None)
@given(returns, returns, pairing)
def test_a_stricter_level_lowers_the_bound_which_is_never_above_the_gain(
    x: list[float], y: list[float], paired: bool
) -> None:
    loose, strict = bound(x, y, 0.1, paired), bound(x, y, 0.01, paired)
    assert -5.0 <= strict <= loose <= float(np.mean(x) - np.mean(y)) + 1e-9


@settings(max_examples=20, deadline=None)
@given(returns, returns, levels, pairing, st.sampled_from([0.5, 3.0]), st.sampled_from([-2.0, 7.0]))
def test_units_and_origin_of_returns_do_not_matter(
    x: list[float], y: list[float], level: float, paired: bool, scale: float, shift: float
) -> None:
    moved = bound(
        [scale * r + shift for r in x], [scale * r + shift for r in y], level, paired, shift - scale, shift + 4 * scale
    )
    assert moved == pytest.approx(scale * bound(x, y, level, paired), abs=1e-4 * scale)


@settings(max_examples=20, deadline=None)
@given(returns, returns, levels, pairing)
def test_it_is_the_same_in_the_mirror(x: list[float], y: list[float], level: float, paired: bool) -> None:
    """Arm and main line change places and returns change their sign: the gain is the same, and so is the bound."""
    mirrored = bound([-r for r in y], [-r for r in x], level, paired, -4.0, 1.0)
    assert mirrored == pytest.approx(bound(x, y, level, paired), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(returns, returns, levels, pairing)
def test_never_are_both_better(x: list[float], y: list[float], level: float, paired: bool) -> None:
    assert not (bound(x, y, level, paired) > 0 and bound(y, x, level, paired) > 0)


@settings(max_examples=20, deadline=None)
@given(returns, returns, levels, pairing, st.integers(0, 7))
def test_a_better_episode_never_lowers_the_bound(
    x: list[float], y: list[float], level: float, paired: bool, which: int
) -> None:
    better = [*x[:which], min(x[which] + 1.0, 4.0), *x[which + 1 :]]
    assert bound(better, y, level, paired) >= bound(x, y, level, paired) - 1e-4


@settings(max_examples=20, deadline=None)
@given(returns, returns, levels, st.permutations(range(8)))
def test_the_order_of_episodes_does_not_matter(x: list[float], y: list[float], level: float, order: list[int]) -> None:
    shuffled = [x[i] for i in order]
    assert bound(shuffled, y, level, False) == pytest.approx(bound(x, y, level, False), abs=1e-4)
    assert bound(shuffled, [y[i] for i in order], level, True) == pytest.approx(bound(x, y, level, True), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(returns, returns, st.booleans())
def test_proven_means_that_the_bound_clears_the_margin(x: list[float], y: list[float], paired: bool) -> None:
    assume(min(x + y) < max(x + y))
    got = proven(x, y, paired=paired, level=0.1)
    assert got.lower is not None
    assert got.proven == (got.lower > MARGIN)
    assert got.gain == pytest.approx(np.mean(x) - np.mean(y))


# ------------------------------------------------------------ episodes that repeat, and ranges that are not declared


def test_repeated_episodes_are_counted_and_their_unseen_rest_is_named() -> None:
    got = proven([2.83] * 64, [1.0] * 64)
    assert (got.episodes, got.distinct, got.proven) == (64, 1, True)
    assert "others may have a probability of 0.053" in got.explanation  # 1 − 0.03^(1/64)
    lengths = [100] * 63 + [99]
    assert distinct_episodes(episodes([1.0] * 64, lengths)) == 2
    assert distinct_episodes(episodes([1.0] * 4, switch=[0, 1, 1, 0], goal=[0, 0, 1, 0])) == 3


def test_no_spread_is_no_proof_of_a_small_gain() -> None:
    """The gain is three margins in every episode of two: t with any floor would be sure."""
    got = proven([1.3, 1.3], [1.0, 1.0])
    assert not got.proven
    assert got.lower is not None
    assert got.lower < 0


def test_without_a_declared_range_the_assumption_is_named() -> None:
    got = proven([2.83] * 32 + [1.0] * 32, [1.0] * 64, return_range=None)
    assert got.proven
    assert "returns are assumed to lie in 0.085 … 3.745" in got.explanation  # 1.83, half of it more at either end
    same = proven([1.0] * 64, [1.0] * 64, return_range=None)
    assert (same.gain, same.lower, same.proven) == (0.0, None, False)
    # what the run has seen before counts as well
    longer = proven([2.83] * 32 + [1.0] * 32, [1.0] * 64, return_range=None, seen_range=(-4.0, 2.0))
    assert "returns are assumed to lie in -7.415 … 6.245" in longer.explanation
    assert longer.lower is not None
    assert got.lower is not None
    assert longer.lower < got.lower
    assert proven([1.0] * 64, [1.0] * 64, return_range=None, seen_range=(0.0, 1.0)).lower is not None


def test_a_return_outside_the_declared_range_widens_it() -> None:
    got = proven([4.5, *[2.0] * 63], [1.0] * 64)
    assert "outside the declared range (-1.0, 4.0), so -1.000 … 4.500" in got.explanation
    assert got.lower is not None
    assert got.lower < (proven([4.0, *[2.0] * 63], [1.0] * 64).lower or 0.0)
    # what float32 sums round away is no breach
    assert "outside" not in proven([4.0001] * 64, [1.0] * 64).explanation


def test_sides_may_have_different_numbers_of_episodes_where_they_are_independent() -> None:
    assert proven([2.83] * 64, [1.0] * 48).episodes == 48


@pytest.mark.parametrize(
    ("x", "y", "how", "words"),
    [
        ([], [1.0], {}, "both sides need episodes"),
        ([1.0], [], {}, "both sides need episodes"),
        ([1.0, 2.0], [1.0], {"paired": True}, "pairs must be complete"),
        ([math.nan], [1.0], {}, "returns must be finite"),
        ([1.0], [math.inf], {}, "returns must be finite"),
        ([1.0], [1.0], {"level": 0.0}, "level must lie between"),
        ([1.0], [1.0], {"level": 1.0}, "level must lie between"),
        ([1.0], [1.0], {"margin": -0.1}, "margin must be"),
        ([1.0], [1.0], {"margin": math.nan}, "margin must be"),
        ([1.0], [1.0], {"return_range": (1.0, 1.0)}, "return_range must have a width"),
        ([1.0], [1.0], {"return_range": (0.0, math.inf)}, "return_range must be"),
        ([1.0], [1.0], {"return_range": None, "seen_range": (1.0, 0.0)}, "seen_range must be"),
    ],
)
def test_arguments_outside_their_range_are_refused(
    x: list[float], y: list[float], how: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        proven(x, y, **how)


# ------------------------------------------------------------ looking again


def test_parts_of_a_confirmation_are_one_sample() -> None:
    first, second = episodes([1.0, 2.0], door=[0, 1]), episodes([3.0], [50], goal=[2])
    both = together([first, second])
    assert (both.returns, both.lengths, both.steps) == ([1.0, 2.0, 3.0], [100, 100, 50], 250)
    assert both.reached == {"door": [0, 1, 0], "goal": [0, 0, 2]}
    with pytest.raises(ValueError, match="episodes must be given"):
        together([])


def test_looking_again_and_again_costs_no_level() -> None:
    """A control that stays at 1 beside an arm that is better by the margin alone: 2.83 in one episode of eighteen.

    The bound is looked at after every 32 of 256 episodes, and stops at the first proof. Student's t, looked at as
    often, is the twin that fails.
    """
    rng, level, runs = np.random.default_rng(5), 0.1, 200
    share = MARGIN / 1.83
    by_bets = by_t = 0
    for _ in range(runs):
        x, y = np.where(rng.random(256) < share, 2.83, 1.0), np.ones(256)
        looks = range(32, 257, 32)
        bet = {"level": level, "low": RANGE[0], "high": RANGE[1], "paired": False}
        by_bets += any(refutes(x[:n], y[:n], MARGIN, **bet) for n in looks)
        error = [max(x[:n].std(ddof=1), 1e-9) / math.sqrt(n) for n in looks]
        by_t += any(
            x[:n].mean() - 1 - stats.t.ppf(1 - level, n - 1) * e > MARGIN for n, e in zip(looks, error, strict=True)
        )
    assert by_bets <= stats.binom.ppf(0.999, runs, level)
    assert by_t > stats.binom.ppf(0.999, runs, level)
