"""The live progress of a run on a terminal: its events become lines of a log, and a small panel below them."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..rl.signals.learned.fit import SignalFit
from ..text import one_line
from . import events
from .events import GIVEN_SIGNALS, Event, Progress
from .races import arm_title, drops_in_words
from .records import KEPT_IN_CRITIC
from .timeline import KICK_ALONE

VERDICTS = (
    "no_difference", "not_informative", "insufficient_evidence", "no_candidate", "screened_out", "not_tried",
    "branch_failed",
)  # fmt: skip
ANSWERS = {True: "yes", False: "no", None: "nobody answered before training was over"}
LINES_PER_RUN = 20  # how often a log without a panel tells where the run stands

Style = Literal["", "cyan", "yellow", "bold green", "bold red", "dim"]


# ---------------------------------------------------------------- displays


class Display(ABC):
    """Shows the events of one run on a console, from entering the context to leaving it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tracker = Tracker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def show(self, event: Event) -> None:
        """Take the next event in, and show what it changes."""

    def close(self, status: dict[str, Any]) -> None:
        """Print how the run ended; `status` is what `cosignal status` prints."""
        self.console.print(ending(status), markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(Display):
    """A log on a terminal, with a progress bar and a small table that stay at its bottom."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        for line in self.tracker.apply(event):
            self.console.print(line.rich(), soft_wrap=True)  # so that a long command can be copied whole
        self._live.update(panel(self.tracker))


class PlainDisplay(Display):
    """Lines for a file or a pipe: what happened, and where the run stands at each twentieth of its steps."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last_part = -1

    def show(self, event: Event) -> None:
        lines = list(self.tracker.apply(event))
        if isinstance(event, Progress):
            part = LINES_PER_RUN * event.steps_main // event.steps_budget
            if part != self._last_part:  # less where the run went on from a younger state
                self._last_part = part
                lines.append(Line(event.steps_main, "progress", summary(event)))
        for line in lines:
            self.console.print(line.rich().plain, markup=False, highlight=False, soft_wrap=True)


# ---------------------------------------------------------------- from events to lines


class Line(NamedTuple):
    """One line of the log; `text` may come from a model and is printed without markup and control characters."""

    steps: int
    label: str
    text: str
    style: Style = ""

    def plain(self) -> str:
        """Return label and text, without the steps."""
        return f"{one_line(self.label):<10} {one_line(self.text)}"

    def rich(self) -> Text:
        """Return the whole line for a rich console."""
        line = Text(f"{self.steps:>11,}  ", style="dim")
        return line.append(self.plain(), style=self.style)


class Tracker:
    """Follows a run by its events: what it is doing, and what it is worth a line in the log.

    Attributes:
        progress: the last `Progress`, None before the first one.
        activity: what the run is doing, in a few words.
        path: the run directory.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.activity = "starting"
        self.path = ""
        self._node = "observe"
        self._titles = dict(KICK_ALONE)  # id of a proposal → its title
        self._better: set[str] = set()  # arms of races whose policy was proven better
        self._versions = {0: "as the config says"}  # version of the signal → what it is called
        self._branches = 0  # finished since the node was entered

    @property
    def signal(self) -> str:
        """The signal in force; by its title where its promotion was seen, so not after a resume."""
        version = self.progress.signal_version if self.progress else 0
        return self._versions.get(version, f"v{version}")

    def apply(self, event: Event) -> Iterator[Line]:
        """Take the event in, and yield the lines to log. The state changes only as these are consumed."""
        steps = self.progress.steps_main if self.progress else 0
        match event:
            case events.RunStarted():
                self.path = event.path
                yield Line(steps, "resumed" if event.resumed else "started", event.path)
                for key, (before, now) in event.changes.items():
                    yield Line(steps, "changed", f"{key}: {before!r} → {now!r}", "yellow")
                for note in event.notes:
                    yield Line(steps, "note", note, "yellow")
                yield Line(steps, "provider", provider_in_words(event.provider))
                yield from _tracing(steps, event)
            case Progress():
                before, self.progress = self.progress, event
                # Under the overlap clock training goes on while other nodes work; then what they do is shown.
                if self._node == "observe" and not event.waiting:
                    training = event.steps_main < event.steps_budget
                    self.activity = "training" if training else "finishing, then the report"
                if before is not None and before.stage != event.stage:
                    yield Line(event.steps_main, "stage", f"{before.stage} → {event.stage}", "cyan")
            case events.NodeEntered():
                # Branches are counted anew for every node.
                self._branches, self._node = 0, event.node
                self.activity = event.node.replace("_", " ") + (f", round {event.round + 1}" if event.round else "")
            # A node that ends well says so by the events of what it did.
            case events.NodeLeft() if event.status == "error":
                yield Line(steps, event.node, f"{event.status}: {event.detail}", "yellow")
            case events.BranchFinished():
                self._branches += 1
                last = f"{event.arm} {event.final_return:.2f}"
                node = "race" if event.phase == "race" else "validate"
                self.activity = f"{node}: {self._branches} branches done, last {last}"
            case events.BranchFailed():
                text = f"{event.phase} branch of {event.arm}, seed {event.seed}, could not be run: {event.reason}"
                yield Line(steps, "failed", text, "yellow")
            case events.RungFinished():
                self.activity = f"race: rung {event.rung} done"
                yield Line(event.steps_main, "race", rung_line(event))
            case events.PolicyConfirmed():
                if event.proven:
                    self._better.add(event.arm)
                yield Line(steps, "policy", proof_line(event), "cyan")
            case events.Warned():
                yield Line(steps, "warning", event.message, "yellow")
            case events.Diagnosed():
                yield Line(steps, "diagnosis", ", ".join(event.failures).replace("_", " "), "yellow")
            case events.TransitionsRanked():
                times = "once" if event.rounds == 1 else f"{event.rounds} times"
                yield Line(steps, "ranking", f"moves ranked {times} by {event.ranker}", "yellow")
            case events.SignalFitted():
                found = event.detail["problem"] or SignalFit.model_validate(event.detail).figure()
                yield Line(steps, "fit", f"{event.what.replace('_', ' ')}: {found}", "yellow")
            case events.ProposalMade():
                # The title is shown again when the proposal is promoted or undone.
                self._titles[event.id] = event.title
                refused = f" (refused: {event.problems[0]})" if event.problems else ""
                yield Line(steps, "proposal", f"{event.id} {event.title}{refused}", "dim" if refused else "")
            case events.Decided() if event.claim == "offset" and event.verdict == "accept":
                yield Line(steps, "offset", event.reason)
            case events.Decided():
                reason, verdict = in_words(event.reason, event.verdict), event.verdict.replace("_", " ")
                if event.verdict == "accept" and (event.claim == "policy" or event.winner in self._better):
                    verdict = "better policy"  # no word of its signal
                # The gate's explanation begins with the winner's id.
                if event.winner is None or not reason.startswith(event.winner):
                    verdict += f" {event.winner}:" if event.winner else ":"
                yield Line(steps, "verdict", f"{verdict} {reason}")
            case events.ApprovalNeeded():
                self._titles[event.proposal] = event.title
                self.activity = f"waiting for an answer to {event.id}"
                yield from question_lines(steps, event, self.path, policy=event.proposal in self._better)
            case events.ApprovalGiven():
                self.activity = "approve"
                because = f", because: {event.because}" if event.because else ""
                yield Line(steps, "answer", f"{event.id}: {ANSWERS[event.yes]}{because}", "cyan")
            case events.Promoted():
                signal = f"v{event.version} {arm_title(event.proposal, self._titles)}"
                self._versions[event.version] = signal
                if event.claim == "offset":
                    yield Line(steps, "offset", f"{signal}: {KEPT_IN_CRITIC}", "cyan")
                elif event.claim == "policy" or event.proposal in self._better:
                    text = f"{signal} (the policy of {event.proposal}; nothing is proven of its signal)"
                    yield Line(steps, "adoption", text, "bold green")
                else:
                    adopted = "the winning branch's state" if event.adopted == "state" else "signal only"
                    yield Line(steps, "promotion", f"{signal} ({adopted})", "bold green")
            case events.ControlKept():
                # The new version rewards as the one before, so it is called the same.
                self._versions[event.version] = self._versions.get(event.version - 1, f"v{event.version - 1}")
                text = f"its {event.steps:,} steps are the main run's own; v{event.version} rewards as before"
                yield Line(steps, "control", text, "dim")
            case events.RolledBack():
                self._versions[event.version] = f"v{event.version}, as before v{event.undone}"
                title = arm_title(event.proposal, self._titles)
                yield Line(steps, "rollback", f"v{event.undone} {title} is undone by v{event.version}", "bold red")
                yield Line(steps, "", event.reason)
            case events.SpansLost():
                text = f"{event.spans} spans did not reach {event.address}; is a collector listening there?"
                yield Line(steps, "tracing", text, "yellow")
            case events.RunFinished():
                self.activity = "finished"


def rung_line(event: events.RungFinished) -> str:
    """Tell a rung in a line: the main line, then the arms from the best to the worst, then who is dropped and why."""
    arms = sorted(event.arms.items(), key=lambda arm: -arm[1])
    told = f"rung {event.rung}: main line {number(event.control)}"
    told += "".join(f", {name} {number(mean)}" for name, mean in arms)
    return "; ".join([told, *drops_in_words(event.dropped)])


def proof_line(event: events.PolicyConfirmed) -> str:
    """Tell a confirmation in a line. It is about the arm's policy, not about its signal."""
    bound = "no bound" if event.lower is None else f"lower bound {event.lower:+.3f}"
    return (
        f"{event.arm} after rung {event.rung}: gain {event.gain:+.3f}, {bound} at level {event.level:.3g}, "
        f"margin {event.margin:g}: {'better than the main line' if event.proven else 'not proven'}"
    )


def question_lines(steps: int, event: events.ApprovalNeeded, path: str, policy: bool = False) -> Iterator[Line]:
    """Yield what a human needs to know to answer, and the commands that answer. `policy`: a policy is to be adopted."""
    asks = "adopt the policy of" if policy else "promote"
    title = event.title or arm_title(event.proposal, {})
    adopted = "its branch's state and signal" if event.adopted == "state" else "the signal alone"
    yield Line(steps, "question", f"{event.id}: {asks} {event.proposal} {title}?", "bold green")
    yield Line(steps, "", f"why: {event.reason}")
    yield Line(steps, "", f"{'race' if policy else 'gate'}: {event.gate}")
    for change in event.diff:
        yield Line(steps, "", f"signal: {change}")
    yield Line(steps, "", f"it would replace v{event.replaces}; taken over: {adopted}")
    for option, purpose in (("--yes", "to promote it"), ("--no", "to decline it")):
        yield Line(steps, "answer", f"{purpose}: {approve_command(path, event.id, option)}", "cyan")
    yield Line(steps, "", 'who declines may say why, and later prompts show it: --no --because "TEXT"')


def _tracing(steps: int, event: events.RunStarted) -> Iterator[Line]:
    """Say whether prompts leave the machine for a tracing service, where anybody asks for it."""
    if event.tracing:
        yield Line(steps, "tracing", "on: prompts go to the hosted service that the environment names", "yellow")
    elif event.tracing_ignored:
        names = ", ".join(event.tracing_ignored)
        yield Line(steps, "tracing", f"off, though {names} asks for it; llm.tracing: true would send prompts out")
    if event.spans_to is not None:
        content = "with prompts and answers" if event.spans_content else "without prompts and answers"
        yield Line(steps, "tracing", f"spans go to {event.spans_to}, {content}", "yellow")


# ---------------------------------------------------------------- words and numbers


def approve_command(path: str, promotion: str, option: str) -> str:
    """Return the shell command that answers; `option` is --yes or --no."""
    return shlex.join(["cosignal", "approve", path, promotion, option])


def provider_in_words(provider: str) -> str:
    """Name who answers for the roles, and say so where it is no language model."""
    if provider == GIVEN_SIGNALS:
        return f"{provider}: those of the config, no model and no rules"
    return f"{provider}: plain rules, no language model" if provider == "rules" else provider


def in_words(reason: str, verdict: str) -> str:
    """Return the gate's reason with its verdicts in words; `verdict` is the round's, arms may have others."""
    for name in (verdict, *VERDICTS):
        reason = reason.replace(name, name.replace("_", " "))
    return reason


def summary(progress: Progress) -> str:
    """Return the numbers of one moment in a line; an older evaluation with the main steps at which it was."""
    at = progress.evaluated_at
    older = "" if at is None or at == progress.steps_main else f" (at {at:,})"
    return (
        f"return {number(progress.sparse_return)}, success {percent(progress.success_rate)}{older}, "
        f"stage {progress.stage}, signal v{progress.signal_version}, total steps {progress.steps_total:,}"
    )


def ending(status: dict[str, Any]) -> str:
    """Return the last lines: how the run ended, what it cost, and where its report is."""
    lost = status.get("episodes_lost") or 0
    notes = [f"{lost:,} episodes were lost to crashes, see trainer.log.jsonl\n"] if lost else []
    if failed := status.get("branches_lost") or 0:
        branches = "branch" if failed == 1 else "branches"
        notes.append(f"{failed:,} {branches} could not be run, the report says why\n")
    notes += [f"warning: {one_line(warning)}\n" for warning in status.get("warnings") or []]
    changes = [
        f"{status[name]} {name[:-1] if status[name] == 1 else name}"
        for name in ("promotions", "rollbacks")
        if name == "promotions" or status[name]
    ]
    return (
        f"{status['state']}: sparse return {number(status['sparse_return'])}, "
        f"success {percent(status['success_rate'])}, {', '.join(changes)}, "
        f"{status['steps_main']:,} main steps, {status['steps_total']:,} in all, {status['wall_s']:.0f} s\n"
        f"{''.join(notes)}report: {Path(status['path']) / 'report.html'}"
    )


def panel(tracker: Tracker) -> RenderableType:
    """Draw the bar over main steps, and the table below it."""
    now = tracker.progress
    # Before the first numbers there is only what the run is doing.
    if now is None:
        return Text(one_line(tracker.activity), style="dim")
    bar = Table.grid(padding=(0, 1))
    done = min(now.steps_main, now.steps_budget)  # the last update may go beyond the budget
    bar.add_row(
        ProgressBar(total=now.steps_budget, completed=done, width=40), f"{done:,} of {now.steps_budget:,} steps"
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(min_width=12)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("sparse return", number(now.sparse_return), "success", percent(now.success_rate))
    table.add_row("stage", now.stage, "now", escape(one_line(tracker.activity)))
    table.add_row("total steps", f"{now.steps_total:,}", "signal", escape(one_line(tracker.signal)))
    return Group(bar, table)


def number(value: float | None) -> str:
    """Write a return with two digits; a dash where there is none."""
    return "–" if value is None else f"{value:z.2f}"  # z: no minus before zero


def percent(value: float | None) -> str:
    """Write a share as a whole percentage; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"
