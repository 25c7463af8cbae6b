"""The file of recorded answers, and the votes that it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.preferences.votes import RecordedAnswer, append_answers, read_answers, votes_of
from pydantic import ValidationError
from ranked_moves import made_up_pairs

PAIRS = made_up_pairs(3, 0)
FIRST, SECOND, THIRD = PAIRS.ids()
NAN = np.nan


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
    twice = PAIRS.taken(np.array([0, 1, 0]))
    np.testing.assert_equal(votes_of(twice, [answer()]), [[1], [NAN], [1]])
