"""What `cosignal doctor` finds out: one `Check` for each thing it looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
