"""The content of each page: plain data for its template, read anew from the run directory each time.

A function per page reads the run's tables once and returns the variables of the page's template. Rows of tables are
dicts as `RunView` gives them. What a model wrote is data here; the templates escape it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from markupsafe import Markup

from ...agents.llm.ledger import Call
from ...agents.replay_results import turn_name
from ...errors import CosignalError, NotInRunError
from .. import graph_picture
from ..approvals import MAX_BECAUSE
from ..compare_signals import signal_distances
from ..graph_picture import Topology
from ..interventions import CONTROL, PHASES, interventions
from ..progress import provider_in_words
from ..records import BranchRecord, JudgementRecord
from ..report import cost, curve_data, question, signal_history, smooth, task_name
from ..run_files import damage_in_words
from ..run_view import RunView
from ..term_plots import term_plots
from ..timeline import timeline
from ..visits import ROLE_OF_NODE, node_visits
from .replay_jobs import kept_replays, template_text
from .run_index import address, open_run

Row = Mapping[str, Any]  # of a table of the run
Variables = dict[str, Any]  # of a template, by name


# ---------------------------------------------------------------- the list of runs, and the head of every page


@dataclass(frozen=True)
class RunHead:
    """The head of every page of a run.

    Attributes:
        name: of the run directory.
        task: name of the task, or the import path of its environment.
        status: what `cosignal status` prints.
        created: when the run was made, as an ISO date.
        algorithm: of the trainer.
        provider: who answers for the roles, in words.
        rules_only: whether no language model answers.
        waiting: the question that waits for a human, or for a loop that takes the answer.
        adapts: whether the adaptation loop is on.
        damage: a line for each thing of the run that cannot be read; what is read later adds to it.
    """

    name: str
    task: str
    status: Row
    created: str
    algorithm: str
    provider: str
    rules_only: bool
    waiting: Row | None
    adapts: bool
    damage: Sequence[str] = ()


@dataclass(frozen=True)
class UnreadableRun:
    """A run directory that cannot be read, with the reason."""

    name: str
    broken: str


def head(view: RunView) -> RunHead:
    """Read what stands above every page of the run."""
    status, config = view.status(), view.config
    return RunHead(
        name=view.path.name,
        task=task_name(view),
        status=status,
        created=view.info.get("created", ""),
        algorithm=config["trainer"]["algorithm"],
        provider=provider_in_words(status["provider"]),
        rules_only=status["provider"] == "rules",
        waiting=question(view),
        adapts=config["adaptation"]["enabled"],
        damage=view.damage,
    )


def run_list(runs: Mapping[str, Path]) -> list[RunHead | UnreadableRun]:
    """Read the head of every run; one that cannot be read does not hide the others."""
    heads: list[RunHead | UnreadableRun] = []
    for name, path in runs.items():
        try:
            with damage_in_words(path):
                heads.append(head(open_run(name, path)))
        except CosignalError as error:
            heads.append(UnreadableRun(name, str(error)))
    return heads


# ---------------------------------------------------------------- overview


@dataclass(frozen=True)
class Spending:
    """Model calls of one role.

    Attributes:
        role: of the calls.
        calls: how many there were.
        usable: how many gave an answer or asked for a tool.
        input: tokens sent, where they were counted.
        output: tokens received, where they were counted.
        cost: US dollars, None where no price is known.
        latency: seconds in all.
    """

    role: str
    calls: int
    usable: int
    input: int
    output: int
    cost: float | None
    latency: float


def overview(view: RunView, topology: Topology) -> Variables:
    """Read the page of a run. `topology` is the graph to draw; a node whose last visit has not ended is outlined."""
    visits, calls = view.visits(), view.calls()
    nodes = node_visits(topology, visits, calls)
    last = {node.name: node.visits[-1].status for node in nodes if node.visits}
    graph = graph_picture.svg(
        topology,
        visits={node.name: node.count for node in nodes},
        links={node.name: address(view.path.name, "nodes", node.name) for node in nodes},
        title="The adaptation graph: a node leads to its visits",
        states={name: f"last-{status}" for name, status in last.items() if status != "ok"},
    )
    return {
        "interventions": interventions(view),
        "graph": Markup(graph),
        "replays": kept_replays(view.path),
        "moments": timeline(view),
        "signals": signal_history(view),
        "cost": cost(view),
        "spending": spending(calls),
        "longest_reason": MAX_BECAUSE,
    }


def spending(calls: Sequence[Call]) -> list[Spending]:
    """Sum up the calls of each role, in the order in which the roles were first asked."""
    rows: list[Spending] = []
    for role in dict.fromkeys(call.role for call in calls):
        own = [call for call in calls if call.role == role]
        prices = [call.cost_usd for call in own if call.cost_usd is not None]
        rows.append(
            Spending(
                role=role,
                calls=len(own),
                usable=sum(call.outcome in ("ok", "tool_call") for call in own),
                input=sum(call.input_tokens or 0 for call in own),
                output=sum(call.output_tokens or 0 for call in own),
                cost=sum(prices) if prices else None,
                latency=sum(call.latency_s for call in own),
            )
        )
    return rows


# ---------------------------------------------------------------- curves, which the browser draws


StageBand = TypedDict(
    "StageBand", {"stage": str, "from": int, "to": int, "total_from": int, "total_to": int}
)  # in main and in total steps


class TermCurve(TypedDict):
    """The payments of a term of the signal to an agent per step, while it was in force: smoothed, one value an update.

    `steps` are main steps; `mean` has the sign of the payment, `size` is the mean of its absolute value.
    """

    name: str
    steps: list[int]
    mean: list[float | None]
    size: list[float | None]


class InterventionMark(TypedDict):
    """An intervention on the time line: where it took place, what was tried and what came of it.

    `steps` are main steps, `total` those of the whole run until then. `outcome` is the verdict in words, with the claim
    of what was put in force; `href` is the address of its account on the run's page.
    """

    steps: int
    total: int
    verdict: str
    outcome: str
    href: str
    proposals: int
    branches: int
    branch_steps: int


def curves(view: RunView) -> Row:
    """Read the columns of the charts, as JSON: those of the report, stages, interventions, and what each term pays."""
    metrics, branches, data = view.metrics(), Counter(row.point for row in view.branches()), curve_data(view)
    total_at = {row["update"]: total for row, total in zip(metrics, data["total"], strict=True)}
    marks: list[InterventionMark] = []
    for item in interventions(view):
        if item.steps is None:  # the trainer has not written the point's metrics yet
            continue
        decided = [round_ for round_ in item.rounds if round_.decision]
        marks.append(
            {
                "steps": item.steps,
                "total": total_at[item.point],
                "verdict": decided[-1].decision.shown_verdict if decided and decided[-1].decision else "under way",
                "outcome": decided[-1].outcome if decided else "under way",
                "href": f"{address(view.path.name)}#at-{item.point}",
                "proposals": sum(len(round_.proposals) for round_ in item.rounds),
                "branches": branches[item.point],
                "branch_steps": item.branch_steps,
            }
        )
    extra = {"stages": stage_bands(metrics, data["total"]), "interventions": marks, "terms": term_curves(metrics)}
    return {**data, **extra}


def stage_bands(metrics: Sequence[Row], totals: Sequence[int]) -> list[StageBand]:
    """Join the updates of equal stage to bands that leave no gap; where main steps step back, a new one begins.

    Args:
        metrics: a row an update.
        totals: total steps at each of them.
    """
    bands: list[StageBand] = []
    main = until = 0  # main and total steps at the update before
    for row, total in zip(metrics, totals, strict=True):
        goes_on = row["steps"] >= main
        if bands and goes_on and bands[-1]["stage"] == row["stage"]:
            bands[-1] |= {"to": row["steps"], "total_to": total}
        else:
            begin = main if goes_on else row["steps"]
            band: StageBand = {
                "stage": row["stage"], "from": begin, "to": row["steps"], "total_from": until, "total_to": total
            }  # fmt: skip
            bands.append(band)
        main, until = row["steps"], total
    return bands


def term_curves(metrics: Sequence[Row]) -> list[TermCurve]:
    """Collect what each term paid over the updates at which it was in force."""
    payments: dict[str, list[tuple[int, float, float]]] = {}
    for row in metrics:
        for term, (mean, size) in (row.get("terms") or {}).items():
            payments.setdefault(term, []).append((row["steps"], mean, size))
    terms: list[TermCurve] = []
    for term, points in payments.items():
        steps, means, sizes = zip(*points, strict=True)
        terms.append({"name": term, "steps": list(steps), "mean": smooth(means), "size": smooth(sizes)})
    return terms


# ---------------------------------------------------------------- two runs


@dataclass(frozen=True)
class Difference:
    """A dotted key of the config under which two runs differ; None where a run does not have it."""

    key: str
    one: Any
    other: Any


def comparison(one: RunView, other: RunView) -> Variables:
    """Read the heads of two runs, how far their signals are apart, and the keys of the config that differ."""
    return {
        "heads": [head(one), head(other)],
        "signals": signal_distances(one, other),
        "differences": config_differences(one.config, other.config),
    }


def config_differences(one: Any, other: Any, key: str = "") -> list[Difference]:
    """Compare two parts of a config under `key`, down to the single values."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = (
            config_differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
            for name in dict.fromkeys([*one, *other])
        )
        return [difference for part in parts for difference in part]
    return [] if one == other else [Difference(key, one, other)]


