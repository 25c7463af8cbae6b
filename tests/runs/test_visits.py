"""Visits of nodes with the model calls that were made during them."""

from __future__ import annotations

from pathlib import Path

import pytest
import records
from cosignal.agents.llm.ledger import Call
from cosignal.graphs.tracing.span_attributes import visit_attributes
from cosignal.runs.graph_picture import Topology
from cosignal.runs.records import VisitRecord
from cosignal.runs.run_view import RunView
from cosignal.runs.visits import ROLE_OF_NODE, node_of_call, node_visits
from made_up_run import GRAPH


def test_prompts_and_answers_stand_in_the_visit_that_made_the_call(finished_run: Path) -> None:
    view = RunView(finished_run)
    nodes = {node.name: node for node in node_visits(GRAPH, view.visits(), view.calls())}
    assert nodes["critic"].count == 2
    assert [len(visit.calls) for visit in nodes["critic"].visits] == [1, 1]
    assert nodes["critic"].stray == []
    assert nodes["observe"].visits[0].calls == []
    assert nodes["observe"].visits[0].seconds == pytest.approx(4.2)


def visit(node: str, started: float, ended: float | None) -> VisitRecord:
    return VisitRecord(
        task_id=node, node=node, point=20, round=0, started=started, ended=ended, status="ok", detail=None
    )


def call(key: str, started: float) -> Call:
    return records.call(key, role=key.split("-")[2], started=started)


def test_the_two_nodes_that_ask_the_ranker_have_their_own_calls() -> None:
    topology = Topology(("__start__", "rank_transitions", "generator", "rank_proposals", "__end__"), ())
    visits = [visit("rank_transitions", 10, 20), visit("generator", 20, 25), visit("rank_proposals", 25, None)]
    moves = [call("p20-r0-ranker-s0-0123abcd-t0-a0", 11), call("p20-r0-ranker-s1-4567cdef-t0-a1", 19)]
    proposals = [call("p20-r0-ranker-t0-a0", 26), call("p20-r0-ranker-t0-a1-cut1700000000000", 9)]
    ideas = call("p20-r0-generator-t0-a0", 21)
    ranked, generated, ordered = node_visits(topology, visits, [*moves, ideas, *proposals])
    assert (ranked.count, ranked.visits[0].calls, ranked.stray) == (1, moves, [])
    assert (generated.visits[0].calls, generated.stray) == ([ideas], [])
    assert (ordered.visits[0].calls, ordered.stray) == ([proposals[0]], [proposals[1]])  # cut off in an earlier visit


def test_spans_and_reports_know_the_same_role_of_every_node() -> None:
    for node, role in ROLE_OF_NODE.items():
        assert role in visit_attributes(node, None, {}).values()
    for role in ("critic", "generator", "ranker"):
        assert ROLE_OF_NODE[node_of_call(call(f"p1-r0-{role}-t0-a0", 0))] == role
