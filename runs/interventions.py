"""What each intervention tried, as the report shows it: proposals, their branches against the control, the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from markupsafe import Markup

from ..rl.signals.signal import Signal, describe_difference
from . import charts
from .store import RunView, steps_of

CONTROL = "control"
INTERVAL = 0.9
PHASES = ("screen", "full")  # from the point's own snapshot
SHOWN = (*PHASES, "confirm")  # from a later one, under the overlap clock
OF_MONITOR = "-rollback"  # how the ids of its decisions end
Row = dict[str, Any]


def interventions(view: RunView) -> list[Row]:
    """One entry an adaptation point at which the loop intervened, oldest first."""
    decisions = [row for row in view.decisions() if not row["id"].endswith(OF_MONITOR)]
    undone = {row["winner"] for row in view.decisions() if row["verdict"] == "rollback"}
    tables = {"proposals": view.proposals(), "branches": view.branches(), "decisions": decisions}
    diagnoses = {row["point"]: row for row in view.diagnoses()}
    rankings = {row["point"]: row for row in view.rankings()}
    steps_at = {row["update"]: row["steps"] for row in view.metrics()}
    points = sorted(diagnoses.keys() | {row["point"] for rows in tables.values() for row in rows})
    return [
        {
            "point": point,
            "steps": steps_at.get(point),
            "diagnosis": diagnoses[point]["diagnosis"] if point in diagnoses else None,
            "rounds": _rounds(point, tables, _in_force(view.signals(), point), undone),
            "ranking": rankings.get(point),
            "branch_steps": sum(steps_of(row) for row in tables["branches"] if row["point"] == point),
        }
        for point in points
    ]


def _in_force(signals: Sequence[Row], point: int) -> Signal:
    """The signal that the proposals of this point were tried against: what changed at the point itself came of them."""
    before = [row for row in signals if row["applied_update"] < point or row["version"] == 0]
    return Signal.model_validate(before[-1]["signal"]) if before else Signal()


def _rounds(point: int, tables: dict[str, list[Row]], in_force: Signal, undone: set[str]) -> list[Row]:
    here = {name: [row for row in rows if row["point"] == point] for name, rows in tables.items()}
    numbers = sorted({row["round"] for rows in (here["proposals"], here["decisions"]) for row in rows})
    return [_round(number, here, in_force, undone) for number in numbers]


def _round(number: int, here: dict[str, list[Row]], in_force: Signal, undone: set[str]) -> Row:
    decision = next((row for row in here["decisions"] if row["round"] == number), None)
    detail = _detail(decision)
    judgements = {row["arm"]: row for row in detail.get("judgements", [])}
    screened = {row["arm"]: row for row in detail.get("screened", [])}
    proposals = [row for row in here["proposals"] if row["round"] == number]
    control = _control(here["branches"], proposals)
    values = _value_range(here["branches"])
    shown = [
        _proposal(row, here["branches"], control, in_force, values)
        | {"judgement": judgements.get(row["id"]), "screening": screened.get(row["id"])}
        for row in proposals
    ]
    winner = decision["winner"] if decision else None
    shown = [row | {"verdict": _end(row, decision, undone) or _verdict(row)} for row in shown]
    return {
        "number": number,
        "decision": decision,
        "reason": detail.get("reason", ""),
        "proposals": shown,
        "dots": _dots(shown, control, winner),
        "confirmation": detail.get("confirmation"),
        "kept_control": detail.get("kept_control"),
    }


def _value_range(branches: Sequence[Row]) -> tuple[float, float]:
    """One range for every chart of a point, so that they can be compared at a glance."""
    results = [row["result"] for row in branches if row["phase"] in PHASES]
    return charts.padded([r["final_return"] for r in results] + [y for r in results for _, y, _ in r["curve"]])


def _detail(decision: Row | None) -> Row:
    detail = decision["detail"] if decision else None
    return detail if isinstance(detail, dict) else {}


def _control(branches: Sequence[Row], proposals: Sequence[Row]) -> list[Row]:
    """The control's branches under the exploration that this round's arms got; a later round may share an earlier
    one's, since equal branches are run once."""
    arms = {row["id"] for row in proposals}
    given = [row["job"].get("exploration") for row in branches if row["arm"] in arms and row["phase"] in SHOWN]
    control = [row for row in branches if row["arm"] == CONTROL and row["phase"] in SHOWN]
    return [row for row in control if row["job"].get("exploration") in given]


