"""The embedded rules' view of the evidence: features as numbers in 0..1, and the roles that each can play in a term.

Only kind, range and statistics are looked at, never a name, and ties go by position: renaming changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]  # plain data of a prompt

NEVER = 0.05  # share of episodes below which something counts as never reached
LARGEST, SMALLEST = 1e6, 1e-4  # of the numbers that an expression may hold
APPROACH = -0.03  # change before a reward, in ranges, below which an approach precedes rewards


@dataclass(frozen=True)
class Feature:
    """One feature for one kind of agent. Everything but `low` and `span` is in units of `span`, None where unknown.

    Attributes:
        name: as in the evidence.
        agents: for the terms over it: a group's name, or `all`.
        kind: distance, count, flag, position or quantity.
        low, span: lower end and size of its range.
        mean, start: over the episodes, and at their begin.
        seen: size of the range that was seen.
        reached_low, reached_high: share of episodes that came to an end of the range.
        change: mean change before a reward.
        gap: mean at the end of successes minus at the end of failures.
        has_mates: whether the agents have teammates of their kind.
        done_by: where it is a distance to something that is done or gone one day, the group that gets it done: the one
            that is nearest right before. `all` where nobody ever has, None where it never ends.
    """

    name: str
    agents: str
    kind: str
    low: float
    span: float
    mean: float
    start: float | None
    seen: float
    reached_low: float | None
    reached_high: float | None
    change: float | None
    gap: float | None
    has_mates: bool
    done_by: str | None = None

    @property
    def approached(self) -> bool:
        """An approach precedes rewards."""
        return (self.change or 0.0) <= APPROACH

    @property
    def grows(self) -> bool:
        """It is progress: a count or flag that begins low, rises, and does not stand against success."""
        starts_high = self.start is not None and self.start > 0.9
        hinders = self.gap is not None and self.gap < -0.1
        return self.kind in ("count", "flag") and self.seen > NEVER and not starts_high and not hinders

    @property
    def is_frontier(self) -> bool:
        """It is seldom reached, or successes end nearer to it than failures."""
        seldom = self.reached_low is not None and self.reached_low < 0.5
        wanted = self.gap is not None and self.gap < -0.2
        shunned = self.gap is not None and self.gap > 0.2
        return (seldom or wanted) and not shunned

    def up(self) -> str:
        """Return an expression that grows from 0 to 1 with the feature."""
        shifted = self._from_low(self.name)
        return shifted if self.span == 1 else f"{shifted} / {_number(self.span)}"

    def at_high(self) -> str:
        """Return an expression that is 1 where the feature is at its high end and 0 elsewhere."""
        if self.kind == "flag" and self.low == 0 and self.span == 1:
            return self.name
        return f"({self.name} > {_number(self.low + 0.95 * self.span)})"

    def over_team(self, function: str) -> str:
        """Return `up()` of the smallest (`min`) or largest (`max`) value in the team."""
        extreme = f"{function}({self.name}, {function}_mates({self.name}))"
        return f"{self._from_low(extreme)} / {_number(self.span)}"

    def _from_low(self, value: str) -> str:
        if self.low == 0:
            return value
        return f"({value} {'-' if self.low > 0 else '+'} {_number(abs(self.low))})"


@dataclass(frozen=True)
class FeatureRoles:
    """The roles that the features of one kind of agent can play.

    Attributes:
        progress: counts and flags that grow.
        gate: the latest of them that episodes do reach.
        rung: the distance whose decrease precedes rewards.
        frontier: distances that are seldom reached, or that successes end nearer to, the furthest first.
        directed: positions and quantities, each with the direction (1 or -1) that precedes rewards or success.
        features: all of them.
    """

    progress: tuple[Feature, ...]
    gate: Feature | None
    rung: Feature | None
    frontier: tuple[Feature, ...]
    directed: tuple[tuple[Feature, float], ...]
    features: tuple[Feature, ...]


def value_range(sparse: Json) -> float:
    """Return the size of the return's range: as declared, else as seen on the curve; 1 where nothing varies."""
    if sparse["return_range"]:
        low, high = sparse["return_range"]
    else:
        # What nobody has declared is taken from what was seen.
        returns = [row[1] for row in sparse["curve"]] + [sparse["return_now"] or 0.0, sparse["return_best"] or 0.0]
        low, high = min(returns), max(returns)
    return float(high - low) if high > low else 1.0


def kinds_of_agents(evidence: Json) -> list[list[Feature]]:
    """Return the features by kind of agent.

    That is one list for all agents where every group has the same features, else one a group.
    """
    groups = [item["group"] for item in evidence["behaviour"]]
    by_group = {group: [row for row in evidence["features"] if row["group"] == group] for group in groups}
    sizes = {item["group"]: len(item["events_per_agent"]) for item in evidence["behaviour"]}
    names = [[row["name"] for row in by_group[group]] for group in groups]
    # A term may then be written for `all`, over the features of whichever group an agent is of.
    if all(group_names == names[0] for group_names in names):
        columns = zip(*by_group.values(), strict=True)
        kinds = [[_feature(_merged(column), "all", sum(sizes.values()) > 1, _done_by(column)) for column in columns]]
    else:
        kinds = [[_feature(row, group, sizes[group] > 1, group) for row in by_group[group]] for group in groups]
    return [[feature for feature in features if feature is not None] for features in kinds]


