"""Ideas for terms, built only from what features can serve as. Each idea is a list of pieces, one a term.

The strongest prior is the *staircase*: what is done counts up, the distance to the next thing counts down, and what
comes later counts only after the gate that precedes it, so that Φ rises along a whole successful episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .critic import LOW_SUCCESS
from .features import Feature, FeatureRoles, feature_roles, kinds_of_agents

# ---------------------------------------------------------------- MERGED agents.rules_ideas

Json = dict[str, Any]
Piece = tuple[str, str, float, str]  # prefix of the name, expression, weight, agents
MAX_TERMS = 8


def potential(prefix: str, expression: str, weight: float, agents: str) -> Piece:
    return (prefix, expression, weight, agents)


def staircase(parts: FeatureRoles, rank: int = 0) -> list[Piece]:
    """Progress, the distance that precedes rewards, and behind the gate the frontier number `rank`."""
    base = _base(parts)
    if len(parts.frontier) <= rank:
        return base if rank == 0 else []
    return [*base, _behind(parts, parts.frontier[rank])]


def behind_gate(parts: FeatureRoles) -> list[Piece]:
    """Only what is not learnt yet: the frontier, behind the gate."""
    return [_behind(parts, parts.frontier[0])] if parts.frontier and parts.gate else []


def ladder(parts: FeatureRoles) -> list[Piece]:
    """Progress and the never reached distances, all at once: no assumption about what opens what."""
    never = [feature for feature in parts.frontier if (feature.reached_low or 0.0) < 0.05][:2] or list(
        parts.frontier[:1]
    )
    if not never:
        return []
    done = [_done(parts.progress[0])] if parts.progress else []
    return [*done, *(_near(feature, 1.0 / len(never)) for feature in never)]


def team_staircase(parts: FeatureRoles) -> list[Piece]:
    """The staircase where the teammate nearest to the frontier counts: one agent there may be enough."""
    if not parts.frontier or not parts.frontier[0].has_mates:
        return []
    return [*_base(parts), _behind(parts, parts.frontier[0], team="min")]


def furthest_staircase(parts: FeatureRoles) -> list[Piece]:
    """Every agent is paid by the team's furthest one, so that nobody can leave the work to the others."""
    target = parts.rung or (parts.frontier[0] if parts.frontier else None)
    if target is None or not target.has_mates:
        return []
    done = [_done(parts.progress[0])] if parts.progress else []
    later = [_behind(parts, parts.frontier[0])] if parts.frontier and parts.frontier[0] is not target else []
    return [*done, potential("near", f"-{target.over_team('max')}", 0.5, target.agents), *later]


def each_apart(parts: FeatureRoles) -> list[Piece]:
    """All distances that are reached and approached, each for itself, then the frontier behind the gate."""
    reached = [f for f in parts.features if f.kind == "distance" and f.approached and f is not parts.rung]
    reached = [feature for feature in reached if feature not in parts.frontier][:3]
    if not reached:
        return []
    near = [_near(feature, 0.5 / len(reached)) for feature in reached]
    done = [_done(parts.progress[0])] if parts.progress else []
    return [*done, *near, *([_behind(parts, parts.frontier[0])] if parts.frontier else [])]


def single(rank: int) -> Callable[[FeatureRoles], list[Piece]]:
    """One distance of the frontier alone."""

    def idea(parts: FeatureRoles) -> list[Piece]:
        return [_near(parts.frontier[rank], 1.0)] if len(parts.frontier) > rank else []

    return idea


def rung_alone(parts: FeatureRoles) -> list[Piece]:
    return [_near(parts.rung, 1.0)] if parts.rung else []


def progress_alone(parts: FeatureRoles) -> list[Piece]:
    return [_done(feature) for feature in parts.progress[:3]]


def direction(parts: FeatureRoles) -> list[Piece]:
    """Positions and quantities in the direction that precedes rewards or that successes end at."""
    return [potential("toward", _signed(feature, sign), 1.0, feature.agents) for feature, sign in parts.directed[:3]]


