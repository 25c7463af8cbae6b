"""Pictures of what a term's states are worth over the features that it reads, from the declared ranges alone.

A curve for one feature, filled contours for two; of more, a curve for each of the first four, the others at the mean
that the evidence had. Of one agent without mates, at the term's own weight: strength and scale only stretch the axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import ExpressionError, SignalError
from ..rl.evidence.schema import Evidence, FeatureEvidence
from ..rl.signals.scorer import NO_SCORERS
from ..rl.signals.terms import Term
from ..rl.signals.terms.base import CompiledStateTerm
from ..rl.task import FeatureSpec, GroupSpec, TaskSpec
from . import charts

POINTS, CELLS = 61, 18  # of a curve, and of a side of a contour plot
MOST_CURVES = 4


@dataclass(frozen=True)
class TermPlot:
    """A picture of a term: its title in words, and the drawing."""

    title: str
    drawing: Markup


def term_plots(terms: Sequence[Term], evidence: Mapping[str, Any]) -> list[TermPlot]:
    """Return the pictures of terms that give states a value by declared features; none where evidence has no ranges.

    Args:
        terms: of a signal.
        evidence: an `Evidence` as plain data, also of an older version.
    """
    try:
        rows = Evidence.model_validate(evidence).features
    except ValidationError:
        return []
    return [plot for term in terms for plot in _plots(term, rows)]


def _plots(term: Term, rows: Sequence[FeatureEvidence]) -> list[TermPlot]:
    try:
        names = term.reads.features
    except ExpressionError:
        return []
    groups = dict.fromkeys(row.group for row in rows)
    known = {group: {row.name: row for row in rows if row.group == group} for group in groups}
    group = next((name for name, features in known.items() if names and names <= features.keys()), None)
    if group is None:
        return []
    # in the order of the evidence, which is the task's
    read = [row for name, row in known[group].items() if name in names]
    specs = tuple(
        FeatureSpec.model_validate(
            {"name": row.name, "kind": row.kind, "low": row.low, "high": row.high, "done": row.done}
        )
        for row in read
    )
    one = GroupSpec(name="agents", agents=("agent",), obs_size=1, n_actions=2, features=specs)
    spec = TaskSpec(name="plot", description="", groups=(one,), max_steps=1)
    try:
        compiled = term.model_copy(update={"agents": "all" if term.kind != "table" else "agents"}).compile(
            spec, NO_SCORERS
        )
    except SignalError:
        return []
    if not isinstance(compiled, CompiledStateTerm):
        return []

    def worth(columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Return what states are worth, by their features [n] each."""
        states = np.stack(np.broadcast_arrays(*columns), -1).astype(np.float32)[:, None]
        return term.weight * compiled.state_values([states], None)[0][:, 0]

    if len(specs) == 2:
        return [_contour(term, specs, worth)]
    usual = [np.array([row.mean], np.float64) for row in read]
    plots = []
    for i, feature in enumerate(specs[:MOST_CURVES]):
        along = _values(feature, POINTS)
        values = worth([along if j == i else usual[j] for j in range(len(specs))])
        others = ", the others as usual" if len(specs) > 1 else ""
        title = f"{term.name} over {feature.name}{others}"
        drawing = charts.curve(along.tolist(), values.tolist(), f"What a state is worth: {title}")
        plots.append(TermPlot(title, Markup(drawing)))
    return plots


def _contour(term: Term, specs: Sequence[FeatureSpec], worth: Any) -> TermPlot:
    across, up = (_values(feature, CELLS) for feature in specs)
    grid = worth([np.repeat(across, len(up)), np.tile(up, len(across))]).reshape(len(across), len(up))
    title = f"{term.name} over {specs[0].name} and {specs[1].name}"
    drawing = charts.contour(
        across.tolist(), up.tolist(), grid.tolist(), (specs[0].name, specs[1].name), f"What a state is worth: {title}"
    )
    return TermPlot(title, Markup(drawing))


def _values(feature: FeatureSpec, number: int) -> NDArray[np.float64]:
    """Return values over the feature's range: whole ones of counts and flags."""
    if feature.kind in ("count", "flag"):
        return np.arange(
            round(feature.low), min(round(feature.high), round(feature.low) + number) + 1, dtype=np.float64
        )
    return np.linspace(feature.low, feature.high, number)
