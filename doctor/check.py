"""Results of `cosignal doctor`: a `Check` for each thing it looked at, and all of them as an `Examination`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text import one_line

if TYPE_CHECKING:
    from .arithmetic import Arithmetic

State = Literal["ok", "warning", "problem"]
STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    message: str  # what holds, or which rule is broken by which value
    remedy: str | None = None  # what to do, None where all is well


@dataclass(frozen=True)
class Examination:
    """Everything that was looked at."""

    checks: list[Check]
    arithmetic: Arithmetic  # what adaptation costs, empty without a config
    readable: bool = True  # whether there is a config to judge at all

    @property
    def ok(self) -> bool:
        """No check is a problem; warnings may be there."""
        return all(check.state != "problem" for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0: no problem. 1: a problem. 2: a config that `cosignal run` would refuse to read."""
        return 2 if not self.readable else 0 if self.ok else 1

    def as_dict(self) -> dict[str, Any]:
        """Return what `cosignal doctor --json` prints."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks], "arithmetic": self.arithmetic}


def ok(name: str, message: str) -> Check:
    """Make a check that found nothing wrong."""
    return Check(name, "ok", message)


def warning(name: str, message: str, remedy: str) -> Check:
    """Make a check of something that a run can live with."""
    return Check(name, "warning", message, remedy)


def problem(name: str, message: str, remedy: str) -> Check:
    """Make a check of something that a run will fail at."""
    return Check(name, "problem", message, remedy)


def problems_from(name: str, error: Exception) -> Iterator[Check]:
    """Yield a problem for each line of one of our errors, which end with a remedy after the last semicolon."""
    for line in str(error).splitlines():
        message, semicolon, remedy = line.rpartition("; ")
        yield problem(name, message, remedy) if semicolon else problem(name, line, "correct it")


# ---------------------------------------------------------------- lists in a message


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(things: Sequence[object], name: str) -> str:
    """Return how many things there are, as in "2 groups"."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


# ---------------------------------------------------------------- on the terminal


def show(examination: Examination, console: Console) -> None:
    """Print every check, then how many problems and warnings there are: a table with colours, or lines where piped."""
    # A pipe gets one line a check, which programs and logs can hold.
    ending = summary_line(examination)
    if not console.is_terminal:
        for check in examination.checks:
            remedy = f" → {check.remedy}" if check.remedy else ""
            line = f"{check.state:<8} {one_line(f'{check.name}: {check.message}{remedy}')}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print(ending, markup=False, highlight=False, soft_wrap=True)
        return
    # A terminal gets a table, in which only the messages wrap.
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in examination.checks:
        text = Text(one_line(check.message))
        if check.remedy:
            text.append(f"\n→ {one_line(check.remedy)}", style=STYLES[check.state])
        table.add_row(Text(check.state, style=STYLES[check.state]), Text(one_line(check.name)), text)
    console.print(table)
    states = {check.state for check in examination.checks}
    worst: State = "problem" if "problem" in states else "warning" if "warning" in states else "ok"
    console.print(Text(ending, style=STYLES[worst]))


def summary_line(examination: Examination) -> str:
    """Return how many problems and warnings there are, as in `1 problem, no warnings`."""
    counts = Counter(check.state for check in examination.checks)
    names: tuple[State, ...] = ("problem", "warning")
    return ", ".join(f"{counts[name] or 'no'} {name}{'' if counts[name] == 1 else 's'}" for name in names)
