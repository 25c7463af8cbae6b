"""Answers and expressions over the task's own features, made of the evidence by fixed rules, as examples."""

from __future__ import annotations

from ..evidence_view import shown
from ..prompt_payload import Json, Payload
from ..rules.features import Feature, feature_roles, kinds_of_agents
from .schemas import MAX_TERMS


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
