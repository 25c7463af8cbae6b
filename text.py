"""Texts of models and of other programs, bounded and made safe for a terminal."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return `text` as one printable line: white space becomes single spaces."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Escape what cannot be printed, such as `\\x1b`; line ends stay.

    A terminal obeys control characters: raw ones could move the cursor, rename the window or forge a line.
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def cut(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`, and where it is longer a mark that says how many there were."""
    return text if len(text) <= limit else f"{text[:limit]} … (cut, {len(text)} characters)"