# ---------------------------------------------------------------- a node


@dataclass(frozen=True)
class ReplayForm:
    """The content of the form that asks questions of `role` again: the text of the recorded prompt's template."""

    role: str
    template: str


def node(view: RunView, topology: Topology, name: str) -> Variables:
    """Read the visits of a node of the graph.

    Raises:
        NotInRunError: the graph has no such node.
    """
    nodes = {visited.name: visited for visited in node_visits(topology, view.visits(), view.calls())}
    if name not in nodes:
        raise NotInRunError(f"the graph has no node {name!r}; click one of its picture")
    # Replays have no texts of single moves and states, so what was asked about them cannot be asked again.
    role = None if name in ("rank_transitions", "fit_signals") else ROLE_OF_NODE.get(name)
    return {"node": nodes[name], "form": None if role is None else ReplayForm(role, template_text(view, role))}


# ---------------------------------------------------------------- a model call


@dataclass(frozen=True)
class Citation:
    """A key of the evidence that an answer cites; `value` is None where the evidence has nothing there."""

    key: str
    value: Any


def call(view: RunView, key: str) -> Variables:
    """Read a model call, all attempts at the same question in order, and the evidence that the answer cites.

    Raises:
        NotInRunError: the run has no such call.
    """
    calls, interventions_ = view.calls(), view.interventions()
    shown = next((call for call in calls if call.id == key), None)
    if shown is None:
        raise NotInRunError(f"the run has no call {key!r}; a node's page lists its calls")
    place = (shown.role, shown.point, shown.round)
    answered = [record for record in interventions_ if record.diagnosis is not None]
    evidence = next((record.evidence for record in answered if record.point == shown.point), None)
    cited = dict.fromkeys(cited_keys(shown.parsed))
    return {
        "call": shown,
        "attempts": [other for other in calls if turn_name(other.id) == turn_name(key)],
        "turns": [other for other in calls if (other.role, other.point, other.round) == place],
        "cited": [Citation(name, evidence_value(evidence, name)) for name in cited],
        "form": ReplayForm(shown.role, template_text(view, shown.role)),
        "replays": kept_replays(view.path, key),
    }


