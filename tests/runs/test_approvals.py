"""Answers to promotions as files: what is kept of a reason, and whose files are neither read nor written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cosignal.errors import ApprovalError
from cosignal.runs.approvals import MAX_BECAUSE, Answer, answer, given_answer
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import waits_for

KEY = "p80-r1"


@pytest.fixture
def waiting_run(finished_run: Path) -> Path:
    return waits_for(finished_run, KEY)


@given(st.text())
def test_a_reason_is_one_bounded_line_of_printable_characters_and_stays_it(text: str) -> None:
    kept = Answer(yes=False, because=text).because
    assert kept.isprintable() and len(kept) <= MAX_BECAUSE
    assert Answer(yes=False, because=kept).because == kept


def test_control_characters_are_removed_and_a_cut_is_told() -> None:
    assert Answer(yes=False, because="  go\taround\r\nit \x1b[31m\u202enow\x00 ").because == "go around it [31mnow"
    kept = Answer(yes=False, because="word " * 200).because
    assert len(kept) == MAX_BECAUSE and kept.startswith("word word ") and kept.endswith(" … (cut, 999 characters)")


def test_what_is_kept_is_read_back(waiting_run: Path) -> None:
    assert given_answer(waiting_run, KEY) is None
    assert answer(waiting_run, KEY, False, "it pays for doors")
    assert given_answer(waiting_run, KEY) == Answer(yes=False, because="it pays for doors")


def test_an_answer_of_an_older_version_or_by_hand_is_read_and_bounded(waiting_run: Path) -> None:
    (waiting_run / "approvals").mkdir()
    path = waiting_run / "approvals" / f"{KEY}.json"
    path.write_text(json.dumps({"id": KEY, "yes": True, "answered": "2026-01-02"}))
    assert given_answer(waiting_run, KEY) == Answer(yes=True)
    path.write_text(json.dumps({"yes": False, "because": "x\n" * 600}))
    found = given_answer(waiting_run, KEY)
    assert found is not None and len(found.because) == MAX_BECAUSE


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"yes": "perhaps"}', '{"yes": false, "because": 3}'])
def test_what_is_no_answer_is_told_with_the_remedy(waiting_run: Path, content: str) -> None:
    (waiting_run / "approvals").mkdir()
    (waiting_run / "approvals" / f"{KEY}.json").write_text(content)
    with pytest.raises(ApprovalError, match="must be an answer such as .*; delete it and answer again"):
        given_answer(waiting_run, KEY)


def test_no_link_is_followed_out_of_the_run(waiting_run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (waiting_run / "approvals").symlink_to(elsewhere)
    with pytest.raises(ApprovalError, match="leads out of the directory"):
        answer(waiting_run, KEY, True)
    assert list(elsewhere.iterdir()) == []
    (elsewhere / f"{KEY}.json").write_text('{"yes": true}')
    with pytest.raises(ApprovalError, match="leads out of the directory"):
        given_answer(waiting_run, KEY)
