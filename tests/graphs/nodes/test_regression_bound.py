"""The bound that says whether a run is worse than it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cosignal.graphs.nodes.monitor import Returns, regression_upper
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


def test_the_bound_by_hand() -> None:
    """Means 1.0 and 1.5, sd 0.4 and 0.3, 16 and 9 episodes: both parts of the variance are 0.01, so that the degrees of
    freedom are 0.02² / (0.01²/15 + 0.01²/8) = 20.87 and t(0.9) there is 1.3235."""
    upper = regression_upper(Returns(1.0, 0.4, 16), Returns(1.5, 0.3, 9), 0.1)
    assert upper == pytest.approx(-0.5 + 1.3235 * math.sqrt(0.02), abs=1e-4)


def test_equal_groups_have_the_freedom_of_both() -> None:
    """Equal spread and size: 2·(n − 1) = 18 degrees of freedom, t(0.95, 18) = 1.7341, standard error 0.2·sqrt(2/10)."""
    upper = regression_upper(Returns(0.0, 0.2, 10), Returns(0.0, 0.2, 10), 0.05)
    assert upper == pytest.approx(1.7341 * 0.2 * math.sqrt(0.2), abs=1e-4)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.4])
@pytest.mark.parametrize(("n", "m"), [(32, 32), (4, 60), (2, 2)])
def test_it_is_welchs_interval(level: float, n: int, m: int) -> None:
    rng = np.random.default_rng(n + m)
    now, before = rng.normal(0.3, 0.5, n), rng.normal(1.0, 2.0, m)
    welch = stats.ttest_ind(now, before, equal_var=False, alternative="less").confidence_interval(1 - level)
    found = regression_upper(returns(now), returns(before), level)
    assert found == pytest.approx(welch.high, rel=1e-9)


def returns(values: np.ndarray) -> Returns:
    return Returns(float(values.mean()), float(values.std(ddof=1)), len(values))


def test_one_episode_shows_no_regression() -> None:
    assert regression_upper(Returns(-100.0, 0.0, 1), Returns(0.0, 0.1, 32), 0.1) == math.inf
    assert regression_upper(Returns(-100.0, 0.1, 32), Returns(0.0, 0.0, 1), 0.1) == math.inf


def test_without_any_spread_the_change_is_the_bound() -> None:
    assert regression_upper(Returns(1.0, 0.0, 8), Returns(1.5, 0.0, 8), 0.1) == -0.5


spreads = st.floats(1e-3, 10)
counts = st.integers(2, 100)


@given(st.floats(-10, 10), spreads, counts, spreads, counts, st.floats(0.01, 0.49))
def test_the_bound_is_above_the_change_and_moves_with_it(
    change: float, sd: float, n: int, other_sd: float, m: int, level: float
) -> None:
    upper = regression_upper(Returns(change, sd, n), Returns(0.0, other_sd, m), level)
    assert upper > change
    assert regression_upper(Returns(change - 1, sd, n), Returns(0.0, other_sd, m), level) == pytest.approx(upper - 1)
    assert regression_upper(Returns(change, sd, n), Returns(0.0, other_sd, m), level / 2) > upper
