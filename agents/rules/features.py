"""What the embedded rules read out of the evidence: features as numbers in 0..1, and what each could serve as.

Only kind, range and statistics are looked at, never a name, and ties go by position: renaming changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

NEVER = 0.05  # share of episodes below which something counts as never reached
LARGEST, SMALLEST = 1e6, 1e-4  # of the numbers that an expression may hold
APPROACH = -0.03  # change before a reward, in ranges, below which an approach precedes rewards


@dataclass(frozen=True)
class Feature:
    """One feature for one kind of agent. Everything but `low` and `span` is in units of `span`, None where unknown.

    `agents`: for the terms over it. `gap`: mean at the end of successes minus at the end of failures.
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

    @property
    def approached(self) -> bool:
        """An approach precedes rewards, or successes end nearer to it than failures."""
        return (self.change or 0.0) <= APPROACH

    def up(self) -> str:
        """Expression that grows from 0 to 1 with the feature."""
        shifted = (
            self.name if self.low == 0 else f"({self.name} {'-' if self.low > 0 else '+'} {_number(abs(self.low))})"
        )
        return shifted if self.span == 1 else f"{shifted} / {_number(self.span)}"

    def at_high(self) -> str:
        """Expression that is 1 where the feature is at its high end and 0 elsewhere."""
        if self.kind == "flag" and self.low == 0 and self.span == 1:
            return self.name
        return f"({self.name} > {_number(self.low + 0.95 * self.span)})"

    def over_team(self, function: str) -> str:
        """`up()` of the smallest (`min`) or largest (`max`) value in the team."""
        inner = f"{function}({self.name}, {function}_mates({self.name}))"
        shifted = inner if self.low == 0 else f"({inner} {'-' if self.low > 0 else '+'} {_number(abs(self.low))})"
        return f"{shifted} / {_number(self.span)}"


@dataclass(frozen=True)
class FeatureRoles:
    """What the features of one kind of agent can serve as.

    `progress`: counts and flags that grow. `gate`: the latest of them that episodes do reach. `rung`: the distance
    whose decrease precedes rewards. `frontier`: distances that are seldom reached, or that successes end nearer to,
    the furthest first. `directed`: positions and quantities, each with the direction that precedes rewards or success.
    """

    progress: tuple[Feature, ...]
    gate: Feature | None
    rung: Feature | None
    frontier: tuple[Feature, ...]
    directed: tuple[tuple[Feature, float], ...]
    features: tuple[Feature, ...]


def value_range(sparse: Json) -> float:
    """Size of the return's range: the declared one, else the one seen on the curve; 1 where nothing varies."""
    if sparse["return_range"]:
        low, high = sparse["return_range"]
    else:
        returns = [row[1] for row in sparse["curve"]] + [sparse["return_now"] or 0.0, sparse["return_best"] or 0.0]
        low, high = min(returns), max(returns)
    return float(high - low) if high > low else 1.0


def kinds_of_agents(evidence: Json) -> list[list[Feature]]:
    """Features by kind of agent: one list for all agents where every group has the same features, else one a group."""
    groups = [item["group"] for item in evidence["behaviour"]]
    by_group = {group: [raw for raw in evidence["features"] if raw["group"] == group] for group in groups}
    agents = {item["group"]: len(item["events_per_agent"]) for item in evidence["behaviour"]}
    names = [[raw["name"] for raw in by_group[group]] for group in groups]
    if all(group_names == names[0] for group_names in names):
        columns = zip(*by_group.values(), strict=True)
        return [_known([_feature(_merged(column), "all", sum(agents.values()) > 1) for column in columns])]
    return [_known([_feature(raw, group, agents[group] > 1) for raw in by_group[group]]) for group in groups]


def feature_roles(features: Sequence[Feature]) -> FeatureRoles:
    """Sort the features of one kind of agent into the roles that they can play."""
    distances = [feature for feature in features if feature.kind == "distance"]
    progress = [feature for feature in features if _grows(feature)]
    approached = [feature for feature in distances if feature.approached]
    rung = min(approached, key=lambda feature: feature.change or 0.0, default=None)
    frontier = [feature for feature in distances if feature is not rung and _is_frontier(feature)]
    return FeatureRoles(
        progress=tuple(sorted(progress, key=lambda feature: -feature.mean)),
        gate=_gate(progress),
        rung=rung,
        frontier=tuple(sorted(frontier, key=_frontier_order)),
        directed=_directed(features),
        features=tuple(features),
    )


