"""Recorded answers, the votes that they make, their mean, and how often the majority of noisy ones is right."""

from __future__ import annotations

from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.preferences.pairs import NOT_JUDGED
from cosignal.rl.preferences.votes import (
    RecordedAnswer,
    agreement,
    append_answers,
    confidence,
    oracle_votes,
    read_answers,
    votes_of,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ranked_moves import made_up_pairs

NAN = np.nan

# ------------------------------------------------------------ recorded answers

PAIRS = made_up_pairs(3, 0)
FIRST, SECOND, THIRD = PAIRS.ids()


def answer(pair: str = FIRST, query: int = 0, vote: float = 1.0, **more: Any) -> RecordedAnswer:
    settings = {"agent": "green", "prompt": "0" * 16, "model": "m", **more}
    return RecordedAnswer(pair=pair, query=query, vote=vote, **settings)


def test_they_are_appended_and_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.jsonl"
    assert read_answers(path) == []
    answers = [answer(), answer(SECOND, vote=0.5, model="a\u2028b"), answer(query=1, vote=0.8, probability=0.8)]
    append_answers(path, answers[:1])
    append_answers(path, answers[1:])
    assert read_answers(path) == answers


def test_a_line_that_a_crash_cut_off_is_left_out_and_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append_answers(path, [answer()])
    path.write_bytes(path.read_bytes() + b'{"pair": "01')
    assert read_answers(path) == [answer()]
    append_answers(path, [answer(SECOND)])
    assert read_answers(path) == [answer(), answer(SECOND)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 2 is b'no json'.*JSON"),
        (answer().model_dump_json().replace("1.0", "1.5"), r"line 2 .*\(vote: .*less than or equal to 1"),
        (answer().model_dump_json().replace("query", "quarry"), r"line 2 .*\(query: Field required"),
        (answer().model_dump_json().replace(FIRST, "pair 7"), r"line 2 .*\(pair: String should match"),
    ],
)
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(f"{answer().model_dump_json()}\n{line}\n")
    with pytest.raises(PreferenceError, match=said):
        read_answers(path)


def test_an_answer_is_frozen_and_knows_all_its_keys() -> None:
    with pytest.raises(ValidationError):
        answer(vote=NAN)
    with pytest.raises(ValidationError):
        answer(reason="because")
    with pytest.raises(ValidationError):
        answer().vote = 0.0  # type: ignore[misc]


def test_votes_by_hand() -> None:
    answers = [
        answer(FIRST, 0, 1), answer(FIRST, 1, 0), answer(SECOND, 1, 0.5), answer("f" * 16, 7, 1),
        answer(FIRST, 0, 0.25),  # asked again in the same words: counts once, as it was said last
    ]  # fmt: skip
    np.testing.assert_equal(votes_of(PAIRS, answers), [[0.25, 0], [NAN, 0.5], [NAN, NAN]])
    assert votes_of(PAIRS, []).shape == (3, 0)


def test_another_wording_is_another_vote() -> None:
    answers = [answer(FIRST, 1, 1), answer(FIRST, 1, 0, prompt="1" * 16), answer(THIRD, 0, 0)]
    np.testing.assert_equal(votes_of(PAIRS, answers), [[NAN, 1, NAN, 0], [NAN] * 4, [0, NAN, NAN, NAN]])


def test_a_pair_that_was_drawn_twice_has_its_votes_twice() -> None:
    twice = PAIRS.select(np.array([0, 1, 0]))
    np.testing.assert_equal(votes_of(twice, [answer()]), [[1], [NAN], [1]])


# ------------------------------------------------------------ votes

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
