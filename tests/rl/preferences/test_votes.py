"""Votes, their mean, and how often the majority of noisy ones is right."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.preferences.pairs import NOT_JUDGED
from cosignal.rl.preferences.votes import agreement, confidence, oracle_votes
from hypothesis import given
from hypothesis import strategies as st

NAN = np.nan
LABELS = np.random.default_rng(0).choice([1, -1], 40_000)


def majority(votes: int, accuracy: float) -> float:
    """P[more than half right] + P[half right] / 2, by the binomial."""
    right = [comb(votes, k) * accuracy**k * (1 - accuracy) ** (votes - k) for k in range(votes + 1)]
    return sum(p * (1.0 if 2 * k > votes else 0.5 if 2 * k == votes else 0.0) for k, p in enumerate(right))


def test_confidence_by_hand() -> None:
    votes = np.array([[1, 0, 1, 1], [1, 0.5, NAN, 0], [NAN, NAN, NAN, 0.3], [NAN] * 4])
    np.testing.assert_allclose(confidence(votes), [0.75, 0.5, 0.3, NAN])
    assert np.isnan(confidence(np.zeros((2, 0)))).all()


@pytest.mark.parametrize(
    ("votes", "accuracy", "expected"), [(1, 0.7, 0.7), (4, 0.7, 0.784), (1, 0.8, 0.8), (4, 0.8, 0.896)]
)
def test_the_majority_of_noisy_votes(votes: int, accuracy: float, expected: float) -> None:
    assert majority(votes, accuracy) == pytest.approx(expected, abs=5e-4)
    found = agreement(confidence(oracle_votes(LABELS, votes, accuracy, seed=3)) - 0.5, LABELS)
    assert found == pytest.approx(expected, abs=4 * 0.5 / 200)  # four standard errors of 40 000 pairs


def test_every_copy_and_accuracy_is_flipped_independently() -> None:
    four, one, other = (oracle_votes(LABELS, k, a, 3) for k, a in ((4, 0.7), (1, 0.7), (1, 0.8)))
    assert np.array_equal(four[:, :1], one)  # a first query is the first of four
    wrong = [*(four != (LABELS[:, None] + 1) / 2).T, other[:, 0] != (LABELS + 1) / 2]
    correlations = np.corrcoef(np.array(wrong, float))[np.triu_indices(5, 1)]
    assert abs(correlations).max() < 4 / 200
    assert not np.array_equal(one, oracle_votes(LABELS, 1, 0.7, 4))


@given(st.lists(st.sampled_from([1, -1, 0]), min_size=1, max_size=30), st.integers(1, 4), st.floats(0, 1))
def test_ties_are_never_flipped_and_the_rest_is_a_side(labels: list[int], queries: int, accuracy: float) -> None:
    votes = oracle_votes(np.array(labels), queries, accuracy, 0)
    assert votes.shape == (len(labels), queries)
    assert ((votes == 0.5) == (np.array(labels) == 0)[:, None]).all()
    assert set(votes.ravel()) <= {0, 0.5, 1}


def test_a_perfect_oracle_and_a_liar() -> None:
    assert oracle_votes(np.array([1, -1, 0]), 1, 1.0, 0).ravel().tolist() == [1, 0, 0.5]
    assert oracle_votes(np.array([1, -1, 0]), 1, 0.0, 0).ravel().tolist() == [0, 1, 0.5]


def test_what_it_refuses() -> None:
    with pytest.raises(PreferenceError, match="2 of 3 pairs have none"):
        oracle_votes(np.array([1, NOT_JUDGED, NOT_JUDGED]), 1, 0.7, 0)
    with pytest.raises(PreferenceError, match=r"must be in 0\.\.1, got 70"):
        oracle_votes(np.array([1]), 1, 70, 0)


def test_agreement_by_hand() -> None:
    assert agreement(np.array([0.2, -3, 0, 1]), np.array([1, 1, -1, 0])) == 0.5  # right, wrong, half; a tie aside
    assert agreement(np.array([1.0, 1.0]), np.array([0, NOT_JUDGED])) is None
