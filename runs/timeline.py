"""A run as a list of moments: stage changes, diagnoses, verdicts, changes of the signal. The report shows it as a
timeline."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from .records import DecisionRecord, SignalVersion
from .store import RunView

Kind = Literal["stage", "diagnosis", "verdict", "promotion", "rollback", "control"]

KICK_ALONE = {"control": "the exploration kick alone"}  # the title of a promotion of the control


class TimelineEntry(NamedTuple):
    """A moment of a run."""

    steps: int  # main environment steps at which it happened
    kind: Kind
    text: str  # may hold a model's words: escape it in HTML


def timeline(view: RunView) -> list[TimelineEntry]:
    """Read the moments of a run, in the order in which they happened."""
    metrics, decisions = view.metrics(), view.decisions()
    steps_at = {row["update"]: int(row["steps"]) for row in metrics}
    titles = KICK_ALONE | {row.id: row.proposal.title for row in view.proposals()}
    moments: list[TimelineEntry] = []

    # Changes of the stage; the first stage is where the run began, and no moment.
    stage = metrics[0]["stage"] if metrics else None
    for row in metrics:
        if row["stage"] != stage:
            moments.append(TimelineEntry(row["steps"], "stage", f"{stage} → {row['stage']}"))
            stage = row["stage"]

    # What was found and decided stands at the main steps of its point.
    for intervention in view.interventions():
        if intervention.diagnosis is not None:
            failures = [finding.failure.value.replace("_", " ") for finding in intervention.diagnosis.findings]
            moments.append(TimelineEntry(steps_at.get(intervention.point, 0), "diagnosis", ", ".join(failures)))

    for decision in decisions:
        if decision.verdict != "rollback":
            winner = f": {titles.get(decision.winner, decision.winner)}" if decision.winner else ""
            steps = steps_at.get(decision.point, decision.created_steps)
            moments.append(TimelineEntry(steps, "verdict", f"{decision.verdict.replace('_', ' ')}{winner}"))

    # The start of the log is no change.
    moments += [_change(version, titles, decisions) for version in view.signals() if version.cause != "start"]
    order = get_args(Kind)
    return sorted(moments, key=lambda moment: (moment.steps, order.index(moment.kind)))


def _change(row: SignalVersion, titles: dict[str, str], decisions: list[DecisionRecord]) -> TimelineEntry:
    """Tell one line of the signal log; of a rollback with the monitor's arithmetic, where the loop has written it."""
    if row.cause == "rollback":
        text = f"v{row.base_version} is undone by v{row.version}"
        for decision in decisions:
            if decision.verdict == "rollback" and decision.version == row.version:
                title = titles.get(decision.winner or "", decision.winner)
                text = f"v{decision.detail.undone} ({title}) is undone by v{row.version}: {decision.detail.reason}"
                break
        return TimelineEntry(row.applied_steps, "rollback", text)
    if row.cause == "control":
        text = f"v{row.version}: the control's state is the main line, the signal stays"
        return TimelineEntry(row.applied_steps, "control", text)
    terms = ", ".join(term.name for term in row.signal.terms) or "the sparse reward alone"
    taken = "with the winning branch's state" if row.adopt else "signal only"
    return TimelineEntry(row.applied_steps, "promotion", f"signal v{row.version} in force ({taken}): {terms}")
