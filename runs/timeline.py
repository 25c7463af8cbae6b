"""A run as a list of moments: stage changes, diagnoses, verdicts, changes of the signal. The report shows it as a
timeline."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from .store import RunView

Kind = Literal["stage", "diagnosis", "verdict", "promotion", "rollback", "control"]
Row = dict[str, Any]


KICK_ALONE = {"control": "the exploration kick alone"}  # what a promotion of the control is called


class TimelineEntry(NamedTuple):
    """`steps`: main environment steps at which it happened. `text` may hold a model's words: escape it in HTML."""

    steps: int
    kind: Kind
    text: str


def timeline(view: RunView) -> list[TimelineEntry]:
    """Stage changes, diagnoses, verdicts and changes of the signal, in the order in which they happened."""
    metrics, decisions = view.metrics(), view.decisions()
    steps_at = {row["update"]: row["steps"] for row in metrics}
    titles = KICK_ALONE | {row["id"]: str(row["proposal"]["title"]) for row in view.proposals()}
    moments = [
        *_stages(metrics),
        *(_diagnosis(row, steps_at) for row in view.diagnoses()),
        *(_verdict(row, titles, steps_at) for row in decisions if row["verdict"] != "rollback"),
        *(_change(row, titles, decisions) for row in view.signals() if row["cause"] != "start"),
    ]
    order = get_args(Kind)
    return sorted(moments, key=lambda moment: (moment.steps, order.index(moment.kind)))


def _stages(metrics: list[Row]) -> list[TimelineEntry]:
    changes: list[TimelineEntry] = []
    stage = metrics[0]["stage"] if metrics else None
    for row in metrics:
        if row["stage"] != stage:
            changes.append(TimelineEntry(row["steps"], "stage", f"{stage} → {row['stage']}"))
            stage = row["stage"]
    return changes


def _diagnosis(row: Row, steps_at: dict[int, int]) -> TimelineEntry:
    failures = [str(finding["failure"]).replace("_", " ") for finding in row["diagnosis"]["findings"]]
    return TimelineEntry(steps_at.get(row["point"], 0), "diagnosis", ", ".join(failures))


def _verdict(row: Row, titles: dict[str, str], steps_at: dict[int, int]) -> TimelineEntry:
    verdict = str(row["verdict"]).replace("_", " ")
    winner = f": {titles.get(row['winner'], row['winner'])}" if row["winner"] else ""
    return TimelineEntry(steps_at.get(row["point"], row["created_steps"] or 0), "verdict", f"{verdict}{winner}")


# ---------------------------------------------------------------- changes of the signal


def _change(row: Row, titles: dict[str, str], decisions: list[Row]) -> TimelineEntry:
    """One line of the signal log."""
    if row["cause"] == "rollback":
        return TimelineEntry(row["applied_steps"], "rollback", _rollback(row, titles, decisions))
    if row["cause"] == "control":
        kept = f"v{row['version']}: the control's state is the main line, the signal stays"
        return TimelineEntry(row["applied_steps"], "control", kept)
    terms = ", ".join(str(term["name"]) for term in row["signal"]["terms"]) or "the sparse reward alone"
    taken = "with the winning branch's state" if row["adopt"] else "signal only"
    return TimelineEntry(row["applied_steps"], "promotion", f"signal v{row['version']} in force ({taken}): {terms}")


def _rollback(row: Row, titles: dict[str, str], decisions: list[Row]) -> str:
    """What was undone, and the monitor's arithmetic where the loop has written it down."""
    told = [found for found in decisions if found["verdict"] == "rollback" and found["version"] == row["version"]]
    if not told:
        return f"v{row['base_version']} is undone by v{row['version']}"
    detail = told[0]["detail"]
    title = titles.get(told[0]["winner"], told[0]["winner"])
    return f"v{detail['undone']} ({title}) is undone by v{row['version']}: {detail['reason']}"
