"""Visits of the graph's nodes, with the model calls that were made during them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..agents.config import Role
from ..agents.llm.ledger import Call
from . import graph_picture as drawing
from .records import VisitRecord

# The nodes in which a role is asked; the others only compute.
ROLE_OF_NODE: dict[str, Role] = {
    "critic": "critic",
    "generator": "generator",
    "rank_proposals": "ranker",
    "rank_transitions": "ranker",
    "fit_signals": "ranker",
}
JUDGE_PART = "-j"  # begins the parts of judgements
# As `agents.llm.model_call` makes it: point, round, role, part, turn and attempt.
CALL_ID = re.compile(r"p\d+-r\d+-(?:critic|generator|ranker)(?P<part>.*)-t(?P<turn>\d+)-a\d+(?P<cut>-cut\d+)?")


class CallId(NamedTuple):
    """The parts of a model call's id besides role, point and round.

    Attributes:
        part: of a question that one node puts in many calls; empty for others.
        turn: of the conversation, from 0.
        cut_off: whether a stop of the run cut it off.
    """

    part: str
    turn: int
    cut_off: bool

    @classmethod
    def of(cls, call: Call) -> CallId | None:
        """Read the id of a call; None for one of another form."""
        match = CALL_ID.fullmatch(call.id)
        return None if match is None else cls(match["part"], int(match["turn"]), match["cut"] is not None)


class NodeVisit(VisitRecord):
    """A visit with the model calls that began while it lasted."""

    calls: list[Call]


@dataclass(frozen=True)
class NodeVisits:
    """A node of the graph.

    Attributes:
        visits: oldest first.
        stray: model calls of the node outside of all of its visits.
    """

    name: str
    visits: list[NodeVisit]
    stray: list[Call]

    @property
    def count(self) -> int:
        """The number of visits."""
        return len(self.visits)


def node_visits(topology: drawing.Topology, visits: Sequence[VisitRecord], calls: Sequence[Call]) -> list[NodeVisits]:
    """Return each node of the graph with its visits, and the model calls made during them."""
    nodes: list[NodeVisits] = []
    for name in topology.nodes:
        if name in drawing.TERMINALS:
            continue
        # A visit has the calls that began while it lasted; a call of a killed visit may be in none.
        asked = [call for call in calls if node_of_call(call) == name]
        shown: list[NodeVisit] = []
        for visit in visits:
            if visit.node != name:
                continue
            end = float("inf") if visit.ended is None else visit.ended
            during = [call for call in asked if visit.started <= call.started <= end]
            shown.append(NodeVisit(**dict(visit), calls=during))
        placed = {call.id for visit in shown for call in visit.calls}
        nodes.append(NodeVisits(name, shown, [call for call in asked if call.id not in placed]))
    return nodes


def node_of_call(call: Call) -> str:
    """Return the node that made a model call.

    Three nodes ask the Ranker: `rank_transitions` and `fit_signals` ask in many parts, which the call's id names.
    """
    if call.role != "ranker":
        return call.role
    call_id = CallId.of(call)
    if call_id is None or not call_id.part:
        return "rank_proposals"
    return "fit_signals" if call_id.part.startswith(JUDGE_PART) else "rank_transitions"
