"""When a seed counts as solved, and the intervals of a study, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.studies.outcome import (
    Point,
    first_solved,
    mean_ci,
    median_censored,
    paired_share_ci,
    rare_ci,
    ratio_ci,
    share_ci,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


def points(*successes: float | None) -> list[Point]:
    return [Point(10 * i, 20 * i, s) for i, s in enumerate(successes)]


def test_ten_updates_of_training_success_count() -> None:
    assert first_solved(points(*[1.0] * 9)) is None
    assert first_solved(points(0.0, *[1.0] * 9)) == Point(90, 180, 1.0)  # 0.9 over ten updates
    assert first_solved(points(None, *[0.89] * 30)) is None
    assert first_solved(points(*[1.0] * 5, None, *[1.0] * 5)) == Point(100, 200, 1.0)  # one without an episode


def test_an_adopted_state_counts_by_its_fresh_episodes() -> None:
    adopted = Point(500, 900, None, fresh_success=0.95)
    assert first_solved([*points(*[0.0] * 5), adopted]) == adopted
    worse = [*points(*[1.0] * 9), Point(95, 190, None, fresh_success=0.2), Point(100, 200, 1.0)]
    assert first_solved(worse) is None  # what the state before it did does not count for this one


def test_statistics() -> None:
    assert mean_ci([2.0, 2.0, 2.0]) == (2.0, (2.0, 2.0))
    mean, (low, high) = mean_ci([0.0, 1.0] * 20)
    assert mean == 0.5 and 0.33 < low < 0.37 and 0.63 < high < 0.67  # ± 1.96 · 0.5 / √40
    share, (low, high) = share_ci(10, 10)
    assert share == 1.0 and high == pytest.approx(1.0) and low == pytest.approx(0.7225, abs=1e-3)  # Wilson, n = 10
    assert median_censored([3.0, 1.0, None]) == 3.0
    assert median_censored([1.0, None, None]) is None


@pytest.mark.parametrize(("hits", "of"), [(0, 64), (1, 64), (5, 5), (3, 20), (64, 64)])
def test_the_interval_of_rare_things_is_clopper_and_pearsons(hits: int, of: int) -> None:
    """Its ends are quantiles of two beta distributions (Clopper and Pearson 1934)."""
    low = stats.beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = stats.beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    share, interval = rare_ci(hits, of)
    assert share == hits / of and interval == pytest.approx((low, high))


def test_the_interval_of_nothing_seen() -> None:
    assert rare_ci(0, 64)[1] == (0.0, pytest.approx(1 - 0.025 ** (1 / 64)))  # by hand
    assert rare_ci(0, 0) == (0.0, (0.0, 1.0))


def test_the_ratio_of_means_has_an_interval_over_pairs() -> None:
    assert ratio_ci([3.0, 6.0], [2.0, 4.0]) == (1.5, (1.5, 1.5))  # every pair has it
    assert ratio_ci([3.0], [4.0]) == (0.75, (0.75, 0.75))
    values, others = [1.0, 2.0, 4.0, 9.0], [2.0, 2.0, 3.0, 5.0]
    ratio, (low, high) = ratio_ci(values, others)
    # An independent reference: pairs are drawn together, or the interval would be wider.
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 4, (20_000, 4))
    resampled = np.asarray(values)[drawn].mean(1) / np.asarray(others)[drawn].mean(1)
    assert ratio == 16 / 12
    assert (low, high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])), abs=0.03)


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    counts = (both, first, second, neither)
    return tuple(np.repeat(side, counts).tolist() for side in ([True, True, False, False], [True, False, True, False]))  # type: ignore[return-value]


def test_the_interval_of_a_paired_difference_is_newcombes() -> None:
    difference, (low, high) = paired_share_ci(*pairs(36, 12, 2, 0))  # an example of his paper
    assert (round(difference, 4), round(low, 4), round(high, 4)) == (0.2, 0.0569, 0.3404)
    # It has a width where nothing was seen: 1.96² / (73 + 1.96²) on either side, Wilson's end.
    assert paired_share_ci(*pairs(0, 0, 0, 73)) == (
        0.0,
        (pytest.approx(-0.05, abs=1e-4), pytest.approx(0.05, abs=1e-4)),
    )
    assert mean_ci([0.0] * 73) == (0.0, (0.0, 0.0))  # the bootstrap has none
    assert paired_share_ci([], []) == (0.0, (-1.0, 1.0))


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(lambda counts: sum(counts) > 0))
def test_a_paired_difference_turns_its_sign_with_its_sides_and_lies_in_its_interval(counts: tuple[int, ...]) -> None:
    hits, others = pairs(*counts)
    difference, (low, high) = paired_share_ci(hits, others)
    assert -1 - 1e-9 <= low <= difference + 1e-9 and difference - 1e-9 <= high <= 1 + 1e-9
    turned, (low_turned, high_turned) = paired_share_ci(others, hits)
    assert (turned, low_turned, high_turned) == pytest.approx((-difference, -high, -low), abs=1e-9)


@pytest.mark.parametrize("shares", [(0.02, 0.03, 0.03, 0.92), (0.3, 0.2, 0.1, 0.4), (0.0, 0.05, 0.0, 0.95)])
def test_the_interval_of_a_paired_difference_holds_in_about_95_of_100_samples(shares: tuple[float, ...]) -> None:
    rng, true = np.random.default_rng(1), shares[1] - shares[2]
    samples = [paired_share_ci(*pairs(*counts))[1] for counts in rng.multinomial(80, shares, 300)]
    assert sum(low <= true <= high for low, high in samples) >= 0.92 * 300