def cited_keys(answer: Any) -> list[str]:
    """Return the keys of the evidence that an answer's findings cite; none where it is no diagnosis."""
    findings = answer.get("findings") if isinstance(answer, dict) else None
    lists = [finding.get("cites") for finding in _dicts(findings)]
    return [str(name) for names in lists if isinstance(names, list) for name in names]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def evidence_value(evidence: Any, key: str) -> Any:
    """Return the value under a dotted key, or None; an item of a list goes by its `name` or `group`."""
    value = evidence
    for part in key.split("."):
        if isinstance(value, list):
            items = [item for item in _dicts(value) if part in (item.get("name"), item.get("group"))]
            value = items[0] if items else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


# ---------------------------------------------------------------- a proposal


@dataclass(frozen=True)
class SeedGain:
    """The final returns of one seed, and the gain of the candidate over the control."""

    seed: int
    candidate: float
    control: float
    gain: float


@dataclass(frozen=True)
class GateSums:
    """The gate's arithmetic on one finalist, step by step, from the numbers that it had.

    Attributes:
        seeds: the final returns, seed by seed.
        bar: what the lower bound must exceed to be accepted.
        mean: mean gain, None with fewer than two seeds, as are all below.
        deviation: standard deviation of the gains, at least the gate's floor.
        floored: whether the gains spread less than that.
        t: quantile of Student's t; None where the look had no level and only continued, as is `reach`.
        reach: distance of the bounds from the mean.
    """

    seeds: list[SeedGain]
    bar: float
    mean: float | None = None
    deviation: float | None = None
    floored: bool = False
    t: float | None = None
    reach: float | None = None