def feature_roles(features: Sequence[Feature]) -> FeatureRoles:
    """Sort the features of one kind of agent into the roles that they can play."""
    # Progress counts up, distances count down.
    distances = [feature for feature in features if feature.kind == "distance"]
    progress = [feature for feature in features if feature.grows]

    # The gate comes last among those that most episodes complete: what follows it can only be done after it.
    reached = [feature for feature in progress if (feature.reached_high or 0.0) > NEVER]
    usual = 0.8 * max((feature.reached_high or 0.0 for feature in reached), default=0.0)
    gates = [feature for feature in reached if (feature.reached_high or 0.0) >= usual]

    # The rung is what agents learn to approach today; the frontier is what comes after it.
    approached = [feature for feature in distances if feature.approached]
    rung = min(approached, key=lambda feature: feature.change or 0.0, default=None)
    frontier = [feature for feature in distances if feature is not rung and feature.is_frontier]

    def distance_order(feature: Feature) -> tuple[float, float]:
        # Never reached ones first, among them the one that agents are furthest from.
        reached = feature.reached_low or 0.0
        return ((0.0 if reached < NEVER else reached) + (feature.gap or 0.0), -feature.mean)

    # A position leads where successes end apart from failures, else where it goes before rewards.
    directed = []
    for feature in features:
        if feature.kind in ("position", "quantity"):
            strength = feature.gap if feature.gap is not None and abs(feature.gap) > 0.1 else feature.change or 0.0
            if abs(strength) > NEVER:
                directed.append((feature, strength))
    directed.sort(key=lambda pair: -abs(pair[1]))

    return FeatureRoles(
        progress=tuple(sorted(progress, key=lambda feature: -feature.mean)),
        gate=min(gates, key=lambda feature: feature.mean, default=None),
        rung=rung,
        frontier=tuple(sorted(frontier, key=distance_order)),
        directed=tuple((feature, math.copysign(1.0, strength)) for feature, strength in directed),
        features=tuple(features),
    )


def never_reached(features: Sequence[Feature]) -> list[Feature]:
    """Return the distances that no agent ever closes, the furthest first."""
    never = [f for f in features if f.kind == "distance" and f.reached_low is not None and f.reached_low < NEVER]
    return sorted(never, key=lambda feature: -feature.mean)


def _merged(rows: Sequence[Json]) -> Json:
    """Merge a feature of several groups: bounds enclose, statistics are means over the groups that know them."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    merge: dict[str, Callable[[list[float]], float]] = {
        "low": min, "high": max, "seen_low": min, "seen_high": max,
        "mean": mean, "start": mean, "end_success": mean, "end_failure": mean,
        "reached_low_share": mean, "reached_high_share": mean, "change_before_reward": mean,
    }  # fmt: skip
    # Name, kind and unit are those of the first group.
    merged = dict(rows[0])
    for key, function in merge.items():
        values = [row[key] for row in rows if row[key] is not None]
        merged[key] = function(values) if values else None
    return merged


def _done_by(rows: Sequence[Json]) -> str:
    """Return the group of the row whose agents are nearest right before it is done, `all` where that is not known."""
    known = [row for row in rows if row["before_done"] is not None]
    return str(min(known, key=lambda row: row["before_done"])["group"]) if len(known) == len(rows) > 1 else "all"


def _feature(row: Json, agents: str, has_mates: bool, done_by: str) -> Feature | None:
    """Scale a feature of the evidence; None where it has no range that an expression could be scaled by."""
    # A range that was declared, else the one that was seen.
    low = row["low"] if row["low"] is not None else row["seen_low"]
    high = row["high"] if row["high"] is not None else row["seen_high"]
    if low is None or high is None or not low < high or max(abs(low), high - low) > LARGEST or high - low < SMALLEST:
        return None
    span = high - low

    def scaled(value: float | None, offset: float) -> float | None:
        return None if value is None else (value - offset) / span

    # Both ends are needed for the difference.
    gap = None
    if row["end_success"] is not None and row["end_failure"] is not None:
        gap = scaled(row["end_success"], row["end_failure"])
    return Feature(
        name=row["name"],
        agents=agents,
        kind=row["kind"],
        low=low,
        span=span,
        mean=scaled(row["mean"], low) or 0.0,
        start=scaled(row["start"], low),
        seen=scaled(row["seen_high"], row["seen_low"] or 0.0) or 0.0,
        reached_low=row["reached_low_share"],
        reached_high=row["reached_high_share"],
        change=scaled(row["change_before_reward"], 0.0),
        gap=gap,
        has_mates=has_mates,
        done_by=done_by if row["kind"] == "distance" and row["done"] is not None else None,
    )


def _number(value: float) -> str:
    """Write a number with at most six decimals and without exponent: expressions take plain numbers."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
