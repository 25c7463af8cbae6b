"""The gate's arithmetic on one finalist, step by step, from the numbers that it had."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ...errors import NotARunError, NotInRunError
from .. import graph_picture as drawing
from ..interventions import interventions
from ..progress import provider_in_words
from ..report import ROLE_OF_NODE, cost, curve_data, node_visits, question, signal_history, smooth
from ..store import RunView
from ..timeline import timeline
from .replay_jobs import kept_replays, template_text

# ---------------------------------------------------------------- MERGED runs.page.gate_sums

Row = dict[str, Any]
CONTROL = "control"


def gate_sums(judgement: Mapping[str, Any], branches: Sequence[Row]) -> Row:
    """`seeds`: of each what candidate and control ended with and the gain; then mean, standard deviation (floored at
    half the margin, see `rl.branches.gate`), quantile of Student's t, reach, and the bar that the lower bound must
    clear. Where the look only continued there is no level, and neither quantile nor reach.

    `branches`: rows of the table of that point and round.
    """
    mine, base = (_finals(branches, arm, judgement["seeds"]) for arm in (judgement["arm"], CONTROL))
    rows = [
        {"seed": seed, "candidate": mine[seed], "control": base[seed], "gain": mine[seed] - base[seed]}
        for seed in judgement["seeds"]
        if seed in mine and seed in base
    ]
    margin = float(judgement["margin"])
    found: Row = {"seeds": rows, "margin": margin, "bar": -margin if judgement["removal"] else margin}
    return found | _bounds([row["gain"] for row in rows], float(judgement["level"]), margin)


def _finals(branches: Sequence[Row], arm: str, seeds: Sequence[int]) -> dict[int, float]:
    """Seed → final return of the longest branch."""
    own = [row for row in branches if row["arm"] == arm and row["seed"] in seeds]
    return {row["seed"]: row["result"]["final_return"] for row in sorted(own, key=lambda row: row["horizon"])}


def _bounds(gains: Sequence[float], level: float, margin: float) -> Row:
    if len(gains) < 2:
        return {"mean": None, "deviation": None, "floored": False, "t": None, "reach": None}
    seen = stdev(gains)
    deviation = max(seen, margin / 2)
    found: Row = {"mean": fmean(gains), "deviation": deviation, "floored": deviation > seen, "t": None, "reach": None}
    if level > 0:
        from scipy import stats

        found["t"] = float(stats.t.ppf(1 - level, len(gains) - 1))
        found["reach"] = found["t"] * deviation / math.sqrt(len(gains))
    return found


# ---------------------------------------------------------------- MERGED runs.page.content
# DOC """What each page shows, as plain data for its template. Everything is read anew from the run directory."""


# ---------------------------------------------------------------- runs


def listed(runs: Mapping[str, Path]) -> list[Row]:
    """One that cannot be read does not hide the others."""
    return [_listed(name, path) for name, path in runs.items()]


def _listed(name: str, path: Path) -> Row:
    try:
        return head(RunView(path))
    except (NotARunError, sqlite3.Error) as error:
        return {"name": name, "broken": str(error)}


def head(view: RunView) -> Row:
    """What stands above every page of a run."""
    status = view.status()
    return {
        "name": view.path.name, "task": view.config["task"]["name"] or view.config["task"]["env"], "status": status,
        "created": view.info["created"], "algorithm": view.config["trainer"]["algorithm"],
        "provider": provider_in_words(status["provider"]), "rules_only": status["provider"] == "rules",
        "waiting": question(view), "adapts": view.config["adaptation"]["enabled"],
    }  # fmt: skip


def overview(view: RunView, topology: drawing.Topology) -> Row:
    nodes = node_visits(topology, view.visits(), view.calls())
    return {
        "moments": [moment._asdict() for moment in timeline(view)], "interventions": interventions(view),
        "signals": signal_history(view), "cost": cost(view), "graph": _graph(topology, nodes, view.path.name),
        "calls": _spending(view.calls()), "replays": kept_replays(view.path),
    }  # fmt: skip


def _graph(topology: drawing.Topology, nodes: Sequence[Row], name: str) -> Markup:
    counts = {node["name"]: node["count"] for node in nodes}
    links = {node["name"]: f"/runs/{quote(name, safe='')}/nodes/{node['name']}" for node in nodes}
    last = {node["name"]: node["visits"][-1]["status"] for node in nodes if node["visits"]}
    states = {key: f"last-{status}" for key, status in last.items() if status != "ok"}
    return Markup(drawing.svg(topology, counts, links, "The adaptation graph: a node leads to its visits", states))


def _spending(calls: Sequence[Row]) -> list[Row]:
    """By role: calls, those whose answer was of use, tokens, US dollars where they are known."""
    roles = dict.fromkeys(call["role"] for call in calls)
    return [_spent(role, [call for call in calls if call["role"] == role]) for role in roles]


def _spent(role: str, calls: Sequence[Row]) -> Row:
    prices = [call["cost_usd"] for call in calls if call["cost_usd"] is not None]
    tokens = [(call["input_tokens"] or 0, call["output_tokens"] or 0) for call in calls]
    return {
        "role": role, "calls": len(calls), "usable": sum(call["outcome"] in ("ok", "tool_call") for call in calls),
        "input": sum(t for t, _ in tokens), "output": sum(t for _, t in tokens),
        "cost": sum(prices) if prices else None, "latency": sum(call["latency_s"] for call in calls),
    }  # fmt: skip


# ---------------------------------------------------------------- curves


def curves(view: RunView) -> Row:
    """Columns of the charts: learning as in the report, stages as bands, interventions, and what each term pays."""
    metrics, branches = view.metrics(), Counter(row["point"] for row in view.branches())
    found = [item for item in interventions(view) if item["steps"] is not None]
    points = [_marked(view.path.name, item, branches[item["point"]]) for item in found]
    return curve_data(view) | {"stages": _bands(metrics), "interventions": points, "terms": term_curves(metrics)}


def _marked(name: str, item: Row, branches: int) -> Row:
    """An intervention on the time line: where, what was tried, what came of it, and where its account is."""
    account = f"/runs/{quote(name, safe='')}#at-{item['point']}"
    return {
        "steps": item["steps"], "verdict": _last_verdict(item), "href": account,
        "proposals": sum(len(round_["proposals"]) for round_ in item["rounds"]), "branches": branches,
        "branch_steps": item["branch_steps"],
    }  # fmt: skip


def _last_verdict(item: Row) -> str:
    decided = [round_["decision"]["verdict"] for round_ in item["rounds"] if round_["decision"]]
    return str(decided[-1]) if decided else "under way"


def _bands(metrics: Sequence[Row]) -> list[Row]:
    found: list[Row] = []
    for row in metrics:
        if found and found[-1]["stage"] == row["stage"]:
            found[-1]["to"] = row["steps"]
        else:
            start = found[-1]["to"] if found else 0
            found.append({"stage": row["stage"], "from": start, "to": row["steps"]})
    return found


def term_curves(metrics: Sequence[Row]) -> list[Row]:
    """Of each term while it was in force: main `steps`, and what an agent was paid a step on average, `mean` with its
    sign and `size` without."""
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for row in metrics:
        for term, (mean, size) in (row.get("terms") or {}).items():
            rows.setdefault(term, []).append((row["steps"], mean, size))
    return [_term(term, found) for term, found in rows.items()]


def _term(name: str, found: Sequence[tuple[int, float, float]]) -> Row:
    steps, mean, size = zip(*found, strict=True)
    return {"name": name, "steps": list(steps), "mean": smooth(mean), "size": smooth(size)}


def compared(one: RunView, other: RunView) -> Row:
    """Both heads, and the keys of the config that differ."""
    return {"heads": [head(one), head(other)], "differences": _differences(one.config, other.config)}


def _differences(one: Any, other: Any, key: str = "") -> list[Row]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        parts = [_differences(one.get(k), other.get(k), f"{key}.{k}" if key else k) for k in keys]
        return [row for part in parts for row in part]
    return [] if one == other else [{"key": key, "one": one, "other": other}]


# ---------------------------------------------------------------- one thing of a run


def node(view: RunView, topology: drawing.Topology, name: str) -> Row:
    for found in node_visits(topology, view.visits(), view.calls()):
        if found["name"] == name:
            role = ROLE_OF_NODE.get(name)
            return {"node": found, "replays": [], **({} if role is None else _asking(view, role))}
    raise NotInRunError(f"the graph has no node {name!r}; click one of its picture")


def call(view: RunView, key: str) -> Row:
    """The call, all attempts at the same question in order, and the evidence that the answer cites."""
    calls = view.calls()
    own = next((row for row in calls if row["id"] == key), None)
    if own is None:
        raise NotInRunError(f"the run has no call {key!r}; a node's page lists its calls")
    stem = key.rpartition("-a")[0]
    attempts = [row for row in calls if row["id"].rpartition("-a")[0] == stem]
    turns = [
        row for row in calls if (row["role"], row["point"], row["round"]) == (own["role"], own["point"], own["round"])
    ]
    return {"call": own, "attempts": attempts, "turns": turns, "cited": _cited(view, own),
            **_asking(view, own["role"]), "replays": kept_replays(view.path, key)}  # fmt: skip


def _asking(view: RunView, role: str) -> Row:
    """What the form to ask again begins with."""
    return {"asking": {"role": role, "template": template_text(view, role)}}


def _cited(view: RunView, own: Row) -> list[Row]:
    """Key, value (None where the evidence has none of that name) of what the findings cite."""
    evidence = next((row["evidence"] for row in view.diagnoses() if row["point"] == own["point"]), None)
    findings = (own["parsed"] or {}).get("findings", [])
    keys = dict.fromkeys(str(key) for finding in findings for key in finding.get("cites", []))
    return [{"key": key, "value": evidence_value(evidence, key)} for key in keys]


def evidence_value(evidence: Any, key: str) -> Any:
    """The value under a dotted key, in which an item of a list goes by its `name` or `group`; None for nothing."""
    found = evidence
    for part in key.split("."):
        if isinstance(found, list):
            named = [x for x in found if isinstance(x, dict) and part in (x.get("name"), x.get("group"))]
            found = named[0] if named else None
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def proposal(view: RunView, key: str) -> Row:
    """The proposal with its branches, the gate's sums, and the call that made it."""
    for item in interventions(view):
        for round_ in item["rounds"]:
            for found in round_["proposals"]:
                if found["id"] == key:
                    return {"item": item, "round": round_, "proposal": found, **_judged(view, item, round_, found)}
    raise NotInRunError(f"the run has no proposal {key!r}; see its interventions")


def _judged(view: RunView, item: Row, round_: Row, found: Row) -> Row:
    place = (item["point"], round_["number"])
    branches = [row for row in view.branches() if row["point"] == item["point"] and row["phase"] in ("screen", "full")]
    asked = [row for row in view.calls() if row["role"] == "generator" and (row["point"], row["round"]) == place]
    own = [row for row in branches if row["arm"] == found["id"]]
    sums = None if found["judgement"] is None else gate_sums(found["judgement"], _of_round(branches, own))
    fitted = any(term["kind"] == "learned" for term in found["terms"])  # to rankings: the Generator did not make it
    made_by = None if fitted else next((row["id"] for row in reversed(asked) if row["outcome"] == "ok"), None)
    return {"sums": sums, "branches": own, "made_by": made_by}


def _of_round(branches: Sequence[Row], own: Sequence[Row]) -> list[Row]:
    """The candidate's branches, and the control's under the same exploration."""
    given = [row["job"].get("exploration") for row in own]
    return [*own, *(row for row in branches if row["arm"] == "control" and row["job"].get("exploration") in given)]
