"""Replays of recorded calls: kept as JSON files below `replays/` of the run, and shown on a terminal.

Nothing else of the run directory is written. On a terminal there are colours, where it is piped plain lines.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from ..agents.replay_results import KEPT, Replay, RoleReplay, Side, Validation
from ..errors import ReplayError
from ..text import one_line
from .events import BranchFinished, Event

FOLDER = "replays"
HASH = 12  # digits of a prompt's hash that are shown
COLOURS = {"+": "green", "-": "red", "@": "cyan"}


class Shown(NamedTuple):
    """A line on the terminal; its text may hold a model's words."""

    text: str
    style: str = ""


# ---------------------------------------------------------------- files


def new_name(subject: str) -> str:
    """Of a replay that begins now; `subject`: a call's id, or what else was replayed."""
    return f"{subject}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def write_replay(run_dir: Path, name: str, replay: Replay | RoleReplay) -> Path:
    """`replays/NAME.json` of the run. Raises ReplayError where it cannot be written."""
    path = run_dir / FOLDER / f"{name}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(replay.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(path)  # a page that looks meanwhile sees all of it or nothing
    except OSError as error:
        raise ReplayError(
            f"a replay is kept below the run directory, but {str(path)!r} cannot be written ({error.strerror}); "
            "make the directory writable, or copy the run and replay the copy"
        ) from None
    return path


def read_replay(path: Path) -> Replay | RoleReplay:
    """One that was kept. Raises ReplayError for a file that is none."""
    try:
        return KEPT.validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReplayError(f"{str(path)!r} is no replay of this version ({error}); remove it") from None


# ---------------------------------------------------------------- on the terminal


def show(replay: Replay | RoleReplay, console: Console) -> None:
    """Everything about one call, or a line a call and the sums."""
    lines = summary_lines(replay) if isinstance(replay, RoleReplay) else replay_lines(replay)
    show_lines(lines, console)


def show_lines(lines: Iterator[Shown], console: Console) -> None:
    for line in lines:
        console.print(Text(line.text, style=line.style), soft_wrap=True, highlight=False)


def replay_lines(replay: Replay) -> Iterator[Shown]:
    """Both sides beside each other, then how the answers differ, then what branches said."""
    yield Shown(f"{replay.call}: {replay.role}, point {replay.point}, round {replay.round}", "bold")
    if not replay.rebuilt.same:
        yield Shown(f"not the same question: {one_line(replay.rebuilt.note)}", "yellow")
    yield from _side_by_side(replay.before, replay.after)
    yield from _difference(replay)
    if replay.validation is not None:
        yield from validation_lines(replay.validation)


