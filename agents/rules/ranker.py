"""The embedded Ranker: a transparent score. It orders the branch budget and decides nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ProviderError
from .features import Json, kinds_of_agents, never_reached


def ranking(block: Mapping[str, Any]) -> Json:
    """Return the answer of schema `ProposalRanking`. Ties keep the Generator's order.

    Raises:
        ProviderError: the block holds no proposals but single agents' moves; rules cannot read those.
    """
    if "proposals" not in block:
        raise ProviderError(
            f"provider 'rules' is no language model and ranks proposals only, got a block with {list(block)!r}; "
            "name a model by llm.ranker"
        )
    scored = [(score(proposal, block), proposal["id"]) for proposal in block["proposals"]]
    best_first = sorted(scored, key=lambda pair: -pair[0])
    listed = ", ".join(f"{identity}: {points:.2f}" for points, identity in best_first)
    reason = f"Score by what it addresses, what it reaches and how simple it is: {listed}."
    return {"kind": "proposals", "order": [identity for _, identity in best_first], "reason": reason[:600]}


def score(proposal: Json, block: Mapping[str, Any]) -> float:
    """Return the points of a proposal.

    2 for addressing the first finding, 1.5 for a never reached distance, 1 for progress, 0.5 for a gate, 0.5 for a
    distance that precedes rewards, and 0.1 less for each term. At convergence and regression simpler and weaker is
    better, and nothing else counts.
    """
    evidence, terms = block["evidence"], proposal["terms"]
    if evidence["stage"] in ("converged", "regressing"):
        return -len(terms) * (float(proposal["beta"]) + 0.1)
    # An event bonus may change what is optimal, so it has to earn its place.
    points = -0.1 * len(terms) - 0.5 * any(term["kind"] == "event" for term in terms)
    if block["diagnosis"]:
        points += 2.0 * (block["diagnosis"]["findings"][0]["failure"] in proposal["addresses"])
    features = [feature for group in kinds_of_agents(evidence) for feature in group]
    # Names in each potential, and in all of them.
    by_term = [set(re.findall(r"[A-Za-z_]\w*", term["expression"])) for term in terms if term["kind"] == "potential"]
    names: set[str] = set().union(*by_term)
    progress = {feature.name for feature in features if feature.kind in ("count", "flag")}
    distances = {feature.name for feature in features if feature.kind == "distance"}
    points += 1.5 * bool(names & {feature.name for feature in never_reached(features)})
    points += 1.0 * bool(names & progress)
    points += 0.5 * any(term & progress and term & distances for term in by_term)
    points += 0.5 * bool(names & {feature.name for feature in features if feature.approached})
    return points
