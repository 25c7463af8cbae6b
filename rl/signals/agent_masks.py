"""Which agents a term applies to."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np

from ...errors import SignalError
from ..task import BoolArray, TaskSpec
from .expression import Expression
from .signal import EventTerm, LearnedTerm, PotentialTerm, Term


def learned_masks(term: LearnedTerm, obs_size: int, spec: TaskSpec) -> list[BoolArray]:
    """[g] [A_g]: true where the term applies; those agents must observe as many numbers as its scorer takes.

    Raises SignalError where they do not, or are not there.
    """
    chosen = _chosen(term, spec)
    for group, mask in zip(spec.groups, chosen, strict=True):
        if mask.any() and group.obs_size != obs_size:
            raise SignalError(
                f"term {term.name!r}: scorer {term.scorer!r} takes {obs_size} observed numbers, agents of "
                f"{group.name!r} observe {group.obs_size}; name the agents that it was fitted for"
            )
    return chosen


def term_masks(term: PotentialTerm | EventTerm, expression: Expression | None, spec: TaskSpec) -> list[BoolArray]:
    """[g] [A_g]: true where the term applies.

    "all" means every agent whose group has the features (or the event) that the term reads, and there must be one.
    Agents that are named, by group or one by one, must all have them. Raises SignalError with the closest match.
    """
    needed = _needed(term, expression, spec)
    what = "features" if isinstance(term, PotentialTerm) else "events"
    has = [needed <= set(_offered(term, spec, g)) for g in range(len(spec.groups))]
    if not any(has):
        raise SignalError(
            f"term {term.name!r} needs {what} {sorted(needed)!r} in one group, and no group has them all; "
            "use features of one group, and mean_mates, min_mates or max_mates for the others'"
        )
    chosen = _chosen(term, spec)
    if term.agents == "all":
        return [mask & has_it for mask, has_it in zip(chosen, has, strict=True)]
    for group, mask, has_it in zip(spec.groups, chosen, has, strict=True):
        if mask.any() and not has_it:
            raise SignalError(
                f"term {term.name!r} is for agents {term.agents!r}, but group {group.name!r} lacks some of its {what} "
                f"{sorted(needed)!r}; write agents: all, or name agents that have them"
            )
    return chosen


def _offered(term: PotentialTerm | EventTerm, spec: TaskSpec, g: int) -> list[str]:
    group = spec.groups[g]
    return group.feature_names() if isinstance(term, PotentialTerm) else group.event_names()


def _needed(term: PotentialTerm | EventTerm, expression: Expression | None, spec: TaskSpec) -> set[str]:
    """Names that an agent itself must have; raises SignalError where a name exists in no group."""
    known = {name for g in range(len(spec.groups)) for name in _offered(term, spec, g)}
    if isinstance(term, PotentialTerm):
        if expression is None:
            raise SignalError(f"potential {term.name!r} comes without its expression; parse {term.expression!r} first")
        needed, read, kind = set(expression.own), set(expression.names()), "feature"
    else:
        needed, read, kind = {term.event}, {term.event}, "event"
    for name in sorted(read - known):
        raise SignalError(
            f"term {term.name!r} reads {kind} {name!r}, which this task does not have; {closest(name, known)}"
        )
    return needed


def _chosen(term: Term, spec: TaskSpec) -> list[BoolArray]:
    groups = {group.name for group in spec.groups}
    if isinstance(term.agents, str):
        if term.agents != "all" and term.agents not in groups:
            remedy = closest(term.agents, {"all"} | groups)
            if term.agents in spec.agents:
                remedy = f"write one agent as a list: [{term.agents}]"
            raise SignalError(
                f"term {term.name!r}: agents must be 'all' or a group's name, got {term.agents!r}; {remedy}"
            )
        return [np.full(len(group.agents), term.agents in ("all", group.name)) for group in spec.groups]
    if not term.agents:
        raise SignalError(f"term {term.name!r}: agents must name at least one agent, got []; write agents: all")
    for agent in term.agents:
        if agent not in spec.agents:
            raise SignalError(f"term {term.name!r}: no agent is called {agent!r}; {closest(agent, set(spec.agents))}")
    return [np.array([agent in term.agents for agent in group.agents], bool) for group in spec.groups]


def closest(name: str, known: set[str]) -> str:
    """A remedy: the nearest name, or all of them."""
    matches = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {matches[0]!r}?" if matches else f"it has {sorted(known)!r}"