def _side_by_side(before: Side, after: Side) -> Iterator[Shown]:
    rows = [("", "recorded", "replayed"), *zip(_NAMES, _told(before), _told(after), strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for number, (name, old, new) in enumerate(rows):
        differs = number > 0 and old != new
        text = f"{name:<{widths[0]}}  {old:<{widths[1]}}  {new}"
        yield Shown(text, "dim" if number == 0 else "yellow" if differs else "")
    for name, side in (("recorded", before), ("replayed", after)):
        if side.error is not None:
            yield Shown(f"{name}: {one_line(side.error)}", "red")


_NAMES = (
    "answered by", "prompt", "outcome", "valid", "repair turns", "attempts", "tool calls", "tokens in", "tokens out",
    "cost", "latency",
)  # fmt: skip


def _told(side: Side) -> list[str]:
    """In the order of `_NAMES`."""
    by = side.provider if side.model == side.provider else f"{side.provider} {side.model}"
    return [
        one_line(by),
        one_line(f"{side.prompt_id} {side.prompt_hash[:HASH]}"),
        side.outcome,
        "yes" if side.valid else "no",
        str(side.repairs),
        str(side.attempts),
        str(side.tool_calls),
        _count(side.input_tokens),
        _count(side.output_tokens),
        _usd(side.cost_usd),
        f"{side.latency_s:.2f} s",
    ]


def _count(number: int | None) -> str:
    return "not counted" if number is None else f"{number:,}"


def _usd(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}"


def _difference(replay: Replay) -> Iterator[Shown]:
    if replay.same_answer:
        yield Shown("the same answer", "green")
        return
    for line in replay.difference:
        yield Shown(_kept(line), COLOURS.get(line[:1], ""))
    if not replay.difference:
        yield Shown("there are no two answers to compare", "red")


def _kept(line: str) -> str:
    """Without control characters, but with the blanks that indent it."""
    sign, text = line[:1], line[1:]
    return sign + text[: len(text) - len(text.lstrip(" "))] + one_line(text)


def validation_lines(found: Validation) -> Iterator[Shown]:
    """The verdict, an arm a line, and what it cost."""
    recorded = f" (in the run: {found.recorded})" if found.recorded else ""
    style = "bold green" if found.verdict == "accept" else "yellow"
    yield Shown(f"branches from {found.snapshot}: {found.verdict}{recorded}", style)
    for arm in found.arms:
        yield Shown(f"  {arm.verdict:<15} {one_line(arm.title)}")
        for text in [*arm.problems, *([arm.explanation] if arm.explanation else [])]:
            yield Shown(f"    {one_line(text)}", "dim")
    yield Shown(
        f"steps: {found.steps:,} of {found.branches} branches and {found.steps_evaluation:,} of their evaluation; "
        f"{found.reused} branches were taken from the run"
    )


def branch_line(event: Event) -> Shown | None:
    """What is told while branches run; None for what is not worth a line."""
    if not isinstance(event, BranchFinished):
        return None
    told = f"branch {event.arm}, seed {event.seed}, {event.horizon:,} steps: sparse return {event.final_return:.3f}"
    return Shown(told, "dim")


# ---------------------------------------------------------------- a whole role


def call_line(replay: Replay) -> Shown:
    """One call of many."""
    before, after = replay.before, replay.after
    answer = "same answer" if replay.same_answer else "other answer" if after.valid else one_line(after.error or "")
    tokens = f"{_count(after.input_tokens)} in, {_count(after.output_tokens)} out"
    text = f"{replay.call:<30}  {before.outcome} → {after.outcome}  {tokens}, {_usd(after.cost_usd)}  {answer}"
    notes = "" if replay.rebuilt.same else "  (not the same question)"
    return Shown(text + notes, "" if after.valid else "red")


def summary_lines(found: RoleReplay) -> Iterator[Shown]:
    """The sums, recorded and replayed; the lines of the calls are told as they come."""
    rows = [("", "recorded", "replayed"), *_sums(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for number, (name, old, new) in enumerate(rows):
        yield Shown(f"{name:<{widths[0]}}  {old:<{widths[1]}}  {new}", "dim" if number == 0 else "")
    same = sum(replay.same_answer for replay in found.replays)
    yield Shown(f"the same answer in {same} of {len(found.replays)} calls of the {found.role}", "bold")
    different = sum(not replay.rebuilt.same for replay in found.replays)
    if different:
        yield Shown(f"{different} of them were not asked the same question, see the file", "yellow")
    for call, reason in found.left_out.items():
        yield Shown(f"left out {call}: {one_line(reason)}", "dim")
    if found.not_asked:
        yield Shown(
            f"{found.not_asked} calls were not asked: a limit of llm.limits is reached; raise it by --set", "red"
        )


def _sums(found: RoleReplay) -> list[tuple[str, str, str]]:
    sides = [[r.before for r in found.replays], [r.after for r in found.replays]]

    def row(name: str, told: list[str]) -> tuple[str, str, str]:
        return name, told[0], told[1]

    return [
        row("valid", [f"{sum(side.valid for side in part)} of {len(part)}" for part in sides]),
        row("repair turns", [str(sum(side.repairs for side in part)) for part in sides]),
        row("tokens in", [_count(_sum([side.input_tokens for side in part])) for part in sides]),
        row("tokens out", [_count(_sum([side.output_tokens for side in part])) for part in sides]),
        row("cost", [_usd(_total([side.cost_usd for side in part])) for part in sides]),
        row("latency", [f"{sum(side.latency_s for side in part):.2f} s" for part in sides]),
    ]


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _total(costs: list[float | None]) -> float | None:
    """Unknown where any part of it is."""
    return None if None in costs else sum(cost or 0.0 for cost in costs)
