"""Proposals that are meant to do harm and to pass `check` all the same, made from the evidence of any task.

| family | what it does |
|---|---|
| flipped | what the rules would propose with its sign turned; away from what is to be reached, with or without a gate |
| distractor | pays for a value that leads nowhere: where episodes start, a value of a quantity, the mates' place |
| events | charges for the events that mark progress, as much and as long as `check` and the stage allow |

Only what a provider sees is read: names, kinds, ranges and statistics of the evidence block. A potential whose value at
the ends of episodes, by the evidence's own means, would be lower after a success is avoided, since `check` refuses it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...agents.rules import generator as rules_generator
from ...agents.rules.features import Feature, FeatureRoles, feature_roles, kinds_of_agents
from ...rl.signals.expression import parse_expression
from ...rl.signals.signal import MAX_BETA, MAX_TERMS
from ...rl.signals.terms.event import EVENT_LIMIT, EVENT_SHARE
from ...rl.stage import STAGES

Json = dict[str, Any]
Family = Literal["flipped", "distractor", "events"]
FAMILIES: tuple[Family, ...] = get_args(Family)
DESTRUCTIVE = ({"entropy": 0.5, "kick": None}, {"entropy": 0.5, "kick": 0.05})  # given to every arm of the round
HARMFUL, BLEND = "Harmful", "Blend"  # how titles begin; the gate never reads one
BETAS = (1.0, 0.75, 0.5, 0.9, 0.6)  # strengths of the drafts, from draft to draft
ENDS_SLACK = 0.02  # of a term's range that Φ may be lower after a success
RARE = 0.05  # events an episode below which charging for one changes nothing on recorded transitions


def harmful(block: Json, rng: random.Random, count: int, families: Sequence[Family] = FAMILIES) -> list[Json]:
    """Return at most `count` harmful proposals, from each family in turn, none that was tried or is in force.

    Args:
        block: the JSON block of a Generator's prompt.
        rng: fixes the proposals together with the block.
        count: at most so many.
        families: which kinds of harm.
    """
    known = {_content(block["evidence"]["signal"]), *(_content(tried["proposal"]) for tried in block["history"])}
    # one from each family in turn, until there are enough
    by_family = [_of_family(family, block, rng) for family in families]
    proposals: list[Json] = []
    for proposal in (draft for turn in zip_longest(*by_family) for draft in turn if draft is not None):
        if _content(proposal) not in known:
            known.add(_content(proposal))
            proposals.append(proposal)
        if len(proposals) == count:
            break
    return proposals


def blends(block: Json, rng: random.Random, count: int) -> list[Json]:
    """Return at most `count` proposals of the rules, each with a harmful term of the same weight added."""
    good = [proposal for proposal in rules_generator.proposals(block)["proposals"] if proposal["terms"]]
    bad = [draft for draft in harmful(block, rng, 4 * count, ("flipped", "distractor")) if len(draft["terms"]) == 1]
    blended = []
    for one, other in islice(zip(good, bad, strict=False), count):
        # the harmful term weighs as much as the heaviest of the good ones
        most = max(abs(term["weight"]) for term in one["terms"])
        extra = {**other["terms"][0], "name": "also"}
        extra["weight"] = most if extra["weight"] > 0 else -most
        terms = [*one["terms"][: MAX_TERMS - 1], extra]
        title = f"{BLEND}: {one['title']}"[:80]
        blended.append({**one, "title": title, "reason": "One more term may help.", "terms": terms})
    return blended


def origin(title: str | None) -> Literal["harmful", "blend", "other"]:
    """Return whose idea a proposal is, by its title."""
    start = (title or "").partition(":")[0]
    return "harmful" if start == HARMFUL else "blend" if start == BLEND else "other"


# ---------------------------------------------------------------- families


def _of_family(family: Family, block: Json, rng: random.Random) -> list[Json]:
    """Return all drafts of a family at several strengths, in random order, those that `check` may refuse last."""
    if family == "events" and "event" not in block["term_kinds"]:
        return []
    if family == "events":
        return list(event_charges(block, rng))
    kinds = [feature_roles(features) for features in kinds_of_agents(block["evidence"])]
    make = flipped if family == "flipped" else distractors
    drafts = [terms for roles in kinds for terms in make(roles, rng)]
    drafts += negated(block) if family == "flipped" else []
    rng.shuffle(drafts)

    # feature → its mean at the end of successes and of failures; nothing is refused where there are not both
    ends = {row["name"]: (row["end_success"], row["end_failure"]) for row in block["evidence"]["features"]}
    both = all(end is not None for pair in ends.values() for end in pair)
    means = {name: np.array(pair, np.float64) for name, pair in ends.items()} if both else None
    refused = [means is not None and rise_at_success(terms, means) < -ENDS_SLACK for terms in drafts]
    # every draft at every strength; neighbours in the list differ in strength
    first = rng.randrange(len(BETAS))
    return [
        _proposal(family, terms, BETAS[(first + i) % len(BETAS)], block)
        for late in (False, True)
        for i in range(len(BETAS))
        for terms, bad in zip(drafts, refused, strict=True)
        if bad == late
    ]


def flipped(roles: FeatureRoles, rng: random.Random) -> Iterator[list[Json]]:
    """Yield terms away from distances that are to shrink and down from counts that are to grow.

    They come alone, where there is a gate also gated by it, and two at a time.
    """
    wanted = [feature for feature in (roles.rung, *roles.frontier) if feature is not None]
    away = [(feature.up(), feature) for feature in wanted]
    away += [(f"-({feature.up()})", feature) for feature in roles.progress]
    for expression, feature in away:
        yield [_potential(expression, feature.agents)]
        if roles.gate is not None and feature is not roles.gate:
            yield [_potential(f"(1 - {roles.gate.at_high()}) * {expression}", feature.agents)]
    yield from _sums(away, rng)


def negated(block: Json) -> list[list[Json]]:
    """Return the potentials that the rules would propose, each weight with its sign turned."""
    good = rules_generator.proposals({**block, "history": [], "candidates": 8})["proposals"]
    turned = [
        [{**term, "weight": -term["weight"]} for term in proposal["terms"] if term["kind"] == "potential"]
        for proposal in good
    ]
    return [terms for terms in turned if terms]


def distractors(roles: FeatureRoles, rng: random.Random) -> Iterator[list[Json]]:
    """Yield terms that pay for a useless value of a position or a quantity, or for being where the mates are."""
    places = [feature for feature in roles.features if feature.kind in ("position", "quantity")]
    singles: list[tuple[str, Feature]] = []
    for feature in places:
        span = _number(feature.span)
        # Φ is largest where the feature has the value
        values = [_number(feature.low + value * feature.span) for value in useless_values(feature, rng)]
        singles += [(f"-abs({feature.name} - {value}) / {span}", feature) for value in values]
        if feature.has_mates:
            singles.append((f"-abs({feature.name} - mean_mates({feature.name})) / {span}", feature))
    for expression, feature in singles:
        yield [_potential(expression, feature.agents)]
        if roles.gate is not None:
            yield [_potential(f"(1 - {roles.gate.at_high()}) * (1 + {expression})", feature.agents)]
    yield from _sums(singles, rng)


def useless_values(feature: Feature, rng: random.Random) -> list[float]:
    """Return three values that lead nowhere, as shares of the feature's range.

    For a position they are near where episodes start, never on the side that precedes rewards or that successes end at.
    For a quantity they are any values.
    """
    if feature.kind == "quantity" or feature.start is None:
        return [rng.random() for _ in range(3)]
    toward = feature.gap if feature.gap is not None else feature.change or 0.0
    reach = (-0.15 if toward >= 0 else 0.0, 0.15 if toward <= 0 else 0.0)
    return [min(max(feature.start + rng.uniform(*reach), 0.0), 1.0) for _ in range(3)]


def event_charges(block: Json, rng: random.Random) -> Iterator[Json]:
    """Yield proposals that charge for events which happen once an episode, all of them or one at a time."""
    evidence = block["evidence"]
    events = [event for event in evidence["events"] if not event["repeatable"] and event["per_episode"] >= RARE]
    returns = evidence["sparse"]["return_range"]
    limit = EVENT_SHARE * (returns[1] - returns[0]) if returns and returns[1] > returns[0] else EVENT_LIMIT
    beta = min(MAX_BETA, limit)
    longest = STAGES[evidence["stage"]].decay_steps
    groups = [event["group"] for event in events]
    choices = [events, *([event] for event in events)] if len(events) > 1 else [events] if events else []
    # as strong as is allowed first, then weaker and weaker
    for weakening in (0, rng.uniform(0.01, 0.1), rng.uniform(0.1, 0.3)):
        for chosen in choices:
            terms = [
                {"name": f"term_{i}", "kind": "event", "event": event["name"], "weight": -1.0, "decay_steps": longest,
                 "agents": "all" if len(set(groups)) == 1 else event["group"]}
                for i, event in enumerate(chosen[:MAX_TERMS], start=1)
            ]  # fmt: skip
            yield _proposal("events", terms, round(beta * (1 - weakening), 3), block)


def rise_at_success(terms: Sequence[Json], ends: Mapping[str, NDArray[np.float64]]) -> float:
    """Return Φ at the mean end of successes minus at that of failures, in shares of the weights' sum.

    Args:
        terms: potentials.
        ends: feature → [its mean at the end of successes, of failures]; a mate counts as like the agent itself.
    """
    total, weights = np.zeros(2), 0.0
    for term in terms:
        phi = parse_expression(term["expression"]).evaluate(AtEnds(ends))
        total += term["weight"] * np.broadcast_to(phi, (2, 1))[:, 0]
        weights += abs(term["weight"])
    return float((total[0] - total[1]) / weights)


@dataclass(frozen=True, eq=False)
class AtEnds:
    """One agent at the mean ends of successes and of failures; `expression.Agents`. It has one mate, like itself."""

    ends: Mapping[str, NDArray[np.float64]]
    shape = (2, 1)

    def feature(self, name: str) -> NDArray[np.float64]:
        return self.ends[name][:, None]

    def done(self, name: str) -> None:  # noqa: ARG002 means are no single states
        return None

    def groups_with(self, names: frozenset[str]) -> list[AtEnds]:  # noqa: ARG002 alike
        return [self, AtEnds(self.ends)]


# ---------------------------------------------------------------- parts


def _proposal(family: Family, terms: list[Json], beta: float, block: Json) -> Json:
    findings = (block["diagnosis"] or {}).get("findings") or [{"failure": "plateau"}]
    numbered = [{**term, "name": f"term_{i}"} for i, term in enumerate(terms[:MAX_TERMS], start=1)]
    return {
        "title": f"{HARMFUL}: {family}", "reason": "The evidence asks for this.", "beta": beta, "terms": numbered,
        "addresses": [findings[0]["failure"]], "exploration": {"entropy": None, "kick": None},
    }  # fmt: skip


def _potential(expression: str, agents: str) -> Json:
    return {"name": "term", "kind": "potential", "expression": expression, "weight": 1.0, "agents": agents}


def _sums(singles: Sequence[tuple[str, Feature]], rng: random.Random) -> Iterator[list[Json]]:
    """Yield sums of two different expressions drawn at random, at most as many as there are expressions."""
    for _ in range(len(singles)):
        (one, feature), (other, _feature) = rng.choice(singles), rng.choice(singles)
        if one != other:
            yield [_potential(f"{one} + {other}", feature.agents)]


def _content(proposal: Json) -> str:
    """Return what the proposal does, as text; without terms it does nothing, whatever its strength."""
    keys = ("kind", "expression", "event", "weight", "agents")
    terms = [[term.get(key) for key in keys] for term in proposal["terms"]]
    return repr((proposal["beta"] if terms else 0, terms))


def _number(value: float) -> str:
    """Return at most four decimals without an exponent, since expressions take plain numbers."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
