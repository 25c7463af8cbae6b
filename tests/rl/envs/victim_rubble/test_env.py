"""Victim-Rubble as a PettingZoo environment and as a Task."""

from __future__ import annotations

from cosignal.rl.envs.victim_rubble.env import VictimRubbleEnv, VictimRubbleTask
from pettingzoo_tests import parallel_api_test, parallel_seed_test

EAST, SOUTH, WEST, NORTH = range(4)


def test_pettingzoos_own_tests_pass() -> None:
    parallel_api_test(VictimRubbleEnv(), num_cycles=500)
    parallel_seed_test(VictimRubbleEnv, num_cycles=300)


def test_a_state_is_told_from_one_agents_side() -> None:
    task = VictimRubbleTask()
    task.env.reset(seed=0)
    task.env.game.poses = [(6, 2, EAST), (4, 3, SOUTH)]
    told = task.viewpoint("orange")
    assert told.startswith(
        "You are the orange agent, the engineer, at Chamber3 (4,3) facing south. Your teammate green"
    )
    assert "Rubble1 at Chamber5 (8,1): blocking the only passage between Chamber5 and Chamber3" in told
    assert "Rubble2 at Chamber5 (9,2): blocking the only passage to Chamber4" in told
