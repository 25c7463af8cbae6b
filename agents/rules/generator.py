"""The embedded Generator: K different ideas for the diagnosis, without what has failed already.

An idea builds its terms only from the roles that features can play; it is a list of pieces, one a term. The strongest
prior is the *staircase*: what is done counts up, the distance to the next thing counts down, and what comes later
counts only after the gate that precedes it, so that Φ rises along a whole successful episode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .critic import LOW_SUCCESS
from .features import NEVER, Feature, FeatureRoles, Json, feature_roles, kinds_of_agents, never_reached

MAX_TERMS = 8
MAX_SUBGOALS = 8  # of a term
BETA = 0.5
OTHER_BETAS = (1.0, 0.75, 0.25)
KICK = 0.05
BONUS_STEPS = 300_000
SLOWER = 3.0  # by which a step size is divided
LEAST_LR = 1e-5  # of `LearnerSettings`
BLEND_LR = 0.1


class Piece(NamedTuple):
    """One term of an idea; `prefix` begins its name."""

    prefix: str
    expression: str
    weight: float
    agents: str


class Idea(NamedTuple):
    """A candidate signal before it is built for the features of a task; no pieces where it does not apply."""

    title: str
    reason: str
    build: Callable[[FeatureRoles], list[Piece]]


def proposals(block: Mapping[str, Any]) -> Json:
    """Return the answer of schema `ProposalSet`: at most `candidates` proposals, the strongest prior first."""
    evidence, history = block["evidence"], block["history"]
    diagnosis = block["diagnosis"] or {"findings": [{"failure": "insufficient_evidence"}]}
    failures = [finding["failure"] for finding in diagnosis["findings"]]

    # A kick where exploration has collapsed, or where the last branches showed nothing at all near zero competence.
    # Every arm gets it, so it is the same in all proposals of an answer. In a race every arm is kicked that asks for
    # nothing else.
    race = block.get("race")
    last_round = [tried for tried in history if _round(tried) == _round(history[-1])]
    is_blind = any(tried["verdict"] == "not_informative" for tried in last_round)
    success = evidence["sparse"]["success_rate"]
    is_stuck = "exploration_collapsed" in failures or (is_blind and (success is None or success < LOW_SUCCESS))
    needs_kick = is_stuck and not race
    exploration = {"entropy": None, "kick": KICK if needs_kick else None}

    # What the gate rejected, ever, and all of this intervention. What showed no difference earlier may help today.
    seen = {_content({**evidence["signal"], "exploration": exploration, "learner": None})}
    for tried in history:
        is_rejected = tried["verdict"] in ("reject", "rolled_back", "declined") or tried["point"] == block["point"]
        if is_rejected and tried["verdict"] != "not_tried":
            seen.add(_content(tried["proposal"]))

    # A race is one seed of an idea. Where its policy was not adopted, the idea moves back by as many places as a round
    # has candidates, so that a strong one comes again before weak new ones do.
    raced = Counter(_content(tried["proposal"]) for tried in history if tried["verdict"] == "not_adopted")
    found: list[tuple[int, Json]] = []
    for place, draft in enumerate(_drafts(block, failures)):
        proposal = {**draft, "addresses": failures, "exploration": exploration}
        content = _content(proposal)
        if content not in seen:
            seen.add(content)
            found.append((place + block["candidates"] * raced[content], proposal))
    chosen = [proposal for _, proposal in sorted(found, key=lambda pair: pair[0])][: block["candidates"]]
    if not chosen:  # a task without usable features leaves exploration as the only thing to change
        chosen = [
            {
                "title": "More exploration, no terms",
                "reason": "Nothing else can be built from the features that is new.",
                "addresses": failures,
                "beta": BETA,
                "terms": [],
                "exploration": exploration if needs_kick else {"entropy": 0.05, "kick": None},
            }
        ]
    return {"proposals": chosen}


def _round(tried: Json) -> tuple[int, int]:
    return tried["point"], tried["round"]


def _content(proposal: Json) -> str:
    """Return as text what the signal does to learning: term names, title and reason do not count."""
    apart = ("name", "decay_steps", "anneal_steps")
    terms = [sorted((key, term[key]) for key in term if key not in apart) for term in proposal["terms"]]
    exploration = proposal["exploration"]
    learner = proposal.get("learner") or {}
    return repr((proposal["beta"] if terms else 0, terms, exploration.get("kick"), exploration.get("entropy"), learner))


def _drafts(block: Mapping[str, Any], failures: list[str]) -> Iterator[Json]:
    """Yield proposals without addresses and exploration, best first; some may repeat."""
    evidence = block["evidence"]
    yield from _relief(evidence, failures)
    if not {"not_the_signal", "shared_parameter_conflict", "shaping_dominates"}.isdisjoint(failures):
        yield from _other_learners(evidence)
    yield from _refinements(_comparable(block))

    ideas = list(IDEAS)
    if "lazy_agent" in failures or "same_target" in failures:
        ideas.sort(key=lambda idea: idea.build is not furthest_staircase)  # stable: only this one moves to the front
    # One proposal holds the pieces of all kinds of agents.
    kinds = [feature_roles(features) for features in kinds_of_agents(evidence)]
    drafts = []
    for title, reason, build in [*ideas, *BLIND_IDEAS]:
        pieces = [piece for roles in kinds for piece in build(roles)]
        if pieces:
            drafts.append({"title": title, "reason": reason, "beta": BETA, "terms": named(pieces)})
    yield from drafts
    if "event" in block["term_kinds"]:
        yield from _event_bonus(evidence, min(BONUS_STEPS, block["longest_decay_steps"]))
        yield from _subgoals(evidence, min(BONUS_STEPS, block["longest_decay_steps"]))
    for beta in OTHER_BETAS:
        yield from ({**draft, "beta": beta, "title": f"{draft['title']}, beta {beta:g}"} for draft in drafts)


def _relief(evidence: Json, failures: list[str]) -> Iterator[Json]:
    """Yield less of the signal in force, where it may do harm or has done its work."""
    signal = evidence["signal"]
    is_wanted = evidence["stage"] in ("converged", "regressing") or "shaping_dominates" in failures
    if not signal["terms"] or not is_wanted:
        return
    # None, half, and all but the largest term.
    yield {"title": "No shaping", "reason": "The task's own reward may be enough by now.", "beta": BETA, "terms": []}
    yield {
        "title": "Half the strength",
        "reason": "The same terms, weaker.",
        "beta": signal["beta"] / 2,
        "terms": signal["terms"],
    }
    # A term that is too new to have a share counts as none.
    shares = {term["name"]: term["share"] for term in evidence["terms"]}
    largest = max(signal["terms"], key=lambda term: shares.get(term["name"], 0.0))
    rest = [term for term in signal["terms"] if term is not largest]
    yield {"title": "Without the largest term", "reason": "It pays most.", "beta": signal["beta"], "terms": rest}


def _other_learners(evidence: Json) -> Iterator[Json]:
    """Yield the signal in force under other settings of the learner."""
    learner, signal = evidence.get("learner"), evidence["signal"]
    # runs of older versions do not tell, and algorithms by values, which have no advantages, cannot be changed
    if not learner or learner.get("advantage_norm") is None:
        return
    same = {"beta": signal["beta"], "terms": signal["terms"]}
    if any(len(agents) > 1 for agents in learner["networks"]):
        yield {
            **same,
            "title": "A network for every agent",
            "reason": "Agents that share one cannot act differently where they observe the same.",
            "learner": {"share_parameters": False},
        }
    if learner["advantage_norm"] != "agent" and sum(len(agents) for agents in learner["networks"]) > 1:
        yield {
            **same,
            "title": "Advantages normalised for every agent",
            "reason": "Agents whose advantages are small beside another's hardly learn.",
            "learner": {"advantage_norm": "agent"},
        }
    if signal["terms"] and learner.get("blend_lr") == 0:
        yield {
            **same,
            "title": "Terms weigh what the sparse return says",
            "reason": "What misleads fades, by the gradient of the sparse return through the policy's step.",
            "learner": {"blend_lr": BLEND_LR},
        }
    if learner["lr"] / SLOWER >= LEAST_LR:
        yield {
            **same,
            "title": "Smaller steps",
            "reason": "Policies of several agents that move fast together undo each other's progress.",
            "learner": {"lr": round(learner["lr"] / SLOWER, 8)},
        }


def _comparable(block: Mapping[str, Any]) -> list[Json]:
    """Return what was tried in this intervention: earlier gains were measured under another signal.

    Races that nobody has won leave the signal as it is, so that all since the last one that somebody has count.
    """
    history = block["history"]
    last_won = max((i for i, tried in enumerate(history) if tried.get("won_by")), default=-1)
    return [
        tried
        for i, tried in enumerate(history)
        if tried["point"] == block["point"] or (i > last_won and tried["verdict"] == "not_adopted")
    ]


def _refinements(history: list[Json]) -> Iterator[Json]:
    """Yield the best of what was tried and did not harm: stronger, and together with the second best.

    What moved toward reward in a race comes before what gained, for the return may move last of all.
    """
    tried = [item for item in history if item["gain"] is not None and item["proposal"]["terms"]]
    # A race's last look alone is a matter of luck.
    gained = [item for item in tried if (item.get("moved") if item.get("race") else item["gain"] > 0)]
    gained.sort(key=lambda item: (not item.get("moved"), -item["gain"]))
    if not gained:
        return
    best = gained[0]["proposal"]
    if best["beta"] < 1.0:
        is_judged = gained[0]["verdict"] not in ("screened_out", "not_tried")
        where = "in its branches without clearing the gate" if is_judged else "in screening and was not judged"
        where = "in its race, where no policy of it was proven" if gained[0].get("race") else where
        yield {
            "title": "The best so far, stronger",
            "reason": f"It gained {gained[0]['gain']} {where}.",
            "beta": min(1.0, 2 * best["beta"] or BETA),
            "terms": best["terms"],
        }
    if len(gained) > 1:
        yield {
            "title": "The two best so far together",
            "reason": "Both gained, or moved toward reward.",
            "beta": best["beta"],
            "terms": _union(best["terms"], gained[1]["proposal"]["terms"]),
        }


def _union(first: list[Json], second: list[Json]) -> list[Json]:
    """Return the terms of both, each ingredient once, with names made unique."""
    terms: list[Json] = []
    known, names = set[str](), set[str]()
    for term in [*first, *second]:
        ingredient = f"{term.get('expression', term.get('event'))}|{term['agents']}"
        # The first name that is free.
        name = next(n for n in (term["name"], *(f"more_{i}" for i in range(1, 20))) if n not in names)
        if ingredient not in known and len(terms) < MAX_TERMS:
            terms.append({**term, "name": name})
            names.add(name)
        known.add(ingredient)
    return terms


def _event_bonus(evidence: Json, steps: int) -> Iterator[Json]:
    """Yield a small bonus, decaying over `steps`, on events that cannot be farmed and that some episodes miss."""
    # Events that always or never happen teach nothing.
    missed = [e for e in evidence["events"] if not e["repeatable"] and 0 < e["episodes_share"] < 0.9]
    has_one_group = len(evidence["behaviour"]) == 1
    terms = [
        {
            "name": f"bonus_{position}",
            "kind": "event",
            "event": event["name"],
            "weight": 0.1,
            "agents": "all" if has_one_group else event["group"],
            "decay_steps": steps,
        }
        for position, event in enumerate(missed[:3], start=1)
    ]
    if terms:
        reason = "Some episodes miss these events."
        yield {"title": "Bonus on rare events", "reason": reason, "beta": BETA, "terms": terms}


def _subgoals(evidence: Json, steps: int) -> Iterator[Json]:
    """Yield a bonus, decaying over `steps`, on what the team does, in the order in which it first does it."""
    seen = [event for event in evidence["events"] if event["first_step"] is not None]
    order = [*dict.fromkeys(event["name"] for event in sorted(seen, key=lambda event: event["first_step"]))]
    if len(order) > 1:
        term = {
            "name": "in_order",
            "kind": "subgoals",
            "events": order[:MAX_SUBGOALS],
            "per": "team",
            "weight": 0.1,
            "agents": "all",
            "decay_steps": steps,
        }
        reason = "What is done once, and in this order, leads on; doing it again pays nothing."
        yield {"title": "One thing after the other", "reason": reason, "beta": BETA, "terms": [term]}


# ---------------------------------------------------------------- ideas


def staircase(roles: FeatureRoles, rank: int = 0) -> list[Piece]:
    """Return progress, the distance that precedes rewards, and behind the gate the frontier number `rank`."""
    base = _base(roles)
    if len(roles.frontier) <= rank:
        return base if rank == 0 else []
    return [*base, _behind(roles, roles.frontier[rank])]


def behind_gate(roles: FeatureRoles) -> list[Piece]:
    """Return only what is not learnt yet: the frontier, behind the gate."""
    return [_behind(roles, roles.frontier[0])] if roles.frontier and roles.gate else []


def ladder(roles: FeatureRoles) -> list[Piece]:
    """Return progress and the never reached distances, all at once: no assumption about what opens what."""
    never = [feature for feature in roles.frontier if (feature.reached_low or 0.0) < NEVER][:2]
    targets = never or list(roles.frontier[:1])
    if not targets:
        return []
    return [*_most_progress(roles), *(_near(feature, 1.0 / len(targets)) for feature in targets)]


def gates_in_order(roles: FeatureRoles) -> list[Piece]:
    """Return a gate for each of several never reached distances: what is next counts once what precedes it is done.

    Flags come as often as they are reached, then as they are declared; distances the nearest first.
    """
    flags = [feature for feature in roles.features if feature.kind == "flag"]
    flags.sort(key=lambda feature: -(feature.reached_high or 0.0))  # stable
    distances = never_reached(roles.features)[::-1]
    pairs = list(zip(flags, distances, strict=False))
    if len(pairs) < 2:
        return []
    done = [_done(flag) for flag, _ in pairs]
    then = [
        Piece("then", f"{flag.at_high()} * (1 - {distance.up()})", 1.0, distance.agents) for flag, distance in pairs
    ]
    return [piece for both in zip(done, then, strict=True) for piece in both]


def team_staircase(roles: FeatureRoles) -> list[Piece]:
    """Return the staircase where the teammate nearest to the frontier counts: one agent there may be enough."""
    if not roles.frontier or not roles.frontier[0].has_mates:
        return []
    return [*_base(roles), _behind(roles, roles.frontier[0], team="min")]


def furthest_staircase(roles: FeatureRoles) -> list[Piece]:
    """Pay every agent by the team's furthest one, so that nobody can leave the work to the others."""
    # The distance that agents close today, else the next one.
    target = roles.rung or (roles.frontier[0] if roles.frontier else None)
    if target is None or not target.has_mates:
        return []
    # The frontier once more, unless it is the target itself.
    later = [_behind(roles, roles.frontier[0])] if roles.frontier and roles.frontier[0] is not target else []
    return [*_most_progress(roles), Piece("near", f"-{target.over_team('max')}", 0.5, target.agents), *later]