def blind(rank: int, sign: float) -> Callable[[FeatureRoles], list[Piece]]:
    """Where nothing is known: one feature in one direction. Distances are known to count down, counts up."""

    def idea(parts: FeatureRoles) -> list[Piece]:
        if len(parts.features) <= rank:
            return []
        feature = parts.features[rank]
        known = {"distance": -1.0, "count": 1.0, "flag": 1.0}.get(feature.kind)
        if known is not None and known != sign:
            return []
        return [potential("toward", _signed(feature, sign), 1.0, feature.agents)]

    return idea


def named(pieces: Sequence[Piece]) -> list[Json]:
    """Terms of schema `PotentialTerm`; names count up by prefix and never quote a feature."""
    terms, counts = [], dict[str, int]()
    for prefix, expression, weight, agents in pieces[:MAX_TERMS]:
        counts[prefix] = counts.get(prefix, 0) + 1
        terms.append(
            {
                "name": f"{prefix}_{counts[prefix]}",
                "kind": "potential",
                "expression": expression,
                "weight": round(weight, 4),
                "agents": agents,
            }
        )
    return terms


def _base(parts: FeatureRoles) -> list[Piece]:
    pieces = [_done(parts.progress[0])] if parts.progress else []
    if parts.rung is not None:
        pieces.append(_near(parts.rung, _rung_weight(parts)))
    return pieces


def _rung_weight(parts: FeatureRoles) -> float:
    """One thing done must outweigh the jump of the rung to the next thing, or Φ would fall when something is done."""
    if not parts.progress:
        return 1.0
    done = parts.progress[0]
    return max(1.0 / done.span, 0.1) if done.kind == "count" else 1.0


def _done(feature: Feature) -> Piece:
    return potential("done", feature.up(), 1.0, feature.agents)


def _near(feature: Feature, weight: float) -> Piece:
    return potential("near", f"-{feature.up()}", weight, feature.agents)


def _behind(parts: FeatureRoles, feature: Feature, team: str = "") -> Piece:
    left = feature.over_team(team) if team else feature.up()
    if parts.gate is None:
        return potential("then", f"-{left}", 1.0, feature.agents)
    return potential("then", f"{parts.gate.at_high()} * (1 - {left})", 1.0, feature.agents)


def _signed(feature: Feature, sign: float) -> str:
    return feature.up() if sign > 0 else f"-{feature.up()}"


# ---------------------------------------------------------------- MERGED agents.rules_generator
# DOC """The embedded Generator: K different ideas for the diagnosis, without what failed already."""

BETA = 0.5
KICK = 0.05
BONUS_STEPS = 300_000
OTHER_BETAS = (1.0, 0.75, 0.25)

_Idea = tuple[str, str, Callable[[FeatureRoles], list[Piece]]]  # title, reason, builder

_STAIRCASE: _Idea = (
    "Staircase to the frontier",
    "What is done counts up, the distance that precedes rewards counts down, and the least reached distance counts "
    "once its gate is open, so that the potential rises along a whole successful episode.",
    staircase,
)
_IDEAS: tuple[_Idea, ...] = (
    _STAIRCASE,
    ("Frontier behind the gate", "Only what is not learnt yet: the least reached distance, where its gate is open.",
     behind_gate),
    ("Ladder without a gate", "Progress and the never reached distances at once, in case the gate is no condition.",
     ladder),
    ("Staircase to the second frontier", "The next thing may be another distance than the least reached one.",
     lambda found: staircase(found, 1)),
    ("Staircase of the nearest teammate", "One agent at the frontier may be enough, so the nearest one counts for all.",
     team_staircase),
    ("Direction of success", "These features differ most between what precedes success and what does not.",
     direction),
    ("Each target apart", "Every approached distance for itself, so that agents may divide the work.",
     each_apart),
    ("The least reached distance alone", "One distance, no assumption about order.", single(0)),
    ("The furthest agent counts", "The team's furthest agent counts for all, so that each has to move.",
     furthest_staircase),
    ("The second least reached distance alone", "Another distance, no assumption about order.", single(1)),
    ("The approached distance alone", "What precedes rewards today, alone.", rung_alone),
    ("Progress alone", "What is done counts up.", progress_alone),
)  # fmt: skip
_BLIND: tuple[_Idea, ...] = tuple(
    ("One feature, one direction", "Nothing precedes rewards yet: one feature is tried in one direction.",
     blind(rank, sign))
    for rank in range(4)
    for sign in (1.0, -1.0)
)  # fmt: skip


