"""Masks of the agents that a term applies to."""

from __future__ import annotations

from collections.abc import Set
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

import numpy as np

from ....errors import SignalError

if TYPE_CHECKING:
    from ...task import BoolArray, TaskSpec
    from .base import BaseTerm


def agents_that_have(
    term: BaseTerm, noun: Literal["feature", "event"], needed: Set[str], read: Set[str], spec: TaskSpec
) -> list[BoolArray]:
    """Return [g] [A_g], true where a term that reads features or events applies.

    "all" means every agent whose group has what the term needs, and there must be one. Agents that are named, by group
    or one by one, must all have it.

    Args:
        term: the term, whose `agents` count.
        noun: what the names are of.
        needed: names that an agent itself must have.
        read: all names that the term reads, those of its mates included.
        spec: the task.

    Raises:
        SignalError: a name exists in no group, or the agents do not have what is needed; with the closest match.
    """
    # [g] the names that a group has, whoever is named.
    offered = [set(g.feature_names() if noun == "feature" else g.event_names()) for g in spec.groups]
    known = set[str]().union(*offered)
    for name in sorted(read - known):
        raise SignalError(
            f"term {term.name!r} reads {noun} {name!r}, which this task does not have; {_closest(name, known)}"
        )
    has = [needed <= names for names in offered]
    if not any(has):
        raise SignalError(
            f"term {term.name!r} needs {noun}s {sorted(needed)!r} in one group, and no group has them all; "
            "use features of one group, and a mates function, such as max_mates, for the others'"
        )
    # Everybody: whoever has it. Named agents: all of them, or the term is refused.
    masks = named_agents(term, spec)
    if term.agents == "all":
        return [mask & has_it for mask, has_it in zip(masks, has, strict=True)]
    for group, mask, has_it in zip(spec.groups, masks, has, strict=True):
        if mask.any() and not has_it:
            raise SignalError(
                f"term {term.name!r} is for agents {term.agents!r}, but group {group.name!r} lacks some of its {noun}s "
                f"{sorted(needed)!r}; write agents: all, or name agents that have them"
            )
    return masks


def named_agents(term: BaseTerm, spec: TaskSpec) -> list[BoolArray]:
    """Return [g] [A_g], true for the agents that the term names, whatever they have.

    Raises:
        SignalError: a name is of no agent and no group of the task.
    """
    groups = {group.name for group in spec.groups}
    if isinstance(term.agents, str):
        if term.agents != "all" and term.agents not in groups:
            remedy = _closest(term.agents, {"all"} | groups)
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
            raise SignalError(f"term {term.name!r}: no agent is called {agent!r}; {_closest(agent, set(spec.agents))}")
    return [np.array([agent in term.agents for agent in group.agents], bool) for group in spec.groups]


def _closest(name: str, known: Set[str]) -> str:
    """Return a remedy: the nearest known name, or all of them."""
    matches = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {matches[0]!r}?" if matches else f"it has {sorted(known)!r}"
