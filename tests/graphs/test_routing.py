"""Where the graph goes next, and the nodes that there are."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.graphs import routing
from cosignal.graphs.graph import build_graph
from cosignal.graphs.state import State


@pytest.mark.parametrize(
    ("route", "state", "goes_to"),
    [
        (routing.after_observe, {"finished": True, "triggered": True}, "__end__"),
        (routing.after_observe, {"triggered": True}, "critic"),
        (routing.after_observe, {"triggered": False}, "observe"),
        (routing.after_critic, {"verdict": "no_answer", "diagnosis": None}, "observe"),
        (routing.after_critic, {"verdict": "insufficient_evidence", "diagnosis": {}}, "observe"),
        (routing.after_critic, {"verdict": None, "diagnosis": None}, "critic_tools"),
        (routing.after_critic, {"verdict": None, "diagnosis": {}}, "generator"),
        (routing.after_generator, {"verdict": "budget"}, "observe"),
        (routing.after_generator, {"verdict": None}, "check"),
        (routing.after_check, {"passed": []}, "decide"),
        (routing.after_check, {"passed": ["p1-r0-0"]}, "rank_proposals"),
        (routing.after_rank, {"verdict": "no_answer"}, "observe"),
        (routing.after_rank, {"verdict": None, "claim": "signal"}, "validate"),
        (routing.after_rank, {"verdict": None, "claim": "policy"}, "race"),
        (routing.after_race, {"verdict": "accept", "race": "p1-r0", "clock": "overlap"}, "approve"),
        (routing.after_race, {"verdict": None, "race": "p1-r0", "clock": "overlap"}, "race"),
        (routing.after_race, {"verdict": None, "race": "p1-r0", "clock": "lockstep"}, "observe"),
        (routing.after_race, {"verdict": "no_difference", "race": None, "clock": "overlap"}, "observe"),
        (routing.after_observe, {"race": "p1-r0", "triggered": False}, "race"),
        (routing.after_observe, {"monitoring": True, "triggered": True}, "monitor"),
        (routing.after_observe, {"triggered": True, "removing": True}, "remove_shaping"),
        (routing.after_remove_shaping, {"verdict": "accept", "removing": True}, "approve"),
        (routing.after_remove_shaping, {"verdict": None, "removing": True}, "check"),
        (routing.after_monitor, {"triggered": True}, "critic"),
        (routing.after_monitor, {"triggered": True, "given": True}, "given_signals"),
        (routing.after_monitor, {"triggered": True, "given": True, "removing": True}, "remove_shaping"),
        (routing.after_monitor, {"triggered": False}, "observe"),
        (routing.after_monitor, {"finished": True}, "__end__"),
        (routing.after_decide, {"verdict": "accept"}, "approve"),
        (routing.after_approve, {"verdict": "accept"}, "confirm"),
        (routing.after_approve, {"verdict": "declined"}, "observe"),
        (routing.after_confirm, {"verdict": "accept"}, "promote"),
        (routing.after_confirm, {"verdict": "stale"}, "observe"),
        (routing.after_decide, {"verdict": None}, "generator"),
        (routing.after_decide, {"verdict": "reject"}, "observe"),
    ],
)
def test_routes(route: Any, state: State, goes_to: str) -> None:
    assert route(state) == goes_to


def test_the_graph_has_the_nodes_of_the_design_and_needs_nothing_running() -> None:
    drawn = build_graph(RunConfig()).get_graph()
    roles = {
        "observe",
        "monitor",
        "remove_shaping",
        "given_signals",
        "critic",
        "critic_tools",
        "rank_transitions",
        "fit_signals",
        "generator",
        "check",
        "rank_proposals",
        "validate",
        "race",
        "decide",
        "approve",
        "confirm",
        "promote",
    }
    assert set(drawn.nodes) == roles | {"__start__", "__end__"}