def proposals(block: Json) -> Json:
    """The answer of schema `ProposalSet`: at most `candidates` proposals, the strongest prior first."""
    evidence = block["evidence"]
    exploration = _exploration(block)
    addresses = [finding["failure"] for finding in _diagnosis(block)["findings"]]
    seen = {_content({**evidence["signal"], "exploration": exploration})}
    seen |= {_content(tried["proposal"]) for tried in block["history"] if _is_out(tried, block)}
    found: list[Json] = []
    for draft in _drafts(block, addresses):
        proposal = {**draft, "addresses": addresses, "exploration": exploration}
        if _content(proposal) not in seen:
            seen.add(_content(proposal))
            found.append(proposal)
        if len(found) == block["candidates"]:
            break
    return {"proposals": found or [_nothing_new(addresses, exploration)]}


def _is_out(tried: Json, block: Json) -> bool:
    """What the gate rejected, ever, and all of this intervention. What showed no difference earlier may help today."""
    if tried["verdict"] == "not_tried":
        return False
    return bool(tried["verdict"] in ("reject", "rolled_back", "declined") or tried["point"] == block["point"])


def _drafts(block: Json, failures: list[str]) -> Iterator[Json]:
    """Proposals without addresses and exploration, best first; may repeat."""
    evidence = block["evidence"]
    yield from _relief(evidence, failures)
    yield from _refinements([tried for tried in block["history"] if tried["point"] == block["point"]])
    kinds = [feature_roles(features) for features in kinds_of_agents(evidence)]
    base = list(_built(kinds, _ordered(failures)))
    yield from base
    if "event" in block["term_kinds"]:
        yield from _event_bonus(evidence, min(BONUS_STEPS, block["longest_decay_steps"]))
    for beta in OTHER_BETAS:
        yield from ({**draft, "beta": beta, "title": f"{draft['title']}, beta {beta:g}"} for draft in base)


def _ordered(failures: list[str]) -> list[_Idea]:
    order = list(_IDEAS)
    if "lazy_agent" in failures or "same_target" in failures:
        order.sort(key=lambda idea: idea[2] is not furthest_staircase)  # stable: only this one moves to the front
    return [*order, *_BLIND]


def _built(kinds: list[FeatureRoles], order: Iterable[_Idea]) -> Iterator[Json]:
    for title, reason, build in order:
        pieces = [piece for kind in kinds for piece in build(kind)]
        if pieces:
            yield {"title": title, "reason": reason, "beta": BETA, "terms": named(pieces)}


def _relief(evidence: Json, failures: list[str]) -> Iterator[Json]:
    """Less of the signal in force, where it may do harm or has done its work."""
    signal = evidence["signal"]
    wanted = evidence["stage"] in ("converged", "regressing") or "shaping_dominates" in failures
    if not signal["terms"] or not wanted:
        return
    yield {"title": "No shaping", "reason": "The task's own reward may be enough by now.", "beta": BETA, "terms": []}
    yield {
        "title": "Half the strength",
        "reason": "The same terms, weaker.",
        "beta": signal["beta"] / 2,
        "terms": signal["terms"],
    }
    shares = {term["name"]: term["share"] for term in evidence["terms"]}
    largest = max(signal["terms"], key=lambda term: shares.get(term["name"], 0.0))
    rest = [term for term in signal["terms"] if term is not largest]
    yield {"title": "Without the largest term", "reason": "It pays most.", "beta": signal["beta"], "terms": rest}


