"""JSON schemas of answers that name the task's own keys, features and groups, so that a server which writes by a
grammar cannot name what is not there. They have no descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from ..evidence_view import shown
from ..llm.parse import json_schema
from ..prompt_payload import Json, Payload
from ..schemas import Diagnosis, ProposalRanking, ProposalSet
from .text import by_name

MAX_TERMS = 3  # of a proposal
_TERMS = {"PotentialTerm": "potential", "EventTerm": "event", "LearnedTerm": "learned"}  # of a schema → its kind


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


def _names_of(rows: Sequence[Json], groups: set[str]) -> list[str]:
    """Return the names that all of these groups have."""
    return [name for name, found in by_name(rows).items() if groups <= {row["group"] for row in found}]


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
