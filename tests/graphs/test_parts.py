"""Routing, exploration and budgets: the pure parts around the graph, and what a process imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.graphs import routing
from cosignal.graphs.branches import kept_exploration, round_exploration
from cosignal.graphs.graph import build_graph
from cosignal.graphs.intervention import competence, cost_of_round, cost_until, levels, steps_left
from cosignal.graphs.state import State
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Exploration, Signal


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
        (routing.after_rank, {"verdict": None}, "validate"),
        (routing.after_observe, {"monitoring": True, "triggered": True}, "monitor"),
        (routing.after_observe, {"triggered": True, "removing": True}, "remove_shaping"),
        (routing.after_monitor, {"triggered": True}, "critic"),
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
        "critic",
        "critic_tools",
        "rank_transitions",
        "generator",
        "check",
        "rank_proposals",
        "validate",
        "decide",
        "approve",
        "confirm",
        "promote",
    }
    assert set(drawn.nodes) == roles | {"__start__", "__end__"}


# ---------------------------------------------------------------- rounds


def status(**changes: Any) -> TrainerStatus:
    values = {
        "state": "waiting", "update": 100, "steps_main": 200_000, "steps_evaluation": 0, "steps_repeated": 0,
        "steps_adopted": 0, "steps_budget": 1_000_000, "waiting_at": 100, "snapshot": "s", "stage": "plateaued",
        "signal": Signal(), "sparse_return": 1.0, "success_rate": 0.0,
    }  # fmt: skip
    return TrainerStatus.model_validate({**values, **changes})


def test_the_first_ranked_exploration_is_everybodys() -> None:
    kick, entropy = Exploration(kick=0.05), Exploration(entropy=0.05)
    in_force = Signal(exploration=Exploration(entropy=0.02, kick=0.1))
    assert round_exploration([Exploration(), kick, entropy], in_force) == kick
    assert round_exploration([Exploration()], in_force) == Exploration(entropy=0.02)  # kept, and no second kick
    assert kept_exploration(Signal()) == Exploration()


def test_the_cost_of_a_round_is_that_of_the_first_look_that_can_decide() -> None:
    config = RunConfig.model_validate(
        {
            "branches": {"horizon": 60_000, "screen_seeds": 2, "finalists": 2},
            "adaptation": {"candidates": 3, "rounds": 2},
            "gate": {"looks": [3, 5], "level": 0.1},
        }
    )
    assert [level > 0 for level in levels(config)] == [False, True]
    # screening is 4 arms × 2 seeds; then finalist and control have 2 seeds continued and 1 or 3 fresh ones
    assert cost_until(config, 60_000, 0) == 240_000 + 240_000
    assert cost_of_round(config, 60_000) == cost_until(config, 60_000, 1) == 240_000 + 480_000
    assert cost_until(config, 60_000, 1, finalists=2) == 240_000 + 720_000


def test_steps_left_of_the_share() -> None:
    config = RunConfig.model_validate({"adaptation": {"max_share": 0.75}})
    assert steps_left(config, 1_000_000, 400_000) == 2_600_000


def test_competence_is_a_share_of_the_return_range() -> None:
    assert competence(status(sparse_return=1.0), (-1.0, 3.0)) == 0.5
    assert competence(status(sparse_return=None), (-1.0, 3.0)) is None
    assert competence(status(), None) is None
    assert competence(status(), (1.0, 1.0)) is None


# ---------------------------------------------------------------- who imports what


def test_the_loop_process_does_not_import_torch() -> None:
    code = "import sys, cosignal, cosignal.graphs.session.run; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_reading_a_config_imports_neither_langchain_nor_torch() -> None:
    code = (
        "import sys, cosignal; cosignal.RunConfig().training();"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'torch', 'langchain_core', 'langgraph', 'numba'};"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
