"""A run as a list of moments: stage changes, diagnoses, races, verdicts, changes of the signal. The report shows it as
a timeline."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from ..rl.signals.signal import Signal
from .race_records import RaceRecord
from .races import arm_title, drops_in_words, is_promotion, outcome_in_words, winner_kind
from .records import KEPT_IN_CRITIC, OUT_OF_REWARD, DecisionRecord, SignalVersion
from .run_view import RunView

Kind = Literal["stage", "diagnosis", "race", "verdict", "promotion", "rollback", "control", "offset"]

KICK_ALONE = {"control": "the exploration kick alone"}  # the title of a promotion of the control


class TimelineEntry(NamedTuple):
    """A moment of a run."""

    steps: int  # main environment steps at which it happened
    kind: Kind
    text: str  # may hold words of a model or of a human: escape it in HTML


def timeline(view: RunView) -> list[TimelineEntry]:
    """Read the moments of a run, in the order in which they happened."""
    metrics, decisions = view.metrics(), view.decisions()
    steps_at = {row["update"]: int(row["steps"]) for row in metrics}
    titles = KICK_ALONE | {row.id: row.proposal.title for row in view.proposals()}
    races = {row.id: row for row in view.races()}
    # Moments by the update at which they happened: unlike main steps, updates never step back.
    moments: list[tuple[int, TimelineEntry]] = []

    # Changes of the stage; the first stage is where the run began, and no moment.
    stage = metrics[0]["stage"] if metrics else None
    for row in metrics:
        if row["stage"] != stage:
            moments.append((row["update"], TimelineEntry(row["steps"], "stage", f"{stage} → {row['stage']}")))
            stage = row["stage"]

    # What was found and decided stands at the main steps of its point; what a race decided, where it was over.
    for intervention in view.interventions():
        if intervention.diagnosis is not None:
            failures = [finding.failure.value.replace("_", " ") for finding in intervention.diagnosis.findings]
            steps = steps_at.get(intervention.point, 0)
            moments.append((intervention.point, TimelineEntry(steps, "diagnosis", ", ".join(failures))))

    for race in races.values():
        moments += _race(race)

    for decision in decisions:
        # The change itself tells of potentials that left.
        if decision.verdict != "rollback" and decision.shown_verdict != OUT_OF_REWARD:
            winner = f": {arm_title(decision.winner, titles)}" if decision.winner else ""
            update, steps = decision.point, steps_at.get(decision.point, decision.created_steps)
            if (ended := races.get(decision.id)) is not None and ended.detail.rungs:
                update, steps = ended.detail.rungs[-1].point, ended.detail.rungs[-1].steps_main
            text = f"{outcome_in_words(decision)}{winner}"
            text += f", because: {decision.detail.declined_because}" if decision.detail.declined_because else ""
            moments.append((update, TimelineEntry(steps, "verdict", text)))

    # The start of the log is no change.
    log = view.signals()
    signals = {row.version: row.signal for row in log}
    changes = [row for row in log if row.cause != "start"]
    moments += [(row.applied_update, _change(row, titles, decisions, races, signals)) for row in changes]
    order = get_args(Kind)
    return [moment for _, moment in sorted(moments, key=lambda found: (found[0], order.index(found[1].kind)))]


def _race(record: RaceRecord) -> list[tuple[int, TimelineEntry]]:
    """Tell a race: how it began, and of its rungs those at which an arm was dropped or confirmed."""
    detail = record.detail
    # The record ends with all that have joined; the others were waiting when it began.
    first = sum(arm.joined == 0 for arm in detail.arms)
    later = len(detail.arms) + len(detail.waiting) - first
    began = f"{first} arms race against the main line" if first != 1 else "1 arm races against the main line"
    began += f", {later} more when these are out" if later else ""
    moments = [(record.point, TimelineEntry(detail.fork_steps, "race", began))]
    for rung in detail.rungs:
        told = [
            f"policy of {proof.arm} {'better' if proof.proven else 'not proven better'}: {proof.explanation}"
            for proof in rung.proofs
        ]
        told += drops_in_words(rung.dropped)
        if told:
            text = f"rung {rung.number}: {'; '.join(told)}"
            moments.append((rung.point, TimelineEntry(rung.steps_main, "race", text)))
    return moments


def _change(
    row: SignalVersion,
    titles: dict[str, str],
    decisions: list[DecisionRecord],
    races: dict[str, RaceRecord],
    signals: dict[int, Signal],
) -> TimelineEntry:
    """Tell one line of the signal log; of a rollback with the monitor's arithmetic, where the loop has written it."""
    if row.cause == "rollback":
        text = f"v{row.base_version} is undone by v{row.version}"
        for decision in decisions:
            if decision.verdict == "rollback" and decision.version == row.version:
                title = arm_title(decision.winner or "", titles)
                text = f"v{decision.detail.undone} ({title}) is undone by v{row.version}: {decision.detail.reason}"
                break
        return TimelineEntry(row.applied_steps, "rollback", text)
    if row.cause == "control":
        text = f"v{row.version}: the control's state is the main line, the signal stays"
        return TimelineEntry(row.applied_steps, "control", text)
    terms = ", ".join(term.name for term in row.signal.terms) or "the sparse reward alone"
    brought = next((decision for decision in decisions if is_promotion(decision, row)), None)
    if row.cause == "offset":
        before = signals[row.base_version].terms if row.base_version in signals else ()
        left = ", ".join(term.name for term in before if term not in row.signal.terms)
        return TimelineEntry(row.applied_steps, "offset", f"v{row.version}: {left} {KEPT_IN_CRITIC}; in force: {terms}")
    if brought is not None and brought.detail.claim == "policy":
        arm = winner_kind(brought, races)
        text = f"policy adopted, of {arm}; with it v{row.version}, unproven: {terms}"
        return TimelineEntry(row.applied_steps, "promotion", text)
    taken = "with the winning branch's state" if row.adopt else "signal only"
    return TimelineEntry(row.applied_steps, "promotion", f"signal v{row.version} in force ({taken}): {terms}")
