"""What `cosignal doctor` finds out: one `Check` for each thing it looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text import one_line

# ---------------------------------------------------------------- MERGED doctor.check

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """`message` says what holds or which rule is broken by which value; `remedy` what to do, None where all is well."""

    name: str
    state: State
    message: str
    remedy: str | None = None


@dataclass(frozen=True)
class Examination:
    """`readable`: whether there is a config to judge at all. `arithmetic`: what adaptation costs, empty without one."""

    checks: list[Check]
    arithmetic: dict[str, Any]
    readable: bool = True

    @property
    def ok(self) -> bool:
        return all(check.state != "problem" for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0: no problem. 1: a problem. 2: a config that `cosignal run` would refuse to read."""
        return 2 if not self.readable else 0 if self.ok else 1

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks], "arithmetic": self.arithmetic}


def ok(name: str, message: str) -> Check:
    return Check(name, "ok", message)


def warning(name: str, message: str, remedy: str) -> Check:
    return Check(name, "warning", message, remedy)


def problem(name: str, message: str, remedy: str) -> Check:
    return Check(name, "problem", message, remedy)


def from_error(name: str, error: Exception) -> Iterator[Check]:
    """A problem for each line of one of our errors, which end with a remedy after the last semicolon."""
    for line in str(error).splitlines():
        message, semicolon, remedy = line.rpartition("; ")
        yield problem(name, message, remedy) if semicolon else problem(name, line, "correct it")


# ---------------------------------------------------------------- MERGED doctor.show
# DOC """An examination on the terminal: a table with colours, or plain lines where it is piped."""

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
