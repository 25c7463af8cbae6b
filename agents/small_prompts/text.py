"""The payload of a prompt in lines of text: what bears on the question first, and the rest cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evidence_view import shown
from ..prompt_payload import Json, Payload, most_relevant, names_in_terms
from ..rules.features import kinds_of_agents, never_reached

MAX_TASK = 900  # characters of the task's description
MAX_MEANING = 110  # characters of a feature's or event's description
MAX_TEXT = 200  # characters of an explanation
MAX_NAMES = 8  # features, and events
MAX_ROWS = 14  # of either, where groups have rows of their own
MAX_HISTORY = 4  # entries
MAX_LINES = 3  # of a failed episode, the last ones
MAX_NEVER = 3  # distances that nobody closes, the furthest first


def task_text(payload: Payload) -> str:
    """Return what does not change in a run: the task, its groups and agents, and what its features and events mean."""
    evidence = payload["evidence"]
    task = evidence["task"]
    # Lines without a blank are rows of a map, which small models cannot read.
    described = [line for line in str(task.get("description", "")).splitlines() if " " in line.strip()]
    lines = [_cut(" ".join(described), MAX_TASK)]
    for item in evidence["behaviour"]:
        agents = ", ".join(agent for agent, _ in item["events_per_agent"])
        lines.append(f"group {item['group']}: agents {agents}")
    for name, rows in by_name(evidence["features"]).items():
        first = rows[0]
        groups = "" if len(rows) == len(evidence["behaviour"]) else f", only {', '.join(row['group'] for row in rows)}"
        done = "" if first["done"] is None else f", {first['done']:g} when done"
        meaning = _cut(first["description"], MAX_MEANING)
        lines.append(f"feature {name}: {first['kind']} {first['low']:g} to {first['high']:g}{done}{groups}. {meaning}")
    for name, rows in by_name(evidence["events"]).items():
        paid = f", pays {rows[0]['reward']:g}" if rows[0]["reward"] else ""
        lines.append(f"event {name}{paid}. {_cut(rows[0]['description'], MAX_MEANING)}")
    return "\n".join(line for line in lines if line)


def figures(payload: Payload) -> str:
    """Return the state of learning as text, a key that may be cited at the start of each line but the last ones."""
    evidence = payload["evidence"]
    sparse, view = evidence["sparse"], shown(evidence)
    success = "" if sparse["success_rate"] is None else f", success_rate {sparse['success_rate']:g}"
    lines = [
        f"stage {evidence['stage']}",
        f"sparse: return_now {_number(sparse['return_now'])}, return_best {_number(sparse['return_best'])}, "
        f"return_range {sparse['return_range']}, trend {_number(sparse['trend'])}, spread {_number(sparse['spread'])}"
        f"{success}",
    ]
    for group, row in view["behaviour"].items():
        lines.append(
            f"behaviour.{group}: entropy {_number(row['entropy'])} of {_number(row['entropy_max'])}, "
            f"no_effect_share {_number(row['no_effect_share'])}"
        )
    kinds = {row["name"]: row["kind"] for row in evidence["features"]}
    for place, rows in view["features"].items():
        lines += [f"features.{place}.{name}: {_statistics(row, kinds[name])}" for name, row in rows.items()]
    for place, rows in view["events"].items():
        for name, row in rows.items():
            when = [f", {key} {row[key]:.3g}" for key in ("first_step", "last_step") if key in row]
            lines.append(f"events.{place}.{name}: per_episode {_number(row['per_episode'])}{''.join(when)}")
    if never := never_reached_names(payload):
        lines.append(f"never reached: {', '.join(never)}")
    if evidence["idle_tail"] is not None:
        lines.append(f"idle_tail {_number(evidence['idle_tail'])}")
    lines += [f"terms.{term['name']}: share {_number(term['share'])}" for term in evidence["terms"]]
    lines.append(f"signal in force: {_terms_text(evidence['signal'])}")
    failed = next((episode for episode in evidence["episodes"] if episode["outcome"] != "successful"), None)
    if failed is not None:
        lines.append("end of a failed episode:")
        lines += [_cut(line, MAX_TEXT) for line in failed["lines"][-MAX_LINES:]]
    return "\n".join(lines)


def never_reached_names(payload: Payload) -> list[str]:
    """Return the distances that no agent ever closes, the furthest first."""
    features = [feature for kind in kinds_of_agents(payload["evidence"]) for feature in kind]
    return [feature.name for feature in never_reached(features)[:MAX_NEVER]]


def diagnosis_text(payload: Payload) -> str:
    """Return the Critic's findings as text."""
    diagnosis = payload["diagnosis"] or {"findings": [], "advice": ""}
    lines = [f"{row['failure']}: {_cut(row['explanation'], MAX_TEXT)}" for row in diagnosis["findings"]]
    return "\n".join([*lines, *([f"advice: {_cut(diagnosis['advice'], MAX_TEXT)}"] if diagnosis["advice"] else [])])


