"""Ideas for terms, built only from what features can serve as. Each idea is a list of pieces, one a term.

The strongest prior is the *staircase*: what is done counts up, the distance to the next thing counts down, and what
comes later counts only after the gate that precedes it, so that Φ rises along a whole successful episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .rules_facts import Feature, Parts

Json = dict[str, Any]
Piece = tuple[str, str, float, str]  # prefix of the name, expression, weight, agents
MAX_TERMS = 8


def potential(prefix: str, expression: str, weight: float, agents: str) -> Piece:
    return (prefix, expression, weight, agents)


def staircase(parts: Parts, rank: int = 0) -> list[Piece]:
    """Progress, the distance that precedes rewards, and behind the gate the frontier number `rank`."""
    base = _base(parts)
    if len(parts.frontier) <= rank:
        return base if rank == 0 else []
    return [*base, _behind(parts, parts.frontier[rank])]


def behind_gate(parts: Parts) -> list[Piece]:
    """Only what is not learnt yet: the frontier, behind the gate."""
    return [_behind(parts, parts.frontier[0])] if parts.frontier and parts.gate else []


def ladder(parts: Parts) -> list[Piece]:
    """Progress and the never reached distances, all at once: no assumption about what opens what."""
    never = [feature for feature in parts.frontier if (feature.reached_low or 0.0) < 0.05][:2] or list(
        parts.frontier[:1]
    )
    if not never:
        return []
    done = [_done(parts.progress[0])] if parts.progress else []
    return [*done, *(_near(feature, 1.0 / len(never)) for feature in never)]


def team_staircase(parts: Parts) -> list[Piece]:
    """The staircase where the teammate nearest to the frontier counts: one agent there may be enough."""
    if not parts.frontier or not parts.frontier[0].has_mates:
        return []
    return [*_base(parts), _behind(parts, parts.frontier[0], team="min")]


def furthest_staircase(parts: Parts) -> list[Piece]:
    """Every agent is paid by the team's furthest one, so that nobody can leave the work to the others."""
    target = parts.rung or (parts.frontier[0] if parts.frontier else None)
    if target is None or not target.has_mates:
        return []
    done = [_done(parts.progress[0])] if parts.progress else []
    later = [_behind(parts, parts.frontier[0])] if parts.frontier and parts.frontier[0] is not target else []
    return [*done, potential("near", f"-{target.over_team('max')}", 0.5, target.agents), *later]


def each_apart(parts: Parts) -> list[Piece]:
    """All distances that are reached and approached, each for itself, then the frontier behind the gate."""
    reached = [f for f in parts.features if f.kind == "distance" and f.approached and f is not parts.rung]
    reached = [feature for feature in reached if feature not in parts.frontier][:3]
    if not reached:
        return []
    near = [_near(feature, 0.5 / len(reached)) for feature in reached]
    done = [_done(parts.progress[0])] if parts.progress else []
    return [*done, *near, *([_behind(parts, parts.frontier[0])] if parts.frontier else [])]


def single(rank: int) -> Callable[[Parts], list[Piece]]:
    """One distance of the frontier alone."""

    def idea(parts: Parts) -> list[Piece]:
        return [_near(parts.frontier[rank], 1.0)] if len(parts.frontier) > rank else []

    return idea


def rung_alone(parts: Parts) -> list[Piece]:
    return [_near(parts.rung, 1.0)] if parts.rung else []


def progress_alone(parts: Parts) -> list[Piece]:
    return [_done(feature) for feature in parts.progress[:3]]


def direction(parts: Parts) -> list[Piece]:
    """Positions and quantities in the direction that precedes rewards or that successes end at."""
    return [potential("toward", _signed(feature, sign), 1.0, feature.agents) for feature, sign in parts.directed[:3]]


def blind(rank: int, sign: float) -> Callable[[Parts], list[Piece]]:
    """Where nothing is known: one feature in one direction. Distances are known to count down, counts up."""

    def idea(parts: Parts) -> list[Piece]:
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


def _base(parts: Parts) -> list[Piece]:
    pieces = [_done(parts.progress[0])] if parts.progress else []
    if parts.rung is not None:
        pieces.append(_near(parts.rung, _rung_weight(parts)))
    return pieces


def _rung_weight(parts: Parts) -> float:
    """One thing done must outweigh the jump of the rung to the next thing, or Φ would fall when something is done."""
    if not parts.progress:
        return 1.0
    done = parts.progress[0]
    return max(1.0 / done.span, 0.1) if done.kind == "count" else 1.0


def _done(feature: Feature) -> Piece:
    return potential("done", feature.up(), 1.0, feature.agents)


def _near(feature: Feature, weight: float) -> Piece:
    return potential("near", f"-{feature.up()}", weight, feature.agents)


def _behind(parts: Parts, feature: Feature, team: str = "") -> Piece:
    left = feature.over_team(team) if team else feature.up()
    if parts.gate is None:
        return potential("then", f"-{left}", 1.0, feature.agents)
    return potential("then", f"{parts.gate.at_high()} * (1 - {left})", 1.0, feature.agents)


def _signed(feature: Feature, sign: float) -> str:
    return feature.up() if sign > 0 else f"-{feature.up()}"