def never_reached(features: Sequence[Feature]) -> list[Feature]:
    """Distances that no agent ever closes, the furthest first."""
    found = [f for f in features if f.kind == "distance" and f.reached_low is not None and f.reached_low < NEVER]
    return sorted(found, key=lambda feature: -feature.mean)


def _known(features: Sequence[Feature | None]) -> list[Feature]:
    return [feature for feature in features if feature is not None]


def _grows(feature: Feature) -> bool:
    starts_high = feature.start is not None and feature.start > 0.9
    against = feature.gap is not None and feature.gap < -0.1
    return feature.kind in ("count", "flag") and feature.seen > NEVER and not starts_high and not against


def _gate(progress: Sequence[Feature]) -> Feature | None:
    """The one that comes last among those that most episodes complete: what follows it can only be done after it."""
    reached = [feature for feature in progress if (feature.reached_high or 0.0) > NEVER]
    if not reached:
        return None
    usual = 0.8 * max(feature.reached_high or 0.0 for feature in reached)
    return min((f for f in reached if (f.reached_high or 0.0) >= usual), key=lambda feature: feature.mean)


def _is_frontier(feature: Feature) -> bool:
    seldom = feature.reached_low is not None and feature.reached_low < 0.5
    wanted = feature.gap is not None and feature.gap < -0.2
    shunned = feature.gap is not None and feature.gap > 0.2
    return (seldom or wanted) and not shunned


def _frontier_order(feature: Feature) -> tuple[float, float]:
    """Never reached ones first, among them the one that agents are furthest from."""
    reached = feature.reached_low or 0.0
    return ((0.0 if reached < NEVER else reached) + (feature.gap or 0.0), -feature.mean)


def _directed(features: Sequence[Feature]) -> tuple[tuple[Feature, float], ...]:
    found = []
    for feature in features:
        if feature.kind not in ("position", "quantity"):
            continue
        strength = feature.gap if feature.gap is not None and abs(feature.gap) > 0.1 else feature.change or 0.0
        if abs(strength) > NEVER:
            found.append((feature, strength))
    found.sort(key=lambda pair: -abs(pair[1]))
    return tuple((feature, math.copysign(1.0, strength)) for feature, strength in found)


def _feature(raw: Json, agents: str, has_mates: bool) -> Feature | None:
    """None where the feature has no range that an expression could be scaled by."""
    low = raw["low"] if raw["low"] is not None else raw["seen_low"]
    high = raw["high"] if raw["high"] is not None else raw["seen_high"]
    if low is None or high is None or not low < high or max(abs(low), high - low) > LARGEST or high - low < SMALLEST:
        return None
    span = high - low

    def scaled(value: float | None, offset: float) -> float | None:
        return None if value is None else (value - offset) / span

    gap = None
    if raw["end_success"] is not None and raw["end_failure"] is not None:
        gap = scaled(raw["end_success"], raw["end_failure"])
    return Feature(
        name=raw["name"],
        agents=agents,
        kind=raw["kind"],
        low=low,
        span=span,
        mean=scaled(raw["mean"], low) or 0.0,
        start=scaled(raw["start"], low),
        seen=scaled(raw["seen_high"], raw["seen_low"] or 0.0) or 0.0,
        reached_low=raw["reached_low_share"],
        reached_high=raw["reached_high_share"],
        change=scaled(raw["change_before_reward"], 0.0),
        gap=gap,
        has_mates=has_mates,
    )


def _merged(column: Sequence[Json]) -> Json:
    """One feature of several groups as one: bounds enclose, statistics are means over the groups that know them."""
    merged = dict(column[0])
    choose: dict[str, Callable[[list[float]], float]] = {"low": min, "seen_low": min, "high": max, "seen_high": max}
    for key in ("low", "high", "seen_low", "seen_high", "mean", "start", "end_success", "end_failure",
                "reached_low_share", "reached_high_share", "change_before_reward"):  # fmt: skip
        values = [raw[key] for raw in column if raw[key] is not None]
        merged[key] = choose.get(key, _mean)(values) if values else None
    return merged


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _number(value: float) -> str:
    """At most six decimals, without exponent: expressions take plain numbers."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
