"""Texts of others: bounded, and harmless on a terminal."""

from __future__ import annotations

from cosignal.text import cut, one_line, printable
from hypothesis import given
from hypothesis import strategies as st


def test_a_text_is_cut_with_a_mark() -> None:
    assert cut("abcdef", 3) == "abc … (cut, 6 characters)"
    assert cut("abc", 3) == "abc"


def test_what_a_terminal_would_obey_is_escaped_and_line_ends_stay() -> None:
    assert printable("a\nb\x1b[2J\u202e") == "a\nb\\x1b[2J\\u202e"


def test_one_line_has_single_spaces() -> None:
    assert one_line(" a\n\tb\x1b ") == "a b\\x1b"


@given(st.text())
def test_one_line_is_printable_whatever_comes(text: str) -> None:
    assert one_line(text).isprintable()
    assert printable(text).replace("\n", "").isprintable()
