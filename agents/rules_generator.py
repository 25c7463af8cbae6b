"""The embedded Generator: K different ideas for the diagnosis, without what failed already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import rules_ideas as ideas
from .rules_critic import LOW_SUCCESS
from .rules_facts import Parts, kinds_of_agents, parts
from .rules_ideas import Piece

Json = dict[str, Any]

BETA = 0.5
KICK = 0.05
BONUS_STEPS = 300_000
OTHER_BETAS = (1.0, 0.75, 0.25)

_Idea = tuple[str, str, Callable[[Parts], list[Piece]]]  # title, reason, builder

_STAIRCASE: _Idea = (
    "Staircase to the frontier",
    "What is done counts up, the distance that precedes rewards counts down, and the least reached distance counts "
    "once its gate is open, so that the potential rises along a whole successful episode.",
    ideas.staircase,
)
_IDEAS: tuple[_Idea, ...] = (
    _STAIRCASE,
    ("Frontier behind the gate", "Only what is not learnt yet: the least reached distance, where its gate is open.",
     ideas.behind_gate),
    ("Ladder without a gate", "Progress and the never reached distances at once, in case the gate is no condition.",
     ideas.ladder),
    ("Staircase to the second frontier", "The next thing may be another distance than the least reached one.",
     lambda found: ideas.staircase(found, 1)),
    ("Staircase of the nearest teammate", "One agent at the frontier may be enough, so the nearest one counts for all.",
     ideas.team_staircase),
    ("Direction of success", "These features differ most between what precedes success and what does not.",
     ideas.direction),
    ("Each target apart", "Every approached distance for itself, so that agents may divide the work.",
     ideas.each_apart),
    ("The least reached distance alone", "One distance, no assumption about order.", ideas.single(0)),
    ("The furthest agent counts", "The team's furthest agent counts for all, so that each has to move.",
     ideas.furthest_staircase),
    ("The second least reached distance alone", "Another distance, no assumption about order.", ideas.single(1)),
    ("The approached distance alone", "What precedes rewards today, alone.", ideas.rung_alone),
    ("Progress alone", "What is done counts up.", ideas.progress_alone),
)  # fmt: skip
_BLIND: tuple[_Idea, ...] = tuple(
    ("One feature, one direction", "Nothing precedes rewards yet: one feature is tried in one direction.",
     ideas.blind(rank, sign))
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
    kinds = [parts(features) for features in kinds_of_agents(evidence)]
    base = list(_built(kinds, _ordered(failures)))
    yield from base
    if "event" in block["term_kinds"]:
        yield from _event_bonus(evidence, min(BONUS_STEPS, block["longest_decay_steps"]))
    for beta in OTHER_BETAS:
        yield from ({**draft, "beta": beta, "title": f"{draft['title']}, beta {beta:g}"} for draft in base)


def _ordered(failures: list[str]) -> list[_Idea]:
    order = list(_IDEAS)
    if "lazy_agent" in failures or "same_target" in failures:
        order.sort(key=lambda idea: idea[2] is not ideas.furthest_staircase)  # stable: only this one moves to the front
    return [*order, *_BLIND]


def _built(kinds: list[Parts], order: Iterable[_Idea]) -> Iterator[Json]:
    for title, reason, build in order:
        pieces = [piece for kind in kinds for piece in build(kind)]
        if pieces:
            yield {"title": title, "reason": reason, "beta": BETA, "terms": ideas.named(pieces)}


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
        if ingredient not in known and len(terms) < ideas.MAX_TERMS:
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
