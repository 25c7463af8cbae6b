"""What a prompt carries: evidence, diagnosis and history as plain data of bounded size.

Order is the evidence's own order everywhere and never that of names, rows are left out by what they show (`telling`),
and what the embedded rules read is cut last: so renaming features, events and agents changes nothing but names.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import PromptTooLong
from ..rl.evidence.schema import Evidence
from ..rl.signals.terms import TERM_KINDS
from ..rl.stage import STAGES, Stage, TermKind
from .schemas import Diagnosis, Proposal

# ---------------------------------------------------------------- MERGED agents.context

MAX_CHARS = 40_000  # about 12k tokens
MAX_TRIED = 16  # entries of the history
# The first four are the gate's. screened_out: others did better in screening. not_tried: its turn never came.
# rolled_back: accepted, and then the return fell. declined: accepted, and a human said no. stale: accepted, but the run
# had moved on, and a confirmation from where it was did not accept.
Verdict = Literal[
    "accept", "reject", "no_difference", "not_informative", "failed_check", "screened_out", "not_tried", "rolled_back",
    "declined", "stale",
]  # fmt: skip


class Tried(BaseModel):
    """One proposal of the past and what its branches said. Returns are sparse.

    `gain`: mean of (candidate − control) over the seeds; of the screening branches where the gate did not judge it,
    None where it was not run. `gain_low`, `gain_high`: its interval at the gate's level, None where it was not judged.
    `control`: the control's mean final return. `curve`: [steps since the fork, gain].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposal_id: str
    point: int
    round: int
    verdict: Verdict
    proposal: Proposal
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    control: float | None = None
    curve: list[tuple[int, float]] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)


def term_kinds(stage: Stage) -> tuple[TermKind, ...]:
    """Kinds of new terms that may be proposed at `stage`."""
    return STAGES[stage].kinds


def build_payload(
    evidence: Evidence,
    history: Sequence[Tried] = (),
    diagnosis: Diagnosis | None = None,
    max_chars: int = MAX_CHARS,
) -> dict[str, Any]:
    """Plain data {evidence, diagnosis, history} of at most `max_chars` characters of JSON.

    `history`: oldest first, the running intervention's rejected proposals included; the last `MAX_TRIED` are kept. Of
    the lists that grow with the task (features, events, agents, actions) the most telling rows are kept. Cut in this
    order until it fits: key moments, the history's curves and problems, rows of the return curve, texts that describe
    the task, the oldest entries of the history, the least telling features, the least telling events. Terms are never
    cut. Where anything was cut, `left_out` says how much of what.

    Raises:
        PromptTooLong: what must stay is larger than `max_chars`.
    """
    context: dict[str, Any] = {
        "evidence": _rounded(evidence.model_dump(mode="json")),
        "diagnosis": diagnosis.model_dump(mode="json") if diagnosis else None,
        "history": [_rounded(tried.model_dump(mode="json")) for tried in history[-MAX_TRIED:]],
    }
    left_out = keep_most_telling(context["evidence"], _used(context))
    if left_out:
        context["left_out"] = left_out
    for cut in _CUTS:
        while size(context) > max_chars and cut(context):
            pass
    if size(context) > max_chars:
        raise PromptTooLong(
            f"the evidence takes {size(context)!r} characters, a prompt at most {max_chars!r}; "
            "give the task fewer groups, and groups, agents and terms shorter names"
        )
    return context


def size(context: dict[str, Any]) -> int:
    """Characters of `context` as JSON, the way prompts write it."""
    return len(json.dumps(context, ensure_ascii=False))


def evidence_keys(evidence: dict[str, Any]) -> list[str]:
    """The dotted keys that a finding may cite, in the order of the evidence. Deeper paths below them count too."""
    keys = ["stage", "stage_reason", "steps", "signal", "key_moments"]
    keys += [f"sparse.{field}" for field in evidence["sparse"]]
    for item in evidence["behaviour"]:
        keys += [f"behaviour.{item['group']}.{field}" for field in item if field != "group"]
    for part in ("features", "events", "terms"):
        for item in evidence[part]:
            keys += [f"{part}.{item['name']}.{field}" for field in item if field != "name"]
    return keys


def _cut_moment(context: dict[str, Any]) -> bool:
    return _drop_first(context, "key_moments", context["evidence"]["key_moments"])


def _cut_history(context: dict[str, Any]) -> bool:
    return _drop_first(context, "history", context["history"])


def _cut_curves_of_history(context: dict[str, Any]) -> bool:
    for tried in context["history"]:  # oldest first
        if tried["curve"] or tried["problems"]:
            tried["curve"], tried["problems"] = [], []
            return _note(context, "details_of_history", 1)
    return False


def _cut_curve_row(context: dict[str, Any]) -> bool:
    return _drop_first(context, "curve", context["evidence"]["sparse"]["curve"])


def _cut_description(context: dict[str, Any]) -> bool:
    task = context["evidence"]["task"]
    longest = max(task, key=lambda key: len(json.dumps(task[key])), default=None)
    if longest is None or not task[longest]:
        return False
    task[longest] = ""
    return _note(context, "texts_of_task", 1)


def _cut_feature(context: dict[str, Any]) -> bool:
    return _drop_least_telling(context, "features")


def _cut_event(context: dict[str, Any]) -> bool:
    return _drop_least_telling(context, "events")


def _drop_least_telling(context: dict[str, Any], kind: str) -> bool:
    rows = context["evidence"][kind]
    kept = most_telling(kind, rows, len(rows) - 1, _used(context))
    if len(kept) == len(rows):
        return False
    context["evidence"][kind] = kept
    return _note(context, kind, len(rows) - len(kept))


def _used(context: dict[str, Any]) -> set[str]:
    """What the terms in force, and those tried before, are built of: without it the roles could not go on from them."""
    return names_in(context["evidence"]["signal"]["terms"]).union(
        *(names_in(tried["proposal"]["terms"]) for tried in context["history"])
    )


def _drop_first(context: dict[str, Any], kind: str, items: list[Any]) -> bool:
    if not items:
        return False
    del items[0]
    return _note(context, kind, 1)


def _note(context: dict[str, Any], kind: str, count: int) -> bool:
    """Add to what `left_out` says; True, as every cut that was made."""
    left_out = context.setdefault("left_out", {})
    left_out[kind] = left_out.get(kind, 0) + count
    return True


# In this order; what the embedded rules read comes last.
_CUTS: tuple[Callable[[dict[str, Any]], bool], ...] = (
    _cut_moment, _cut_curves_of_history, _cut_curve_row, _cut_description, _cut_history, _cut_feature, _cut_event,
)  # fmt: skip


def _rounded(value: Any) -> Any:
    """Four significant digits: more says nothing and costs tokens. Not-a-number becomes None."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


# ---------------------------------------------------------------- MERGED agents.telling
# DOC """Which rows of the evidence a prompt keeps where a task has more of them than it can carry: the most telling ones.
# DOC
# DOC Rows are ordered by what they show and then by position, never by name, and a name stays or goes in all groups at once:
# DOC renaming changes nothing but names.
# DOC """

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
    texts = [term.get(TERM_KINDS[term["kind"]].reads_from, "") for term in terms]
    return {name for text in texts for name in re.findall(r"[a-z]\w*", text)}


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
