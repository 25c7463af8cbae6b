"""JSON schemas of answers that name the task's own keys, features and groups, so that a server which writes by a
grammar cannot name what is not there. They have no descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

from ...rl.signals.terms import TERM_KINDS
from ..evidence_view import shown
from ..llm.parse import json_schema
from ..prompt_payload import Json, Payload
from ..rules.features import Feature, kinds_of_agents
from ..schemas import Diagnosis, ProposalRanking, ProposalSet
from .text import by_name

MAX_TERMS = 3  # of a proposal
MAX_PARTS = 3  # of an expression


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
    # Servers that write by a grammar keep this order: what is seen, and then its name.
    properties["failure"] = properties.pop("failure")
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
    for part in ("TableRow", "GoalObject", "GoalAttribute"):  # of kinds that small models do not propose
        del definitions[part]
    for name, kind in ((term.__name__, kind) for kind, term in TERM_KINDS.items()):
        term = definitions.pop(name)
        if kind not in kinds:
            continue
        for scope in ("all", *(groups if len(groups) > 1 else [])):
            features, events = _features_of(evidence, scope), _events_of(evidence, scope)
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
    for name, definition in (("exploration", "Exploration"), ("learner", "LearnerSettings")):
        del proposal[name], definitions[definition]
    # One is enough: small models fill a list that must be longer with copies.
    schema["properties"]["proposals"] |= {"minItems": 1, "maxItems": candidates}
    return schema


def expression_pattern(features: Sequence[Feature]) -> str:
    """Return a pattern of expressions over these features: a sum of one to three parts, each feature over its range.

    | part | what it says |
    |---|---|
    | `-d / 16` | nearer is better, of a distance; less is better, of a position or quantity |
    | `c / 3` | more is better, of a count, a flag, or any feature that is no distance |
    | `f * (1 - d / 16)`, `(c > 1.9) * (1 - d / 16)` | nearer is better, once a flag or count is at its top |
    | `f * c / 3` | more is better, then |

    Where it is kept no name is misspelt and no sign is wrong. It is far narrower than the language.
    """
    distances = _one_of(feature.up() for feature in features if feature.kind == "distance")
    free = _one_of(feature.up() for feature in features if feature.kind in ("position", "quantity"))
    others = _one_of(feature.up() for feature in features if feature.kind != "distance")
    gates = _one_of(feature.at_high() for feature in features if feature.kind in ("count", "flag"))
    rising = [others] if others else []
    if gates and distances:
        rising.append(f"{gates} \\* \\(1 - {distances}\\)")
    if gates and others:
        rising.append(f"{gates} \\* {others}")
    falling = [part for part in (distances, free) if part]
    first = "|".join([*(f"-{part}" for part in falling), *rising])
    further = "|".join([*(f" - {part}" for part in falling), *(f" \\+ {part}" for part in rising)])
    return f"^({first})({further}){{0,{MAX_PARTS - 1}}}$"


def _one_of(texts: Iterable[str]) -> str:
    """Return a pattern of one of these texts; empty where there is none."""
    literals = [re.sub(r"[()*+]", r"\\\g<0>", text).replace(".", "[.]") for text in texts]
    return f"({'|'.join(literals)})" if literals else ""


def _features_of(evidence: Json, scope: str) -> list[Feature]:
    """Return the features that agents of a group have, or of `all` groups."""
    groups = [item["group"] for item in evidence["behaviour"]]
    kinds = kinds_of_agents(evidence)
    if len(kinds) == 1:  # all groups have the same
        return kinds[0]
    if scope != "all":
        return kinds[groups.index(scope)]
    shared = set.intersection(*({feature.name for feature in kind} for kind in kinds))
    return [feature for feature in kinds[0] if feature.name in shared]


def _events_of(evidence: Json, scope: str) -> list[str]:
    """Return the names of events that agents of a group have, or of `all` groups."""
    groups = {item["group"] for item in evidence["behaviour"]} if scope == "all" else {scope}
    return [name for name, rows in by_name(evidence["events"]).items() if groups <= {row["group"] for row in rows}]


def ranking_schema(ids: Sequence[str]) -> Json:
    """Return the schema of an order of these proposals."""
    schema: Json = _bare(json_schema(ProposalRanking))
    order = {
        "type": "array",
        "items": {"type": "string", "enum": list(ids)},
        "minItems": len(ids),
        "maxItems": len(ids),
    }
    schema["properties"]["reason"]["maxLength"] = 200
    del schema["properties"]["order"]
    schema["properties"]["order"] = order  # after the reason, where a server keeps the order
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
