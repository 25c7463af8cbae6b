"""Live progress of a run on a terminal: a run's events in, lines and a small panel out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..text import one_line
from . import events as e
from .timeline import KICK_ALONE

VERDICTS = ("no_difference", "not_informative", "insufficient_evidence", "no_candidate", "screened_out", "not_tried")
Style = Literal["", "cyan", "yellow", "bold green", "bold red", "dim"]
ANSWERS = {True: "yes", False: "no", None: "nobody answered before training was over"}


class Line(NamedTuple):
    """One line of the log; `text` may hold a model's words and is printed without markup and control characters."""

    steps: int
    label: str
    text: str
    style: Style = ""

    def plain(self) -> str:
        """Without the steps."""
        return f"{one_line(self.label):<10} {one_line(self.text)}"

    def rich(self) -> Text:
        line = Text(f"{self.steps:>11,}  ", style="dim")
        return line.append(self.plain(), style=self.style)


class Board:
    """Where the run stands, kept up to date by its events."""

    def __init__(self) -> None:
        self.progress: e.Progress | None = None
        self.doing = "starting"
        self.path = ""
        self._node = "observe"
        self._titles = dict(KICK_ALONE)
        self._versions = {0: "as the config says"}
        self._branches = 0

    def apply(self, event: e.Event) -> Iterator[Line]:
        """Take the event in; gives the lines that it is worth."""
        steps = self.progress.steps_main if self.progress else 0
        match event:
            case e.RunStarted():
                self.path = event.path
                yield Line(steps, "resumed" if event.resumed else "started", event.path)
                yield Line(steps, "provider", provider_in_words(event.provider))
                yield from _tracing(steps, event)
            case e.Progress():
                yield from self._moved(event)
            case e.NodeEntered():
                self._branches, self._node = 0, event.node
                self.doing = event.node.replace("_", " ") + (f", round {event.round + 1}" if event.round else "")
            case e.NodeLeft() if event.status == "error":
                yield Line(steps, event.node, f"{event.status}: {event.detail}", "yellow")
            case e.BranchFinished():
                self._branches += 1
                self.doing = f"validate: {self._branches} branches done, last {event.arm} {event.final_return:.2f}"
            case e.Diagnosed():
                yield Line(steps, "diagnosis", ", ".join(event.failures).replace("_", " "), "yellow")
            case e.TransitionsRanked():
                times = "once" if event.rounds == 1 else f"{event.rounds} times"
                yield Line(steps, "ranking", f"moves ranked {times} by {event.ranker}", "yellow")
            case e.ProposalMade():
                self._titles[event.id] = event.title
                refused = f" (refused: {event.problems[0]})" if event.problems else ""
                yield Line(steps, "proposal", f"{event.id} {event.title}{refused}", "dim" if refused else "")
            case e.Decided():
                reason, verdict = in_words(event.reason, event.verdict), event.verdict.replace("_", " ")
                if event.winner is None or not reason.startswith(event.winner):  # the gate's words name the winner
                    verdict += f" {event.winner}:" if event.winner else ":"
                yield Line(steps, "verdict", f"{verdict} {reason}")
            case e.ApprovalNeeded():
                self._titles[event.proposal] = event.title
                self.doing = f"waiting for an answer to {event.id}"
                yield from question_lines(steps, event, self.path)
            case e.ApprovalGiven():
                self.doing = "approve"
                yield Line(steps, "answer", f"{event.id}: {ANSWERS[event.yes]}", "cyan")
            case e.Promoted():
                promoted = f"v{event.version} {self._titles.get(event.proposal, event.proposal)}"
                self._versions[event.version] = promoted
                taken = "the winning branch's state" if event.adopted == "state" else "signal only"
                yield Line(steps, "promotion", f"{promoted} ({taken})", "bold green")
            case e.ControlKept():
                self._versions[event.version] = self._versions.get(event.version - 1, f"v{event.version - 1}")
                kept = f"its {event.steps:,} steps are the main run's own; v{event.version} rewards as before"
                yield Line(steps, "control", kept, "dim")
            case e.RolledBack():
                self._versions[event.version] = f"v{event.version}, as before v{event.undone}"
                title = self._titles.get(event.proposal, event.proposal)
                yield Line(steps, "rollback", f"v{event.undone} {title} is undone by v{event.version}", "bold red")
                yield Line(steps, "", event.reason)
            case e.SpansLost():
                words = f"{event.spans} spans did not reach {event.address}; is a collector listening there?"
                yield Line(steps, "tracing", words, "yellow")
            case e.RunFinished():
                self.doing = "finished"

    @property
    def signal(self) -> str:
        """The signal in force; by its title where its promotion was seen, so not after a resume."""
        version = self.progress.signal_version if self.progress else 0
        return self._versions.get(version, f"v{version}")

    def _moved(self, event: e.Progress) -> Iterator[Line]:
        before, self.progress = self.progress, event
        if self._node == "observe" and not event.waiting:
            self.doing = "training" if event.steps_main < event.steps_budget else "finishing, then the report"
        if before is not None and before.stage != event.stage:
            yield Line(event.steps_main, "stage", f"{before.stage} → {event.stage}", "cyan")


class Display(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, event: e.Event) -> None: ...
    def close(self, status: dict[str, Any]) -> None:
        """Say where it ended; `status` is what `cosignal status` prints."""
        ...