def each_apart(roles: FeatureRoles) -> list[Piece]:
    """Return all distances that are reached and approached, each for itself, then the frontier behind the gate."""
    reached = [f for f in roles.features if f.kind == "distance" and f.approached and f is not roles.rung]
    reached = [feature for feature in reached if feature not in roles.frontier][:3]
    if not reached:
        return []
    # Together they weigh half of what the frontier does.
    near = [_near(feature, 0.5 / len(reached)) for feature in reached]
    return [*_most_progress(roles), *near, *([_behind(roles, roles.frontier[0])] if roles.frontier else [])]


def all_left(roles: FeatureRoles) -> list[Piece]:
    """Return progress, and the way to each thing that most episodes leave undone, for whom gets such things done.

    A way is 0 once its thing is done, so that Φ never falls then. What most episodes do get done is left out: its way
    would be most of the range that the strength is shared out over.
    """
    left = [f for f in roles.features if f.done_by is not None and (f.reached_low or 0.0) < 0.5]
    if not left:
        return []
    return [*_most_progress(roles), *(Piece("left", f"-{f.up()}", 1.0, f.done_by or f.agents) for f in left)]


def single(rank: int) -> Callable[[FeatureRoles], list[Piece]]:
    """Return the idea of one distance of the frontier alone."""

    def build(roles: FeatureRoles) -> list[Piece]:
        return [_near(roles.frontier[rank], 1.0)] if len(roles.frontier) > rank else []

    return build


