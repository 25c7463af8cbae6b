"""Which rows of the evidence a prompt keeps where a task has more of them than it can carry: the most telling ones.

Rows are ordered by what they show and then by position, never by name, and a name stays or goes in all groups at once:
renaming changes nothing but names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

Json = dict[str, Any]
Row = dict[str, Any]

MAX_FEATURES = 64  # rows, about 20 000 characters
MAX_EVENTS = 32  # rows
MAX_AGENTS = 32  # of a group
MAX_ACTIONS = 32  # of a group
NEVER = 0.05  # share of episodes below which an end counts as not reached
UNREACHED = 0.1  # what an end that is not reached weighs, in changes of the feature's range


def keep_most_telling(evidence: Json, used: Collection[str]) -> dict[str, int]:
    """Cut the lists of `evidence` that grow with the task to their limits, in place.

    `used`: names of features and events that terms are built of; these are kept first. Returns how many rows of each
    kind were left out, kinds without any left out.
    """
    left_out = Counter[str]()
    for kind, most in (("features", MAX_FEATURES), ("events", MAX_EVENTS)):
        rows = evidence[kind]
        evidence[kind] = most_telling(kind, rows, most, used)
        left_out[kind] += len(rows) - len(evidence[kind])
    for item in evidence["behaviour"]:
        left_out["agents"] += len(item["events_per_agent"][MAX_AGENTS:])
        left_out["actions"] += len(item["action_shares"][MAX_ACTIONS:])
        _cut_behaviour(item)
    groups = evidence["task"].get("groups", [])
    evidence["task"] |= {"groups": [_short_group(group) for group in groups]} if groups else {}
    return {kind: count for kind, count in left_out.items() if count}


def most_telling(kind: str, rows: Sequence[Row], most: int, used: Collection[str]) -> list[Row]:
    """At most `most` of the `rows` of `kind` (features or events), in their own order; one name always stays."""
    count = Counter(row["name"] for row in rows)
    kept, total = set[str](), 0
    for name in _by_evidence(rows, _SCORES[kind], used):
        total += count[name]
        if kept and total > most:
            break
        kept.add(name)
    return [row for row in rows if row["name"] in kept]


def names_in(terms: Sequence[Json]) -> set[str]:
    """Features and events that the terms are built of (and the functions' names, which are none)."""
    return {name for term in terms for name in re.findall(r"[a-z]\w*", term.get("expression") or term.get("event", ""))}


def _by_evidence(rows: Sequence[Row], score: Callable[[Row], float], used: Collection[str]) -> list[str]:
    """Names, most telling first; `sorted` is stable, so that ties keep their positions."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["name"]] = max(score(row), best.get(row["name"], 0.0))
    return sorted(best, key=lambda name: (name not in used, -best[name]))


def _feature_score(row: Row) -> float:
    """What precedes rewards, what separates successes from failures, what an episode changes (all in shares of the
    feature's range), and ends that episodes do not reach."""
    low = row["low"] if row["low"] is not None else row["seen_low"]
    high = row["high"] if row["high"] is not None else row["seen_high"]
    if low is None or high is None or not low < high:
        return 0.0
    success, failure, start = row["end_success"], row["end_failure"], row["start"]
    differences = [(row["change_before_reward"], 0.0), (success, failure)]
    differences.append((failure if success is None else success, start))
    known = sum(abs(one - other) for one, other in differences if one is not None and other is not None)
    share = row["reached_low_share" if row["kind"] == "distance" else "reached_high_share"]
    return float(known / (high - low)) + (UNREACHED if share is not None and share < NEVER else 0.0)


def _event_score(row: Row) -> float:
    """What happens most often."""
    return float(row["per_episode"] or 0.0)


_SCORES: dict[str, Callable[[Row], float]] = {"features": _feature_score, "events": _event_score}


def _cut_behaviour(item: Json) -> None:
    """The agents that differ most from the group's mean, and the most frequent actions."""
    agents, actions = item["events_per_agent"], item["action_shares"]
    mean = sum(count or 0.0 for _, count in agents) / max(len(agents), 1)
    item["events_per_agent"] = _largest(agents, MAX_AGENTS, lambda pair: abs((pair[1] or 0.0) - mean))
    item["action_shares"] = _largest(actions, MAX_ACTIONS, lambda pair: pair[1] or 0.0)


def _largest(items: Sequence[Any], most: int, score: Callable[[Any], float]) -> list[Any]:
    """The `most` largest, in their own order."""
    kept = sorted(range(len(items)), key=lambda i: -score(items[i]))[:most]
    return [items[i] for i in sorted(kept)]


def _short_group(group: Json) -> Json:
    limits = {"agents": MAX_AGENTS, "actions": MAX_ACTIONS}
    return {key: value[: limits[key]] if key in limits else value for key, value in group.items()}
