"""`report.html`: one self-contained page about a run. It asks nothing of the network, and everything that came from a
model is escaped by the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..rl.signals.signal import Signal, describe_difference, describe_signal
from . import graph_picture as drawing
from .interventions import diff_line, interventions
from .progress import approve_command, number, percent, provider_in_words
from .store import RunState, RunView, steps_of
from .timeline import timeline

ASSETS = Path(__file__).with_name("assets")
ROLE_OF_NODE = {"critic": "critic", "generator": "generator", "rank_proposals": "ranker"}
MARKED = ("promotion", "rollback")  # what the curves show of the signal log
SMOOTHED = 10  # updates that the curve of training episodes is averaged over
Row = dict[str, Any]


def write_report(run_dir: Path, topology: drawing.Topology | None = None, state: RunState | None = None) -> Path:
    """Write `report.html` into the run directory; its path. `topology` is the graph to draw, by default the loop's own.
    `state` is how the run is about to end, by default what can be read from its directory.

    Raises NotARunError where there is no run.
    """
    view = RunView(run_dir)
    context = _context(view, topology or loop_topology(), state or view.state())
    page = _environment().get_template("report.html.j2").render(context)
    path = view.path / "report.html"
    unfinished = path.with_suffix(".html.part")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)  # a reader sees the old page or the new one
    return path


def graph_page(topology: drawing.Topology) -> str:
    """One self-contained page with the drawn graph alone."""
    template = _environment().get_template("graph.html.j2")
    return template.render(css=_asset("report.css"), graph=Markup(drawing.svg(topology, title="The adaptation graph")))


def loop_topology() -> drawing.Topology:
    """The graph that `build_graph` compiles. Imports LangGraph."""
    from ..config.run_config import RunConfig
    from ..graphs.graph import build_graph

    return drawing.Topology.from_json(build_graph(RunConfig()).get_graph(xray=True).to_json())


def _environment() -> Environment:
    return page_environment(PackageLoader(__package__, "assets"))


def page_environment(loader: BaseLoader) -> Environment:
    """Templates that escape everything, with the filters of report and pages."""
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "steps": lambda value: f"{value:,}",
        "number": number,
        "percent": percent,
        "pretty": _pretty,
    }
    environment.filters["words"] = lambda value: str(value).replace("_", " ")
    return environment


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _context(view: RunView, topology: drawing.Topology, state: RunState) -> Row:
    from plotly.offline import get_plotlyjs

    status, visits = view.status() | {"state": state}, view.visits()
    nodes = node_visits(topology, visits, view.calls())
    return {
        "css": _asset("report.css"),
        "js": _asset("report.js"),
        "plotly": Markup(get_plotlyjs()),
        "run": view.info,
        "config": view.config,
        "status": status,
        "waiting": question(view),
        "provider": provider_in_words(status["provider"]),
        "rules_only": status["provider"] == "rules",
        "smoothed": SMOOTHED,
        "task": view.config["task"]["name"] or view.config["task"]["env"],
        "curves": curve_data(view),
        "moments": timeline(view),
        "signals": signal_history(view),
        "interventions": interventions(view),
        "graph": Markup(
            drawing.svg(
                topology, {n["name"]: n["count"] for n in nodes}, {n["name"]: f"#node-{n['name']}" for n in nodes}
            )
        ),
        "nodes": nodes,
        "cost": cost(view),
    }


def question(view: RunView) -> Row | None:
    """The question that a human has not answered yet, with the command that answers it."""
    asked = view.waiting_for()
    return asked and asked | {"command": approve_command(str(view.path.absolute()), asked["id"], "--yes")}


# ---------------------------------------------------------------- curves and cost


def curve_data(view: RunView) -> Row:
    """Columns for the page's chart. `total` adds evaluation and branch steps that were spent up to then."""
    metrics, adopted = view.metrics(), _adopted_steps(view)
    spent = [(row["point"], steps_of(row)) for row in view.branches()]
    taken = [(row["applied_update"], adopted[row["version"]]) for row in view.signals()]

    def total(row: Row) -> int:
        branches = sum(steps for point, steps in spent if point < row["update"])
        once = sum(steps for update, steps in taken if update < row["update"])
        return int(row["steps"]) + int(row["steps_evaluation"]) + branches - once

    totals = [total(row) for row in metrics]
    training = {key: smooth([row[key] for row in metrics]) for key in ("train_return", "train_success")}
    return {
        "main": [row["steps"] for row in metrics],
        "total": totals,
        **training,
        **{key: [row[key] for row in metrics] for key in ("evaluation_return", "evaluation_success")},
        "evaluated": [index for index, row in enumerate(metrics) if row["evaluation_return"] is not None],
        "promotions": [_mark(row, metrics, totals) for row in view.signals() if row["cause"] in MARKED],
    }