def direction(roles: FeatureRoles) -> list[Piece]:
    """Return positions and quantities in the direction that precedes rewards or that successes end at."""
    return [Piece("toward", _signed(feature, sign), 1.0, feature.agents) for feature, sign in roles.directed[:3]]


def blind(rank: int, sign: float) -> Callable[[FeatureRoles], list[Piece]]:
    """Return the idea for where nothing is known: one feature in one direction.

    Distances are known to count down, counts to count up.
    """

    def build(roles: FeatureRoles) -> list[Piece]:
        if len(roles.features) <= rank:
            return []
        feature = roles.features[rank]
        # The other sign is left to another idea, or to none.
        known = {"distance": -1.0, "count": 1.0, "flag": 1.0}.get(feature.kind)
        if known is not None and known != sign:
            return []
        return [Piece("toward", _signed(feature, sign), 1.0, feature.agents)]

    return build


def named(pieces: Sequence[Piece]) -> list[Json]:
    """Return terms of schema `PotentialTerm`; names count up by prefix and never quote a feature."""
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


def _base(roles: FeatureRoles) -> list[Piece]:
    """Return the lower part of a staircase: progress and the rung."""
    pieces = _most_progress(roles)
    if roles.rung is not None:
        # One thing done must outweigh the jump of the rung to the next thing, or Φ would fall when something is done.
        done = roles.progress[0] if roles.progress else None
        weight = max(1.0 / done.span, 0.1) if done is not None and done.kind == "count" else 1.0
        pieces.append(_near(roles.rung, weight))
    return pieces


