"""The gate's arithmetic on one finalist, step by step, from the numbers that it had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

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