def _proposal(
    row: Row, branches: Sequence[Row], control: list[Row], in_force: Signal, values: tuple[float, float]
) -> Row:
    own = [branch for branch in branches if branch["arm"] == row["id"] and branch["phase"] in SHOWN]
    proposed = Signal.model_validate(row["signal"])
    return {
        **row["proposal"],
        "id": row["id"],
        "rank": row["rank"],
        "problems": row["problems"],
        "notes": row["notes"],
        "diff": [diff_line(line) for line in describe_difference(in_force, proposed)],
        "phases": [found for phase in SHOWN if (found := _compare(phase, own, control))],
        "finals": list(_finals(own).values()),
        "chart": _chart(row["id"], own, control, values),
    }


def _end(proposal: Row, decision: Row | None, undone: set[str]) -> str | None:
    """What became of the winner: the gate's acceptance may be overturned, and a promotion rolled back."""
    if proposal["id"] in undone:
        return "rolled_back"
    return str(decision["verdict"]) if decision and decision["winner"] == proposal["id"] else None


def _verdict(proposal: Row) -> str:
    """The gate's where it judged, else why it did not; `screened` while the round is not decided yet."""
    if proposal["problems"]:
        return "refused"
    record = proposal["judgement"] or proposal["screening"]
    if record is not None:
        return str(record["verdict"])
    return "screened" if proposal["finals"] else "not_tried"


def _compare(phase: str, own: Sequence[Row], control: Sequence[Row]) -> Row | None:
    """Final return of both arms at one horizon, paired by seed, with a 90 % interval of the gain by Student's t."""
    mine = {row["seed"]: row["result"] for row in own if row["phase"] == phase}
    base = {row["seed"]: row["result"] for row in control if row["phase"] == phase}
    seeds = sorted(mine.keys() & base.keys())
    if not seeds:
        return None
    gains = [mine[seed]["final_return"] - base[seed]["final_return"] for seed in seeds]
    return {
        "phase": phase,
        "horizon": max(mine[seed]["horizon"] for seed in seeds),
        "seeds": len(seeds),
        "candidate": fmean(mine[seed]["final_return"] for seed in seeds),
        "control": fmean(base[seed]["final_return"] for seed in seeds),
        "success": _mean([mine[seed]["success_rate"] for seed in seeds]),
        "gain": fmean(gains),
        "interval": _interval(gains),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _interval(gains: Sequence[float]) -> tuple[float, float] | None:
    """Two-sided, by Student's t over seeds; None for a single seed, which has no spread."""
    if len(gains) < 2:
        return None
    from scipy import stats

    reach = float(stats.t.ppf(0.5 + INTERVAL / 2, len(gains) - 1)) * stdev(gains) / math.sqrt(len(gains))
    return (fmean(gains) - reach, fmean(gains) + reach)


def _from_point(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["phase"] in PHASES]


def _finals(rows: Sequence[Row]) -> dict[int, float]:
    """Seed → final return at the longest horizon that the seed was run to from the point's snapshot."""
    ordered = sorted(_from_point(rows), key=lambda row: row["horizon"])
    return {row["seed"]: row["result"]["final_return"] for row in ordered}


def _curves(rows: Sequence[Row]) -> list[charts.Branch]:
    """One curve a seed, of its longest branch from the point's snapshot."""
    longest = {row["seed"]: row for row in sorted(_from_point(rows), key=lambda row: row["horizon"])}
    return [
        charts.Branch(
            [(steps, value) for steps, value, _ in row["result"]["curve"]],
            (row["horizon"], row["result"]["final_return"]),
        )
        for row in longest.values()
    ]


def _chart(arm: str, own: Sequence[Row], control: Sequence[Row], values: tuple[float, float]) -> Markup | None:
    if not own:
        return None
    label = f"Sparse return of the branches of {arm} (solid) and of the control (dashed) over steps since the fork"
    return Markup(charts.curves(_curves(control), _curves(own), values, label))


def _dots(proposals: Sequence[Row], control: Sequence[Row], winner: str | None) -> Markup | None:
    tried = [row for row in proposals if row["finals"]]
    if not tried:
        return None
    arms = [charts.Arm("control", list(_finals(control).values()), "control")]
    arms += [charts.Arm(row["id"], row["finals"], "winner" if row["id"] == winner else "candidate") for row in tried]
    values = charts.padded([value for arm in arms for value in arm.finals])
    return Markup(charts.dots(arms, values, "Final sparse return of every branch, one dot a seed, a bar at the mean"))


def diff_line(line: str) -> Row:
    """A line of a readable diff with its CSS class."""
    kinds = {"+": "enters", "-": "leaves", "~": "changes"}
    return {"kind": kinds.get(line[:1], "same"), "text": line}
