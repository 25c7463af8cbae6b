"""`report.html`: one self-contained page about a run.

It asks nothing of the network, and everything that came from a model is escaped by the template. The pages of
`cosignal view` show the same data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ApprovalError
from ..files import write_whole, writing
from ..rl.ipc.messages import Cause
from ..rl.signals.signal import Signal, describe_difference, describe_signal
from ..text import cut
from . import graph_picture
from .approvals import given_answer
from .graph_picture import Topology
from .interventions import DiffLine, interventions
from .progress import approve_command, number, percent, provider_in_words
from .race_records import RaceRecord
from .races import arm_title, gain_over_kick, is_promotion, outcome_in_words, winner_kind
from .records import KEPT_IN_CRITIC, OUT_OF_REWARD, DecisionRecord
from .run_view import RunState, RunView
from .scorer_record import scorer_record
from .timeline import timeline
from .trust import plain
from .visits import node_visits

ASSETS = Path(__file__).with_name("assets")
MARKED = ("promotion", "rollback")  # what the curves show of the signal log
TAKEN: dict[Cause, str] = {  # what came with a version that is no promotion
    "rollback": "policy and signal of before the promotion came back",
    "control": "the control's state became the main line, the signal stayed",
    "offset": f"what left is {KEPT_IN_CRITIC}: no advantage changed",
}
LONGEST_TEXT = 200_000  # characters of one text on a page; the ledger cuts what models write far earlier
BESIDE = "beside the main line: branches that were dropped and their evaluation, and what adopted states replaced"
SMOOTHED = 10  # updates that the curve of training episodes is averaged over


def write_report(run_dir: Path, topology: Topology, state: RunState | None = None) -> Path:
    """Write `report.html` into the run directory and return its path.

    Args:
        run_dir: the run directory.
        topology: the graph to draw.
        state: how the run is about to end; left out, what can be read from its directory.

    Raises:
        NotARunError: there is no run.
        StorageError: the file cannot be written; the old one is as it was.
    """
    from plotly.offline import get_plotlyjs

    # The loop still holds its lock while it writes the report, so the state is handed in.
    view = RunView(run_dir)
    status = view.status() | {"state": state or view.state()}
    nodes = node_visits(topology, view.visits(), view.calls())
    graph = graph_picture.svg(
        topology,
        visits={node.name: node.count for node in nodes},
        links={node.name: f"#node-{node.name}" for node in nodes},
    )
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            css=_asset("report.css"),
            js=_asset("report.js"),
            plotly=Markup(get_plotlyjs()),
            run=view.info,
            config=view.config,
            status=status,
            waiting=question(view),
            provider=provider_in_words(status["provider"]),
            rules_only=status["provider"] == "rules",
            smoothed=SMOOTHED,
            task=task_name(view),
            curves=curve_data(view),
            moments=timeline(view),
            signals=signal_history(view),
            interventions=interventions(view),
            scorers=scorer_record(view),
            graph=Markup(graph),
            nodes=nodes,
            cost=cost(view),
        )
    )
    path = view.path / "report.html"
    with writing(path):
        write_whole(path, page)
    return path


def graph_page(topology: Topology) -> str:
    """Return one self-contained page with the drawn graph alone."""
    graph = Markup(graph_picture.svg(topology, title="The adaptation graph"))
    return _environment().get_template("graph.html.j2").render(css=_asset("report.css"), graph=graph)


# ---------------------------------------------------------------- templates


def page_environment(loader: BaseLoader) -> Environment:
    """Return an environment whose templates escape everything, with the filters of report and pages."""
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain,
        "steps": lambda value: "–" if value is None else f"{value:,}",
        "number": number,
        "percent": percent,
        "pretty": pretty,
        "words": lambda value: KEPT_IN_CRITIC if value == OUT_OF_REWARD else str(value).replace("_", " "),
    }
    return environment


def pretty(value: Any) -> str:
    """Return a text as it is, other plain data as indented JSON; at most `LONGEST_TEXT` characters of it."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
    return cut(text, LONGEST_TEXT)


def _environment() -> Environment:
    return page_environment(PackageLoader(__package__, "assets"))


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def task_name(view: RunView) -> str:
    """Return the name of the run's task, or the import path of its environment."""
    task = view.config["task"]
    return str(task.get("name") or task.get("env"))


def question(view: RunView) -> dict[str, Any] | None:
    """Return the question that waits, with the command that answers it, and the answer that no loop has taken yet."""
    waiting = view.waiting_for()
    if waiting is None:
        return None
    try:
        answer = given_answer(view.path, waiting["id"])
    except ApprovalError:  # who answers is told
        answer = None
    policy = any(row.id == waiting["id"] and row.detail.claim == "policy" for row in view.decisions())
    return waiting | {
        "asks": "adopt the policy of" if policy else "promote",
        "title": waiting["title"] or arm_title(waiting["proposal"], {}),
        "command": approve_command(str(view.path.absolute()), waiting["id"], "--yes"),
        "answer": answer,
    }


# ---------------------------------------------------------------- curves


class SignalMark(TypedDict):
    """The place of a promotion or a rollback on both axes."""

    main: int
    total: int  # when the branches that led to it had been paid
    label: str
    cause: str


class CurveData(TypedDict):
    """Columns for the chart of learning, one entry an update, as JSON."""

    main: list[int]  # main steps
    total: list[int]  # every step that the run had played by then
    train_return: list[float | None]  # of training episodes, smoothed
    train_success: list[float | None]
    evaluation_return: list[float | None]  # None at updates without an evaluation
    evaluation_success: list[float | None]
    evaluated: list[int]  # positions of the updates with an evaluation
    promotions: list[SignalMark]


