"""When a seed counts as solved, and the intervals of a study, on numbers made by hand."""

from __future__ import annotations

import pytest
from cosignal.studies.outcome import Point, first_solved, mean_ci, median_censored, rare_ci, share_ci
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