def proposal(view: RunView, key: str) -> Variables:
    """Read a proposal with pictures of its terms, its branches, the gate's arithmetic, and the call that made it.

    Raises:
        NotInRunError: the run has no such proposal.
    """
    branches, calls = view.branches(), view.calls()
    places = ((item, round_) for item in interventions(view) for round_ in item.rounds)
    match = next(((item, round_, row) for item, round_ in places for row in round_.proposals if row.id == key), None)
    if match is None:
        raise NotInRunError(f"the run has no proposal {key!r}; see its interventions")
    item, round_, row = match
    tried = [branch for branch in branches if branch.point == item.point and branch.phase in PHASES]
    answers = [
        call
        for call in calls
        if (call.role, call.point, call.round) == ("generator", item.point, round_.number) and call.outcome == "ok"
    ]
    # Of several samples the one that has this proposal.
    proposing = [call for call in answers if _proposes(call, row.title, row.reason)]
    # what was fitted no call has made; else a repaired answer may have changed a word
    answers = proposing or ([] if item.fits and round_.number == 0 else answers)
    signal = next(record.signal for record in view.proposals() if record.id == key)
    evidence = next((record.evidence for record in view.interventions() if record.point == item.point), {})
    return {
        "plots": term_plots(signal.terms, evidence),
        "item": item,
        "round": round_,
        "proposal": row,
        "sums": None if row.judgement is None else gate_sums(row.judgement, tried),
        "made_by": None if row.fitted or not answers else answers[-1].id,
    }


def _proposes(call: Call, title: str, reason: str) -> bool:
    proposed = (call.parsed or {}).get("proposals") or []
    return any((one.get("title"), one.get("reason")) == (title, reason) for one in proposed)


def gate_sums(judgement: JudgementRecord, branches: Sequence[BranchRecord]) -> GateSums:
    """Do the gate's arithmetic again.

    Args:
        judgement: the gate's.
        branches: branches of the same point, screening and full; those of other arms are left out, and of the control
            all but those under the candidate's exploration.
    """
    own = [row for row in branches if row.arm == judgement.arm]
    explorations = [row.job.exploration for row in own]
    control = [row for row in branches if row.arm == CONTROL and row.job.exploration in explorations]

    # Seed → final return at the longest horizon that it was run to.
    mine, base = (
        {row.seed: row.result.final_return for row in sorted(rows, key=lambda row: row.horizon)}
        for rows in (own, control)
    )
    seeds = [
        SeedGain(seed, mine[seed], base[seed], mine[seed] - base[seed])
        for seed in judgement.seeds
        if seed in mine and seed in base
    ]
    margin, level = judgement.margin, judgement.level
    bar = -margin if judgement.removal else margin
    if len(seeds) < 2:
        return GateSums(seeds, bar)

    from ...rl.branches.gate import gain_bounds, sd_floor  # imports SciPy

    # Bounds by Student's t: the mean ± t · deviation / √n.
    bounds = gain_bounds([seed.gain for seed in seeds], level, sd_floor(margin))
    t, reach = (bounds.t, bounds.reach) if level > 0 else (None, None)
    return GateSums(seeds, bar, bounds.mean, bounds.deviation, bounds.floored, t, reach)
