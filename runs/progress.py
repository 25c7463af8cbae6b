"""Live progress of a run on a terminal: a run's events in, lines and a small panel out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..graphs import events as e
from .story import KICK_ALONE
from .terminal import one_line

VERDICTS = ("no_difference", "not_informative", "insufficient_evidence", "no_candidate", "screened_out", "not_tried")
Style = Literal["", "cyan", "yellow", "bold green", "dim"]


class Line(NamedTuple):
    """One line of the log; `text` may hold a model's words and is printed without markup and control characters."""

    steps: int
    label: str
    text: str
    style: Style = ""

    def rich(self) -> Text:
        line = Text(f"{self.steps:>11,}  ", style="dim")
        return line.append(f"{one_line(self.label):<10} {one_line(self.text)}", style=self.style)


class Board:
    """Where the run stands, kept up to date by its events."""

    def __init__(self) -> None:
        self.progress: e.Progress | None = None
        self.doing = "starting"
        self.path = ""
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
            case e.Progress():
                yield from self._moved(event)
            case e.NodeEntered():
                self._branches = 0
                self.doing = event.node.replace("_", " ") + (f", round {event.round + 1}" if event.round else "")
            case e.NodeLeft() if event.status != "ok":
                yield Line(steps, event.node, f"{event.status}: {event.detail}", "yellow")
            case e.BranchFinished():
                self._branches += 1
                self.doing = f"validate: {self._branches} branches done, last {event.arm} {event.final_return:.2f}"
            case e.Diagnosed():
                yield Line(steps, "diagnosis", ", ".join(event.failures).replace("_", " "), "yellow")
            case e.ProposalMade():
                self._titles[event.id] = event.title
                refused = f" (refused: {event.problems[0]})" if event.problems else ""
                yield Line(steps, "proposal", f"{event.id} {event.title}{refused}", "dim" if refused else "")
            case e.Decided():
                winner = f" {event.winner}" if event.winner else ""
                verdict = event.verdict.replace("_", " ")
                yield Line(steps, "verdict", f"{verdict}{winner}: {in_words(event.reason, event.verdict)}")
            case e.Promoted():
                promoted = f"v{event.version} {self._titles.get(event.proposal, event.proposal)}"
                self._versions[event.version] = promoted
                taken = "the winning branch's state" if event.adopted == "state" else "signal only"
                yield Line(steps, "promotion", f"{promoted} ({taken})", "bold green")
            case e.RunFinished():
                self.doing = "finished"

    @property
    def signal(self) -> str:
        """The signal in force; by its title where its promotion was seen, so not after a resume."""
        version = self.progress.signal_version if self.progress else 0
        return self._versions.get(version, f"v{version}")

    def _moved(self, event: e.Progress) -> Iterator[Line]:
        before, self.progress = self.progress, event
        if not event.waiting:
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
            self._live.console.print(line.rich())
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


def provider_in_words(provider: str) -> str:
    return f"{provider}: plain rules, no language model" if provider == "rules" else provider


def in_words(reason: str, verdict: str) -> str:
    """The gate's reason with its verdicts as words; `verdict` is the round's, arms may have others."""
    for name in (verdict, *VERDICTS):
        reason = reason.replace(name, name.replace("_", " "))
    return reason


def summary(progress: e.Progress) -> str:
    """The numbers of one moment in a line."""
    return (
        f"return {number(progress.sparse_return)}, success {percent(progress.success_rate)}, stage {progress.stage}, "
        f"signal v{progress.signal_version}, total steps {progress.steps_total:,}"
    )


def ending(status: dict[str, Any]) -> str:
    """The last words: how it ended, what it cost, where to read on."""
    return (
        f"{status['state']}: sparse return {number(status['sparse_return'])}, "
        f"success {percent(status['success_rate'])}, {_promotions(status['promotions'])}, "
        f"{status['steps_main']:,} main steps, {status['steps_total']:,} in all, {status['wall_s']:.0f} s\n"
        f"report: {Path(status['path']) / 'report.html'}"
    )


def _promotions(count: int) -> str:
    return f"{count} promotion{'' if count == 1 else 's'}"


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