def _most_progress(roles: FeatureRoles) -> list[Piece]:
    return [_done(roles.progress[0])] if roles.progress else []


def _done(feature: Feature) -> Piece:
    return Piece("done", feature.up(), 1.0, feature.agents)


def _near(feature: Feature, weight: float) -> Piece:
    return Piece("near", f"-{feature.up()}", weight, feature.agents)


def _behind(roles: FeatureRoles, feature: Feature, team: str = "") -> Piece:
    """Return the approach to `feature`, which counts once the gate is open; of the whole team by `team` (min, max)."""
    left = feature.over_team(team) if team else feature.up()
    # Without a gate it counts from the start.
    if roles.gate is None:
        return Piece("then", f"-{left}", 1.0, feature.agents)
    return Piece("then", f"{roles.gate.at_high()} * (1 - {left})", 1.0, feature.agents)


def _signed(feature: Feature, sign: float) -> str:
    return feature.up() if sign > 0 else f"-{feature.up()}"


IDEAS: tuple[Idea, ...] = (
    Idea("A gate for each thing that is left",
         "Several things are never reached, one behind the other: each counts once the one before it is done.",
         gates_in_order),
    Idea("Staircase to the frontier",
         "What is done counts up, the distance that precedes rewards counts down, and the least reached distance "
         "counts once its gate is open, so that the potential rises along a whole successful episode.",
         staircase),
    Idea("Frontier behind the gate",
         "Only what is not learnt yet: the least reached distance, where its gate is open.",
         behind_gate),
    Idea("All that is left",
         "What is done counts up, and the ways to all that is left count down, each for whom gets such things done.",
         all_left),
    Idea("Ladder without a gate",
         "Progress and the never reached distances at once, in case the gate is no condition.",
         ladder),
    Idea("Staircase to the second frontier",
         "The next thing may be another distance than the least reached one.",
         lambda roles: staircase(roles, 1)),
    Idea("Staircase of the nearest teammate",
         "One agent at the frontier may be enough, so the nearest one counts for all.",
         team_staircase),
    Idea("Direction of success",
         "These features differ most between what precedes success and what does not.",
         direction),
    Idea("Each target apart",
         "Every approached distance for itself, so that agents may divide the work.",
         each_apart),
    Idea("The least reached distance alone",
         "One distance, no assumption about order.",
         single(0)),
    Idea("The furthest agent counts",
         "The team's furthest agent counts for all, so that each has to move.",
         furthest_staircase),
    Idea("The second least reached distance alone",
         "Another distance, no assumption about order.",
         single(1)),
    Idea("The approached distance alone",
         "What precedes rewards today, alone.",
         lambda roles: [_near(roles.rung, 1.0)] if roles.rung else []),
    Idea("Progress alone",
         "What is done counts up.",
         lambda roles: [_done(feature) for feature in roles.progress[:3]]),
)  # fmt: skip
BLIND_IDEAS: tuple[Idea, ...] = tuple(
    Idea(
        "One feature, one direction",
        "Nothing precedes rewards yet: one feature is tried in one direction.",
        blind(rank, sign),
    )
    for rank in range(4)
    for sign in (1.0, -1.0)
)