def smooth(values: Sequence[float | None]) -> list[float | None]:
    """Mean of the known values among the last SMOOTHED; None where there is none."""
    smoothed: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - SMOOTHED) : end] if value is not None]
        smoothed.append(round(sum(known) / len(known), 4) if known else None)
    return smoothed


def _mark(row: Row, metrics: list[Row], totals: list[int]) -> Row:
    """Where a promotion or a rollback stands on both axes: on the total one, when its branches had been paid."""
    after = next((total for m, total in zip(metrics, totals, strict=True) if m["update"] > row["applied_update"]), None)
    fallback = totals[-1] if totals else row["applied_steps"]
    total = fallback if after is None else after
    return {"main": row["applied_steps"], "total": total, "label": f"v{row['version']}", "cause": row["cause"]}


def _adopted_steps(view: RunView) -> dict[int, int]:
    """Version → branch steps that became the main line with it: the length of the adopted branch since its fork, in
    whole updates. Under the overlap clock a state is taken over, but the line's own steps go on."""
    trainer = view.config["trainer"]
    update = int(trainer["envs"]) * int(trainer["rollout"])
    length = {
        row["result"]["end_state"]: -(-int(row["result"]["horizon"]) // update) * update for row in view.branches()
    }
    continues = view.config.get("clock") != "overlap"
    return {row["version"]: length.get(row["adopt"], 0) if continues else 0 for row in view.signals()}


def cost(view: RunView) -> Row:
    """Environment steps by what they were spent on, and their shares of the total."""
    counters = view.counters()
    count = {name: int(counters.get(name, "0")) for name in ("steps_main", "steps_evaluation", "steps_repeated")}
    adopted = int(counters.get("steps_adopted", "0"))
    branches = sum(steps_of(row) for row in view.branches())
    total = view.steps_total()
    parts = [
        ("main", "main line", count["steps_main"]),
        ("branches", "branches that were tried and dropped, with their evaluation", branches - adopted),
        ("evaluation", "evaluation of the main line", count["steps_evaluation"]),
    ]
    if ranked := sum(row["steps"] for row in view.rankings()):
        parts.append(("pairs", "play from which single agents' moves were ranked", ranked))
    return {
        "total": total,
        "parts": [{"kind": k, "what": w, "steps": s, "share": s / total if total else 0.0} for k, w, s in parts],
        "adopted": adopted,
        "repeated": count["steps_repeated"],
        "lost": int(counters.get("episodes_lost", "0")),
    }


# ---------------------------------------------------------------- signals


def signal_history(view: RunView) -> list[Row]:
    """Every version with what changed against the one that it replaced, newest first."""
    rows = view.signals()
    versions = {row["version"]: Signal.model_validate(row["signal"]) for row in rows}
    return [_version(row, versions) for row in reversed(rows)]


def _version(row: Row, versions: Mapping[int, Signal]) -> Row:
    signal = versions[row["version"]]
    first = row["version"] == min(versions)
    before = signal if first else versions.get(row["base_version"], signal)
    return {
        "version": row["version"],
        "steps": row["applied_steps"],
        "at_update": row["applied_update"],
        "taken": _taken(row),
        "stage": signal.stage,
        "lines": describe_signal(signal),
        "diff": [] if first else [diff_line(line) for line in describe_difference(before, signal)],
    }


def _taken(row: Row) -> str:
    """What came with a version, in words."""
    if row["cause"] == "rollback":
        return "policy and signal of before the promotion came back"
    if row["cause"] == "control":
        return "the control's state became the main line, the signal stayed"
    return "the winning branch's state became the main line" if row["adopt"] else "the signal alone was taken over"


# ---------------------------------------------------------------- nodes


def node_visits(topology: drawing.Topology, visits: list[Row], calls: list[Row]) -> list[Row]:
    """Each node of the graph with its visits, and the model calls made during them."""
    names = [name for name in topology.nodes if name not in drawing.TERMINALS]
    return [_node(name, [visit for visit in visits if visit["node"] == name], calls) for name in names]


def _node(name: str, visits: list[Row], calls: list[Row]) -> Row:
    own = [call for call in calls if call["role"] == ROLE_OF_NODE.get(name)]
    shown = [_visit(visit, own) for visit in visits]
    placed = {id(call) for visit in shown for call in visit["calls"]}
    stray = [call for call in own if id(call) not in placed]
    return {"name": name, "count": len(visits), "visits": shown, "stray": stray}


def _visit(visit: Row, calls: list[Row]) -> Row:
    """A visit with the calls that started while it lasted."""
    start, end = visit["started"], visit["ended"] if visit["ended"] is not None else float("inf")
    return {**visit, "detail": visit["detail"] or {}, "seconds": None if visit["ended"] is None else end - start,
            "calls": [call for call in calls if start <= call["started"] <= end]}  # fmt: skip
