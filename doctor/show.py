"""An examination on the terminal: a table with colours, or plain lines where it is piped."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..runs.terminal import one_line
from .check import Check, Examination, State

STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def show(found: Examination, console: Console) -> None:
    """Every check as a line, then the sum of them."""
    if console.is_terminal:
        console.print(_table(found.checks))
        console.print(Text(ending(found), style=STYLES[_worst(found)]))
        return
    for check in found.checks:
        remedy = f" → {check.remedy}" if check.remedy else ""
        console.print(
            f"{check.state:<8} {one_line(f'{check.name}: {check.message}{remedy}')}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(ending(found), markup=False, highlight=False, soft_wrap=True)


def ending(found: Examination) -> str:
    """How many problems and warnings there are."""
    counts = Counter(check.state for check in found.checks)
    return f"{_plural(counts['problem'], 'problem')}, {_plural(counts['warning'], 'warning')}"


def _table(checks: list[Check]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        words = Text(one_line(check.message))
        if check.remedy:
            words.append(f"\n→ {one_line(check.remedy)}", style=STYLES[check.state])
        table.add_row(Text(check.state, style=STYLES[check.state]), Text(one_line(check.name)), words)
    return table


def _worst(found: Examination) -> State:
    states = {check.state for check in found.checks}
    return next((state for state in ("problem", "warning") if state in states), "ok")


def _plural(count: int, name: str) -> str:
    return f"{count or 'no'} {name}{'' if count == 1 else 's'}"