def history_text(payload: Payload) -> str:
    """Return the newest of what was tried as text, oldest first; empty where nothing was."""
    lines = []
    for tried in payload["history"][-MAX_HISTORY:]:
        gain = "" if tried["gain"] is None else f", gain {tried['gain']:g}"
        moved = "".join(f", moved {row[0]}" for row in tried.get("moved", ())[:2])
        wish = f", a human wrote: {_cut(tried['declined_because'], MAX_TEXT)}" if "declined_because" in tried else ""
        lines.append(f"{tried['verdict']}{gain}{moved}{wish}: {_terms_text(tried['proposal'])}")
    return "\n".join(lines)


def proposals_text(rows: Sequence[Json]) -> str:
    """Return proposals as the Ranker's rows have them, a line each, with the numbers that tell most."""
    lines = []
    for row in rows:
        numbers = row.get("numbers", {})
        told = ("phi_start", "phi_end_failed", "phi_end_success", "paid_share", "return_correlation")
        shown_numbers = ", ".join(f"{key} {_number(numbers[key])}" for key in told if numbers.get(key) is not None)
        lines.append(f"{row['id']}: {_terms_text(row)}" + (f"; {shown_numbers}" if shown_numbers else ""))
    return "\n".join(lines)


def cut_payload(payload: Payload) -> Payload:
    """Return the payload with the features and events that say most, as many as a small prompt has room for."""
    evidence = dict(payload["evidence"])
    in_use = names_in_terms(evidence["signal"]["terms"])
    most = min(MAX_NAMES * len(evidence["behaviour"]), MAX_ROWS)  # a name has a row in each of its groups
    for kind in ("features", "events"):
        evidence[kind] = most_relevant(kind, evidence[kind], most, in_use)
    small: Payload = {**payload, "evidence": evidence}
    return small


def _statistics(row: Json, kind: str) -> str:
    """Return what episodes did with a feature."""
    parts = [f"{key} {_number(row[key])}" for key in ("start", "end_success", "end_failure") if key in row]
    reached = "reached_low_share" if kind == "distance" else "reached_high_share"
    if reached in row:
        parts.append(f"{reached} {_number(row[reached])}")
    if row["seen_low"] == row["seen_high"]:
        parts.append("never changes")
    return ", ".join(parts) or f"mean {_number(row['mean'])}"


def by_name(rows: Sequence[Json]) -> dict[str, list[Json]]:
    """Return rows of features or events by their name, a row of each group that has it."""
    names: dict[str, list[Json]] = {}
    for row in rows:
        names.setdefault(row["name"], []).append(row)
    return names


def _terms_text(signal: Mapping[str, Any]) -> str:
    """Return the terms of a signal or proposal as text."""
    terms = [f"{term['weight']:g} * ({term.get('expression') or term.get('event')})" for term in signal["terms"]]
    return f"beta {signal['beta']:g}: {' + '.join(terms)}" if terms else "no terms"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