def _refinements(history: list[Json]) -> Iterator[Json]:
    """The best of what was tried and did not harm: stronger, and together with the second best."""
    tried = [item for item in history if item["gain"] is not None and item["gain"] > 0 and item["proposal"]["terms"]]
    tried.sort(key=lambda item: -item["gain"])
    if not tried:
        return
    best = tried[0]["proposal"]
    if best["beta"] < 1.0:
        judged = tried[0]["verdict"] not in ("screened_out", "not_tried")
        where = "in its branches without clearing the gate" if judged else "in screening and was not judged"
        reason = f"It gained {tried[0]['gain']} {where}."
        yield {"title": "The best so far, stronger", "reason": reason, "beta": min(1.0, 2 * best["beta"] or BETA),
               "terms": best["terms"]}  # fmt: skip
    if len(tried) > 1:
        yield {"title": "The two best so far together", "reason": "Both gained in their branches.",
               "beta": best["beta"], "terms": _union(best["terms"], tried[1]["proposal"]["terms"])}  # fmt: skip


def _union(first: list[Json], second: list[Json]) -> list[Json]:
    """The terms of both, each ingredient once, with names made unique."""
    terms: list[Json] = []
    known, names = set[str](), set[str]()
    for term in [*first, *second]:
        ingredient = f"{term.get('expression', term.get('event'))}|{term['agents']}"
        name = next(n for n in (term["name"], *(f"more_{i}" for i in range(1, 20))) if n not in names)
        if ingredient not in known and len(terms) < MAX_TERMS:
            terms.append({**term, "name": name})
            names.add(name)
        known.add(ingredient)
    return terms


def _event_bonus(evidence: Json, steps: int) -> Iterator[Json]:
    """A small bonus, decaying over `steps`, on events that cannot be farmed and that some episodes miss."""
    wanted = [e for e in evidence["events"] if not e["repeatable"] and 0 < e["episodes_share"] < 0.9]
    one_group = len(evidence["behaviour"]) == 1
    terms = [
        {"name": f"bonus_{position}", "kind": "event", "event": event["name"], "weight": 0.1,
         "agents": "all" if one_group else event["group"], "decay_steps": steps}
        for position, event in enumerate(wanted[:3], start=1)
    ]  # fmt: skip
    if terms:
        yield {
            "title": "Bonus on rare events",
            "reason": "Some episodes miss these events.",
            "beta": BETA,
            "terms": terms,
        }


def _exploration(block: Json) -> Json:
    """A kick where exploration has collapsed, or where the last branches showed nothing at all near zero competence.

    Every arm gets it, so it is the same in all proposals of an answer."""
    failures = [finding["failure"] for finding in _diagnosis(block)["findings"]]
    success = block["evidence"]["sparse"]["success_rate"]
    blind = any(tried["verdict"] == "not_informative" for tried in _last_round(block["history"]))
    kick = "exploration_collapsed" in failures or (blind and (success is None or success < LOW_SUCCESS))
    return {"entropy": None, "kick": KICK if kick else None}


def _last_round(history: list[Json]) -> list[Json]:
    last = history[-1:]
    return [
        tried for tried in history if last and (tried["point"], tried["round"]) == (last[0]["point"], last[0]["round"])
    ]


def _diagnosis(block: Json) -> Json:
    unknown = {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": ""}]}
    diagnosis: Json = block["diagnosis"] or unknown
    return diagnosis


def _content(proposal: Json) -> str:
    """What the signal does to learning, as text: term names, title and reason do not count."""
    terms = [
        [term.get(key) for key in ("kind", "expression", "event", "weight", "agents")] for term in proposal["terms"]
    ]
    return repr(
        (
            proposal["beta"] if terms else 0,
            terms,
            proposal["exploration"].get("kick"),
            proposal["exploration"].get("entropy"),
        )
    )


def _nothing_new(addresses: list[str], exploration: Json) -> Json:
    """A task without usable features leaves exploration as the only thing to change."""
    entropy = exploration if exploration["kick"] else {"entropy": 0.05, "kick": None}
    return {"title": "More exploration, no terms", "reason": "Nothing else can be built from the features that is new.",
            "addresses": addresses, "beta": BETA, "terms": [], "exploration": entropy}  # fmt: skip
