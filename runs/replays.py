"""Replays of recorded calls: JSON files below `replays/` of the run, and what a terminal shows of them.

Nothing else of the run directory is written. On a terminal there are colours, where it is piped plain lines.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from ..agents.replay_results import STORED_REPLAY, RacedArm, Replay, RoleReplay, Side, Validation
from ..errors import ReplayError, StorageError
from ..files import NO_ROOM, file_inside, path_inside, write_whole
from ..text import one_line
from .events import BranchFailed, BranchFinished, Event, PolicyConfirmed, Warned
from .progress import proof_line

FOLDER = "replays"
LONGEST_REPLAY = 64_000_000  # bytes
ROOM = 256_000  # bytes that must be free before anybody is asked; a call and its replay have some ten thousand
HASH = 12  # digits of a prompt's hash that are shown
COLOURS = {"+": "green", "-": "red", "@": "cyan"}  # first character of a line of a diff → its colour


# ---------------------------------------------------------------- files


def new_name(subject: str) -> str:
    """Return the name of a replay that begins now; `subject` is a call's id, or what else is replayed.

    An id may be a stranger's, and the name becomes one of files: whatever could lead elsewhere is left out.
    """
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', subject)[:100]}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_writable(run_dir: Path) -> None:
    """Check that a replay could be kept, before anybody is asked.

    Raises:
        ReplayError: the folder of replays cannot be written, or is a link out of the run directory.
        StorageError: the disk has no room.
    """
    folder = run_dir / FOLDER
    try:
        exists = path_inside(run_dir, FOLDER).is_dir()
    except FileNotFoundError:
        exists = False
    except OSError as error:
        raise _not_writable(folder, str(error)) from None
    if not os.access(folder if exists else run_dir, os.W_OK | os.X_OK):
        raise _not_writable(folder, "it is read-only")
    # A file that has no name, of about the size of a replay, and gone at once.
    try:
        with tempfile.TemporaryFile(dir=folder if exists else run_dir) as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_keep(folder, error) from error


def _cannot_keep(path: Path, error: OSError) -> ReplayError | StorageError:
    """Make the error of a write that has failed: for want of room, or of a permission."""
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return StorageError(
            f"a replay is kept below the run directory, but {str(path)!r} cannot be written ({reason}); make room there"
        )
    return _not_writable(path, reason)


def _not_writable(path: Path, reason: str) -> ReplayError:
    return ReplayError(
        f"a replay is kept below the run directory, but {str(path)!r} cannot be written ({reason}); "
        "make the directory writable, or copy the run and replay the copy"
    )


def write_replay(run_dir: Path, name: str, replay: Replay | RoleReplay) -> Path:
    """Write `replays/NAME.json` of the run, and return its path.

    Raises:
        ReplayError: the file cannot be written.
        StorageError: the disk has no room for it.
    """
    path = run_dir / FOLDER / f"{name}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, replay.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise _cannot_keep(path, error) from None
    return path


def read_replay(path: Path) -> Replay | RoleReplay:
    """Read a file that `write_replay` has written.

    Raises:
        ReplayError: the file is no replay.
    """
    try:
        file_inside(path.parent, path.name, LONGEST_REPLAY)
        return STORED_REPLAY.validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReplayError(f"{str(path)!r} is no replay of this version ({error}); remove it") from None


# ---------------------------------------------------------------- one call on the terminal


class Shown(NamedTuple):
    """A line on the terminal; its text may come from a model."""

    text: str
    style: str = ""


def show(replay: Replay | RoleReplay, console: Console) -> None:
    """Print everything about one call, or the sums over the calls of a role."""
    for line in summary_lines(replay) if isinstance(replay, RoleReplay) else replay_lines(replay):
        console.print(Text(line.text, style=line.style), soft_wrap=True, highlight=False)


def replay_lines(replay: Replay) -> Iterator[Shown]:
    """Yield both sides next to each other, then how the answers differ, then what branches came to."""
    yield Shown(f"{replay.call}: {replay.role}, point {replay.point}, round {replay.round}", "bold")
    if not replay.rebuilt.same:
        yield Shown(f"not the same question: {one_line(replay.rebuilt.note)}", "yellow")

    # Both sides, and the error of each.
    before, after = _facts(replay.before), _facts(replay.after)
    yield from _table([(name, before[name], after[name]) for name in before], mark_differences=True)
    for name, side in (("recorded", replay.before), ("replayed", replay.after)):
        if side.error is not None:
            yield Shown(f"{name}: {one_line(side.error)}", "red")

    # The answers: a unified diff of their JSON.
    if replay.same_answer:
        yield Shown("the same answer", "green")
    elif not replay.difference:
        yield Shown("there are no two answers to compare", "red")
    else:
        for line in replay.difference:
            # `one_line` takes control characters out, but also the blanks that indent a line of JSON.
            sign, text = line[:1], line[1:]
            indent = text[: len(text) - len(text.lstrip(" "))]
            yield Shown(sign + indent + one_line(text), COLOURS.get(sign, ""))

    if replay.validation is not None:
        yield from validation_lines(replay.validation)


def validation_lines(validation: Validation) -> Iterator[Shown]:
    """Yield what was asked, the verdict of the branches, each arm, and what they cost."""
    yield Shown(f"asked: {validation.question}")
    recorded = f" (in the run: {validation.shown_recorded})" if validation.recorded else ""
    rungs = f"{validation.rungs} rung" + ("" if validation.rungs == 1 else "s")
    tried = f"a race of {rungs}" if validation.claim == "policy" else "branches"
    style = "bold green" if validation.verdict == "accept" else "yellow"
    yield Shown(f"{tried} from {validation.snapshot}: {validation.shown_verdict}{recorded}", style)
    if validation.claim == "policy" and validation.winner is None:  # no arm tells why the race was over
        yield Shown(f"  {one_line(validation.reason)}", "dim")
    # Each arm with what the checks, the gate or the race said of it.
    for arm in validation.arms:
        kind = "" if arm.race is None else f" ({arm.race.kind.replace('_', ' ')})"
        yield Shown(f"  {arm.verdict:<15} {one_line(arm.title + kind)}")
        for text in [*arm.problems, *raced_lines(arm.race), *([arm.explanation] if arm.explanation else [])]:
            yield Shown(f"    {one_line(text)}", "dim")
    yield Shown(
        f"steps: {validation.steps:,} of {validation.branches} branches and {validation.steps_evaluation:,} of their "
        f"evaluation; {validation.reused} branches were taken from the run"
    )


def raced_lines(raced: RacedArm | None) -> Iterator[str]:
    """Yield the last look at an arm of a race, and its confirmations."""
    if raced is None:
        return
    if (look := raced.look) is not None:
        means = f"mean return {look.mean:z.2f}, the main line's {look.main_line:z.2f}"
        yield f"last look, after rung {look.rung}: {means} over {look.episodes} episodes each"
    for proof in raced.proofs:
        yield f"confirmation {proof.number} after rung {proof.rung}, against {proof.against}: {proof.explanation}"


def branch_line(event: Event) -> Shown | None:
    """Return the line of a branch that has ended, of a confirmation, or of what went wrong; None for other events."""
    if isinstance(event, BranchFailed):
        text = f"branch {event.arm}, seed {event.seed}, {event.horizon:,} steps: could not be run: {event.reason}"
        return Shown(one_line(text), "yellow")
    if isinstance(event, Warned):
        return Shown(one_line(f"warning: {event.message}"), "yellow")
    if isinstance(event, PolicyConfirmed):
        return Shown(one_line(proof_line(event)), "cyan")
    if not isinstance(event, BranchFinished):
        return None
    steps, final = f"{event.horizon:,} steps", f"{event.final_return:.3f}"
    return Shown(f"branch {event.arm}, seed {event.seed}, {steps}: sparse return {final}", "dim")


# ---------------------------------------------------------------- a whole role on the terminal


def call_line(replay: Replay) -> Shown:
    """Return the line of one call of many."""
    before, after = replay.before, replay.after
    answer = "same answer" if replay.same_answer else "other answer" if after.valid else one_line(after.error or "")
    tokens = f"{_count(after.input_tokens)} in, {_count(after.output_tokens)} out"
    text = f"{replay.call:<30}  {before.outcome} → {after.outcome}  {tokens}, {_usd(after.cost_usd)}  {answer}"
    note = "" if replay.rebuilt.same else "  (not the same question)"
    return Shown(text + note, "" if after.valid else "red")


def summary_lines(replay: RoleReplay) -> Iterator[Shown]:
    """Yield the sums over all calls, recorded and replayed; each call has had its `call_line`."""
    before, after = _sums([call.before for call in replay.replays]), _sums([call.after for call in replay.replays])
    yield from _table([(name, before[name], after[name]) for name in before])
    # How much of it can be compared.
    same = sum(call.same_answer for call in replay.replays)
    yield Shown(f"the same answer in {same} of {len(replay.replays)} calls of the {replay.role}", "bold")
    different = sum(not call.rebuilt.same for call in replay.replays)
    if different:
        yield Shown(f"{different} of them were not asked the same question, see the file", "yellow")
    for call_id, reason in replay.left_out.items():
        yield Shown(f"left out {call_id}: {one_line(reason)}", "dim")
    if replay.not_asked:
        yield Shown(
            f"{replay.not_asked} calls were not asked: a limit of llm.limits is reached; raise it by --set", "red"
        )


# ---------------------------------------------------------------- tables


def _table(rows: Sequence[tuple[str, str, str]], *, mark_differences: bool = False) -> Iterator[Shown]:
    """Yield rows of a name, the recorded and the replayed value, in columns under a heading."""
    # All columns but the last are as wide as their widest value.
    lines = [("", "recorded", "replayed"), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    for number, (name, old, new) in enumerate(lines):
        differs = mark_differences and old != new
        text = f"{name:<{widths[0]}}  {old:<{widths[1]}}  {new}"
        yield Shown(text, "dim" if number == 0 else "yellow" if differs else "")


def _facts(side: Side) -> dict[str, str]:
    """Describe one side of a call: what is shown of it → its text."""
    model = side.provider if side.model == side.provider else f"{side.provider} {side.model}"
    return {
        "answered by": one_line(model),
        "prompt": one_line(f"{side.prompt_id} {side.prompt_hash[:HASH]}"),
        "outcome": side.outcome,
        "valid": "yes" if side.valid else "no",
        "repair turns": str(side.repairs),
        "attempts": str(side.attempts),
        "tool calls": str(side.tool_calls),
        "tokens in": _count(side.input_tokens),
        "tokens out": _count(side.output_tokens),
        "cost": _usd(side.cost_usd),
        "latency": f"{side.latency_s:.2f} s",
    }


def _sums(sides: Sequence[Side]) -> dict[str, str]:
    """Describe one side of all calls: what is summed up → its text."""
    # Tokens are summed where they are known; a cost is unknown where any part of it is.
    tokens_in = [side.input_tokens for side in sides if side.input_tokens is not None]
    tokens_out = [side.output_tokens for side in sides if side.output_tokens is not None]
    costs = [side.cost_usd for side in sides if side.cost_usd is not None]
    return {
        "valid": f"{sum(side.valid for side in sides)} of {len(sides)}",
        "repair turns": str(sum(side.repairs for side in sides)),
        "tokens in": _count(sum(tokens_in) if tokens_in else None),
        "tokens out": _count(sum(tokens_out) if tokens_out else None),
        "cost": _usd(sum(costs) if len(costs) == len(sides) else None),
        "latency": f"{sum(side.latency_s for side in sides):.2f} s",
    }


def _count(number: int | None) -> str:
    return "not counted" if number is None else f"{number:,}"


def _usd(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}"