def curve_data(view: RunView) -> CurveData:
    """Read the columns for the chart of learning."""
    metrics, history = view.metrics(), view.step_history()
    totals = [
        history.at(row["update"], row["steps_trained"], row["steps"], row["steps_evaluation"]).total for row in metrics
    ]
    marks: list[SignalMark] = []
    for line in view.signals():
        if line.cause not in MARKED:
            continue
        # On the total axis a change stands where its branches had been paid: at the next update.
        later = [total for row, total in zip(metrics, totals, strict=True) if row["update"] > line.applied_update]
        paid = later[0] if later else totals[-1] if totals else line.applied_steps
        marks.append({"main": line.applied_steps, "total": paid, "label": f"v{line.version}", "cause": line.cause})
    return {
        "main": [row["steps"] for row in metrics],
        "total": totals,
        "train_return": smooth([row["train_return"] for row in metrics]),
        "train_success": smooth([row["train_success"] for row in metrics]),
        "evaluation_return": [row["evaluation_return"] for row in metrics],
        "evaluation_success": [row["evaluation_success"] for row in metrics],
        "evaluated": [index for index, row in enumerate(metrics) if row["evaluation_return"] is not None],
        "promotions": marks,
    }


def smooth(values: Sequence[float | None]) -> list[float | None]:
    """Return the mean of the known values among the last SMOOTHED; None where there is none."""
    smoothed: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - SMOOTHED) : end] if value is not None]
        smoothed.append(round(sum(known) / len(known), 4) if known else None)
    return smoothed


# ---------------------------------------------------------------- cost


@dataclass(frozen=True)
class CostPart:
    """Environment steps that were spent on one thing; `share` is their part of the total, 0..1."""

    kind: str
    what: str
    steps: int
    share: float


@dataclass(frozen=True)
class Cost:
    """The environment steps of a run.

    Attributes:
        total: all environment steps, each once; the sum of the parts.
        trained: what the trainer itself trained; the main line has more where it adopted what branches had trained, and
            less where a younger state took its place.
        repeated: steps that were trained again after a crash; they are in no part twice.
        lost: training episodes that were cut since their environment crashed or hung.
    """

    total: int
    parts: list[CostPart]
    trained: int
    repeated: int
    lost: int


def cost(view: RunView) -> Cost:
    """Read environment steps by what they were spent on."""
    steps = view.steps()
    parts = [
        ("main", "main line", steps.main),
        ("branches", BESIDE, steps.dropped - steps.extra.play),
        ("evaluation", "evaluation of the main line", steps.evaluation),
    ]
    # Few runs rank moves or fit signals, so the others have no row of zeros.
    if steps.extra.play:
        parts.append(("pairs", "play whose moves were ranked, or to which signals were fitted", steps.extra.play))
    total = steps.total
    return Cost(
        total=total,
        parts=[CostPart(kind, what, part, part / total if total else 0.0) for kind, what, part in parts],
        trained=steps.trained,
        repeated=view.count("steps_repeated"),
        lost=view.count("episodes_lost"),
    )


# ---------------------------------------------------------------- signals


@dataclass(frozen=True)
class ShownVersion:
    """A version of the signal.

    Attributes:
        steps, at_update: where it was put in force.
        taken: what came with it, in words.
        claim: what was claimed of it when it was put in force, in words; empty where no decision did.
        notes: what is known of an adopted policy besides: of its arm, and against the kick alone.
        stage: of learning, at that update.
        lines: the whole signal, in words.
        diff: what changed against the version that it replaced.
    """

    version: int
    steps: int
    at_update: int
    taken: str
    claim: str
    notes: list[str]
    stage: str
    lines: list[str]
    diff: list[DiffLine]


def adoption_notes(decision: DecisionRecord, races: Mapping[str, RaceRecord]) -> list[str]:
    """Say of an adopted policy which kind of arm it was, what was proven, and what it gained over the kick alone."""
    if decision.detail.claim != "policy":
        return []
    told = "What was proven is its policy, on fresh episodes. Nothing was proven of the signal that came with it."
    notes = [f"The arm {decision.winner}: {winner_kind(decision, races)}. {told}"]
    race = races.get(decision.detail.race or decision.id)
    over = None if race is None or decision.winner is None else gain_over_kick(race.detail, decision.winner)
    if over is not None:
        at = f"their last common look, after rung {over.rung}"
        notes.append(f"Against the exploration kick alone it returned {over.gain:+.2f} at {at}.")
    return notes


def signal_history(view: RunView) -> list[ShownVersion]:
    """Read every version with what changed against the one that it replaced, newest first."""
    rows, stages = view.signals(), {row["update"]: row["stage"] for row in view.metrics()}
    decisions, races = view.decisions(), {row.id: row for row in view.races()}
    versions: dict[int | None, Signal] = {row.version: row.signal for row in rows}
    history: list[ShownVersion] = []
    for row in rows:
        is_first = row is rows[0]
        # A version is compared with the one that it replaced, which need not be the one before it in the log.
        before = row.signal if is_first else versions.get(row.base_version, row.signal)
        taken = "the winning branch's state became the main line" if row.adopt else "the signal alone was taken over"
        brought = next((decision for decision in decisions if is_promotion(decision, row)), None)
        history.append(
            ShownVersion(
                version=row.version,
                steps=row.applied_steps,
                at_update=row.applied_update,
                taken=TAKEN.get(row.cause, taken),
                claim="" if brought is None else outcome_in_words(brought),
                notes=[] if brought is None else adoption_notes(brought, races),
                # The signal's own stage is that of its proposal: a kept control and a rollback come with an old one.
                stage=stages.get(row.applied_update, row.signal.stage),
                lines=describe_signal(row.signal),
                diff=[] if is_first else [DiffLine.of(line) for line in describe_difference(before, row.signal)],
            )
        )
    return history[::-1]
