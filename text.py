"""Texts of models and of other programs, made safe for a terminal."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return `text` on one line: white space becomes single spaces, what cannot be printed an escape such as `\\x1b`.

    A terminal obeys control characters: raw ones could move the cursor, rename the window or forge a line.
    """
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