class LiveDisplay:
    """A bar and a small table at the bottom of a terminal, what happened above it."""

    def __init__(self, console: Console) -> None:
        self._board = Board()
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: e.Event) -> None:
        for line in self._board.apply(event):
            self._live.console.print(line.rich(), soft_wrap=True)  # so that a long command can be copied whole
        self._live.update(panel(self._board))

    def close(self, status: dict[str, Any]) -> None:
        self._live.console.print(ending(status), markup=False, highlight=False, soft_wrap=True)


class PlainDisplay:
    """Lines for a log file or a pipe: what happened, and where the run stands at each twentieth of its steps."""

    def __init__(self, console: Console) -> None:
        self._board = Board()
        self._console = console
        self._told = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: e.Event) -> None:
        for line in self._board.apply(event):
            self._print(line)
        if isinstance(event, e.Progress) and (twentieth := 20 * event.steps_main // event.steps_budget) > self._told:
            self._told = twentieth
            self._print(Line(event.steps_main, "progress", summary(event)))

    def close(self, status: dict[str, Any]) -> None:
        self._console.print(ending(status), markup=False, highlight=False, soft_wrap=True)

    def _print(self, line: Line) -> None:
        self._console.print(line.rich().plain, markup=False, highlight=False, soft_wrap=True)


def question_lines(steps: int, event: e.ApprovalNeeded, path: str) -> Iterator[Line]:
    """What a human needs to answer, and the command that answers."""
    taken = "its branch's state and signal" if event.adopted == "state" else "the signal alone"
    yield Line(steps, "question", f"{event.id}: promote {event.proposal} {event.title}?", "bold green")
    yield Line(steps, "", f"why: {event.reason}")
    yield Line(steps, "", f"gate: {event.gate}")
    for change in event.diff:
        yield Line(steps, "", f"signal: {change}")
    yield Line(steps, "", f"it would replace v{event.replaces}; taken over: {taken}")
    for option, words in (("--yes", "to promote it"), ("--no", "to decline it")):
        yield Line(steps, "answer", f"{words}: {approve_command(path, event.id, option)}", "cyan")


def approve_command(path: str, key: str, option: str) -> str:
    return shlex.join(["cosignal", "approve", path, key, option])


def _tracing(steps: int, event: e.RunStarted) -> Iterator[Line]:
    """Whether prompts leave the machine for a tracing service, where anybody asks for it."""
    if event.tracing:
        yield Line(steps, "tracing", "on: prompts go to the hosted service that the environment names", "yellow")
    elif event.tracing_ignored:
        asked = ", ".join(event.tracing_ignored)
        yield Line(steps, "tracing", f"off, though {asked} asks for it; llm.tracing: true would send prompts out")
    if event.spans_to is not None:
        content = "with prompts and answers" if event.spans_content else "without prompts and answers"
        yield Line(steps, "tracing", f"spans go to {event.spans_to}, {content}", "yellow")


def provider_in_words(provider: str) -> str:
    return f"{provider}: plain rules, no language model" if provider == "rules" else provider


def in_words(reason: str, verdict: str) -> str:
    """The gate's reason with its verdicts as words; `verdict` is the round's, arms may have others."""
    for name in (verdict, *VERDICTS):
        reason = reason.replace(name, name.replace("_", " "))
    return reason


def summary(progress: e.Progress) -> str:
    """The numbers of one moment in a line; an older evaluation with the main steps at which it was."""
    at = progress.evaluated_at
    older = "" if at is None or at == progress.steps_main else f" (at {at:,})"
    return (
        f"return {number(progress.sparse_return)}, success {percent(progress.success_rate)}{older}, "
        f"stage {progress.stage}, "
        f"signal v{progress.signal_version}, total steps {progress.steps_total:,}"
    )


def ending(status: dict[str, Any]) -> str:
    """The last words: how it ended, what it cost, where to read on."""
    lost = status.get("episodes_lost") or 0
    cut = f"{lost:,} episodes were lost to crashes, see trainer.log.jsonl\n" if lost else ""
    return (
        f"{status['state']}: sparse return {number(status['sparse_return'])}, "
        f"success {percent(status['success_rate'])}, {_promotions(status)}, "
        f"{status['steps_main']:,} main steps, {status['steps_total']:,} in all, {status['wall_s']:.0f} s\n{cut}"
        f"report: {Path(status['path']) / 'report.html'}"
    )


def _promotions(status: dict[str, Any]) -> str:
    counts = [_count(status[name], name[:-1]) for name in ("promotions", "rollbacks")]
    return ", ".join(counts[: 2 if status["rollbacks"] else 1])


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def panel(board: Board) -> RenderableType:
    """The bar over main steps, and the table below it."""
    now = board.progress
    if now is None:
        return Text(one_line(board.doing), style="dim")
    bar = Table.grid(padding=(0, 1))
    done = min(now.steps_main, now.steps_budget)
    bar.add_row(
        ProgressBar(total=now.steps_budget, completed=done, width=40), f"{done:,} of {now.steps_budget:,} steps"
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(min_width=12)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("sparse return", number(now.sparse_return), "success", percent(now.success_rate))
    table.add_row("stage", now.stage, "now", escape(one_line(board.doing)))
    table.add_row("total steps", f"{now.steps_total:,}", "signal", escape(one_line(board.signal)))
    return Group(bar, table)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:z.2f}"  # z: no minus before zero


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
