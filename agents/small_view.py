"""What small prompts show: the payload of a prompt in lines of text, what bears on the question first and the rest cut.

    Payload  ->  task_text: the rules of the task and its features' meanings, the same all through a run
             ->  figures: the state of learning, a line a feature or event, the end of a failed episode
             ->  history_text, and JSON schemas that name the task's own keys, features and groups

Schemas of answers are narrowed to what can be said about this task, so that a server that writes by a grammar cannot
name what is not there. What they allow, `schemas.py` does too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from .evidence_view import shown
from .llm.parse import json_schema
from .prompt_payload import Json, Payload, most_relevant, names_in_terms
from .rules.features import Feature, feature_roles, kinds_of_agents, never_reached
from .schemas import Diagnosis, ProposalRanking, ProposalSet

MAX_TASK = 900  # characters of the task's description
MAX_MEANING = 110  # characters of a feature's or event's description
MAX_TEXT = 200  # characters of an explanation
MAX_NAMES = 8  # features, and events
MAX_ROWS = 14  # of either, where groups have rows of their own
MAX_HISTORY = 4  # entries
MAX_LINES = 3  # of a failed episode, the last ones
MAX_TERMS = 3  # of a proposal
MAX_NEVER = 3  # distances that nobody closes, the furthest first
_TERMS = {"PotentialTerm": "potential", "EventTerm": "event", "LearnedTerm": "learned"}  # of a schema → its kind


# ---------------------------------------------------------------- the task and its figures


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
    for name, rows in _by_name(evidence["features"]).items():
        first = rows[0]
        groups = "" if len(rows) == len(evidence["behaviour"]) else f", only {', '.join(row['group'] for row in rows)}"
        done = "" if first["done"] is None else f", {first['done']:g} when done"
        meaning = _cut(first["description"], MAX_MEANING)
        lines.append(f"feature {name}: {first['kind']} {first['low']:g} to {first['high']:g}{done}{groups}. {meaning}")
    for name, rows in _by_name(evidence["events"]).items():
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
    never = never_reached([feature for kind in kinds_of_agents(evidence) for feature in kind])
    if never:
        lines.append(f"never reached: {', '.join(feature.name for feature in never[:MAX_NEVER])}")
    if evidence["idle_tail"] is not None:
        lines.append(f"idle_tail {_number(evidence['idle_tail'])}")
    lines += [f"terms.{term['name']}: share {_number(term['share'])}" for term in evidence["terms"]]
    lines.append(f"signal in force: {_terms_text(evidence['signal'])}")
    failed = next((episode for episode in evidence["episodes"] if episode["outcome"] != "successful"), None)
    if failed is not None:
        lines.append("end of a failed episode:")
        lines += [_cut(line, MAX_TEXT) for line in failed["lines"][-MAX_LINES:]]
    return "\n".join(lines)


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


def _by_name(rows: Sequence[Json]) -> dict[str, list[Json]]:
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


# ---------------------------------------------------------------- worked examples


def worked_diagnosis(payload: Payload) -> Json:
    """Return an answer of the Critic that cites keys of this evidence, as an example of its form."""
    place, rows = next(iter(shown(payload["evidence"])["features"].items()), ("", {}))
    cites = ["sparse.trend", *(f"features.{place}.{name}" for name in list(rows)[:1])]
    text = "Trend and this feature say what keeps the return where it is."
    return {
        "findings": [{"failure": "plateau", "cites": cites, "explanation": text}],
        "advice": "What the signal should reward next.",
    }


def worked_proposals(payload: Payload) -> Json:
    """Return an answer of the Generator over features of this evidence, which `check` takes: one proposal.

    It pays for what agents do already: something that is counted, and the distance before it. Where there is neither,
    for one feature that varies.
    """
    evidence, terms = payload["evidence"], list[Json]()
    for features in kinds_of_agents(evidence):
        roles = feature_roles(features)
        moving = [feature for feature in roles.features if feature.seen > 0]
        distances = [feature for feature in moving if feature.kind == "distance"]
        near = roles.rung or next(iter(distances), None)
        parts = [(feature, 1.0) for feature in roles.progress[:1]]
        parts += [(near, -1.0)] if near is not None else []
        parts = parts or [(feature, sign) for feature, sign in roles.directed[:1]]
        parts = parts or [(feature, 1.0) for feature in moving[:1]]
        for feature, sign in parts:
            expression = feature.up() if sign > 0 else f"-{feature.up()}"
            terms.append(_term(f"part_{len(terms) + 1}", expression, feature))
    diagnosis = payload["diagnosis"] or {"findings": []}
    failures = [finding["failure"] for finding in diagnosis["findings"]] or ["plateau"]
    return {
        "proposals": [
            {
                "title": "What is done already",
                "reason": "It pays each step of what agents reach today.",
                "addresses": failures[:1],
                "beta": 0.5,
                "terms": terms[:MAX_TERMS],
            }
        ]
    }


def expression_forms(payload: Payload) -> list[str]:
    """Return expressions over features of this evidence, each with what it says, for the Generator to build from."""
    features = [feature for kind in kinds_of_agents(payload["evidence"]) for feature in kind]
    distances = [feature for feature in features if feature.kind == "distance"]
    steps = [feature for feature in features if feature.kind in ("count", "flag")]
    lines = [f"-{feature.up()}   nearer is better" for feature in distances[:1]]
    lines += [f"{feature.up()}   more is better" for feature in steps[:1]]
    if distances and steps:
        gate, behind = steps[-1], min(distances, key=lambda feature: feature.reached_low or 0.0)
        lines.append(f"{gate.at_high()} * (1 - {behind.up()})   nearer counts once the first is at its top")
    return lines


def _term(name: str, expression: str, feature: Feature) -> Json:
    return {"name": name, "kind": "potential", "expression": expression, "weight": 1.0, "agents": feature.agents}


# ---------------------------------------------------------------- schemas


def diagnosis_schema(payload: Payload) -> Json:
    """Return the schema of a diagnosis that cites keys of this evidence."""
    schema: Json = _bare(json_schema(Diagnosis))
    properties = schema["$defs"]["Finding"]["properties"]
    properties["cites"] = {
        "type": "array",
        "items": {"type": "string", "enum": list(_citable(payload))},
        "minItems": 1,
        "maxItems": 3,
    }
    properties["explanation"]["maxLength"] = 250
    schema["properties"]["findings"]["maxItems"] = 2
    schema["properties"]["advice"]["maxLength"] = 250
    del schema["properties"]["went_wrong_at"], schema["properties"]["went_wrong_because"]
    return schema


def proposals_schema(payload: Payload, candidates: int, kinds: Sequence[str]) -> Json:
    """Return the schema of proposals for this task, with few terms, over features and events that their agents have.

    A term has a definition for each kind and each scope: all agents, with what every group has, and one group.
    """
    schema: Json = _bare(json_schema(ProposalSet))
    definitions, evidence = schema["$defs"], payload["evidence"]
    groups = [item["group"] for item in evidence["behaviour"]]
    items = []
    for name, kind in _TERMS.items():
        term = definitions.pop(name)
        if kind not in kinds:
            continue
        for scope in ("all", *(groups if len(groups) > 1 else [])):
            inside = set(groups) if scope == "all" else {scope}
            features, events = (_names_of(evidence[part], inside) for part in ("features", "events"))
            if (kind == "potential" and not features) or (kind == "event" and not events):
                continue
            own = deepcopy(term)
            properties = own["properties"]
            properties["agents"] = {"type": "string", "enum": [scope]}
            properties.pop("anneal_steps", None)
            if kind == "potential":
                properties["expression"] = {"type": "string", "pattern": expression_pattern(features)}
            elif kind == "event":
                properties["event"] = {"type": "string", "enum": events}
            definitions[f"{name}_{scope}"] = own
            items.append({"$ref": f"#/$defs/{name}_{scope}"})
    # No terms at all is an answer only where there is something to take away.
    least = 0 if evidence["signal"]["terms"] else 1
    proposal = definitions["Proposal"]["properties"]
    proposal["terms"] = {"type": "array", "items": {"anyOf": items}, "minItems": least, "maxItems": MAX_TERMS}
    proposal["reason"]["maxLength"] = 200
    proposal["addresses"]["maxItems"] = 2
    del proposal["exploration"], definitions["Exploration"]
    # One is enough: small models fill a list that must be longer with copies.
    schema["properties"]["proposals"] |= {"minItems": 1, "maxItems": candidates}
    return schema


def expression_pattern(names: Sequence[str]) -> str:
    """Return a pattern of expressions over these features: sums and products, with brackets of one depth.

    Where it is kept no name is misspelt, no bracket left open and no number stands alone in front. It is narrower than
    the language: small models use functions and conditions wrongly.
    """
    atom = f"({'|'.join(names)}|(0|[1-9][0-9]{{0,2}})([.][0-9]{{1,2}})?)"
    bracket = f"\\({atom}(( (\\+|-|\\*|/) {atom}){{1,3}}| (<|<=|>|>=|==) {atom})\\)"
    factor = f"({atom}|{bracket})"
    return f"^-?({'|'.join(names)}|{bracket})( (\\+|-|\\*|/) {factor}){{0,5}}$"


def _names_of(rows: Sequence[Json], groups: set[str]) -> list[str]:
    """Return the names that all of these groups have."""
    return [name for name, found in _by_name(rows).items() if groups <= {row["group"] for row in found}]


def ranking_schema(ids: Sequence[str]) -> Json:
    """Return the schema of an order of these proposals."""
    schema: Json = _bare(json_schema(ProposalRanking))
    order = {
        "type": "array",
        "items": {"type": "string", "enum": list(ids)},
        "minItems": len(ids),
        "maxItems": len(ids),
    }
    schema["properties"]["order"] = order
    schema["properties"]["reason"]["maxLength"] = 200
    return schema


def _citable(payload: Payload) -> Iterator[str]:
    """Give the keys that a small prompt shows."""
    view = shown(payload["evidence"])
    yield from (f"sparse.{field}" for field in ("return_now", "trend", "spread", "success_rate"))
    yield from (f"behaviour.{group}.{field}" for group in view["behaviour"] for field in ("no_effect_share", "entropy"))
    for part in ("features", "events"):
        yield from (f"{part}.{place}.{name}" for place, rows in view[part].items() for name in rows)
    yield from (f"terms.{term['name']}.share" for term in payload["evidence"]["terms"])
    yield from ("idle_tail", "episodes")


def _bare(schema: Any) -> Any:
    """Return a schema without descriptions and defaults; properties of these names stay."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return deepcopy(schema)
    bare = {key: _bare(item) for key, item in schema.items() if key not in ("description", "default", "properties")}
    if "properties" in schema:
        bare["properties"] = {name: _bare(item) for name, item in schema["properties"].items()}
    return bare
