"""An examination on the terminal and in a pipe."""

from __future__ import annotations

import io

from cosignal.doctor import Check, Examination
from cosignal.doctor.check import problems_from, show
from cosignal.errors import ConfigError
from rich.console import Console

TOLD = Examination(
    [Check("a", "ok", "fine"), Check("b", "problem", "must [bold]not\x1b[2J\nbe", "mend it")], {"interventions": 2}
)


def shown(terminal: bool) -> str:
    written = io.StringIO()
    show(TOLD, Console(file=written, width=60, force_terminal=terminal, color_system="standard"))
    return written.getvalue()


def test_piped_it_is_a_line_a_check_and_what_others_say_cannot_steer_the_terminal() -> None:
    assert shown(terminal=False).splitlines() == [
        "ok       a: fine",
        r"problem  b: must [bold]not\x1b[2J be → mend it",
        "1 problem, no warnings",
    ]
    on_terminal = shown(terminal=True)
    assert "\x1b[2J" not in on_terminal
    assert "→ mend it" in on_terminal
    assert "\x1b[1;31mproblem" in on_terminal


def test_each_line_of_an_error_is_a_problem_with_what_follows_the_last_semicolon_as_its_remedy() -> None:
    error = ConfigError("a: must be 1, got 2; 3; set it to 1\nb: unknown key")
    assert list(problems_from("config", error)) == [
        Check("config", "problem", "a: must be 1, got 2; 3", "set it to 1"),
        Check("config", "problem", "b: unknown key", "correct it"),
    ]
