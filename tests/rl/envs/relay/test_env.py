"""Relay as a PettingZoo environment and as a Task, and what makes it long."""

from __future__ import annotations

import numpy as np
from cosignal.rl.envs.relay.env import BatchedRelay, RelayEnv, RelayTask
from cosignal.rl.envs.relay.game import RelayGame
from cosignal.rl.envs.relay.map import LEVERS, standing_poses
from cosignal.rl.envs.relay.spec import N_MAX, relay_spec
from pettingzoo_tests import parallel_api_test, parallel_seed_test
from relay_players import towards_lever

EAST, SOUTH, WEST, NORTH = range(4)
INTERACT, STAY = 4, 0


def test_pettingzoos_own_tests_pass() -> None:
    parallel_api_test(RelayEnv(), num_cycles=500)
    parallel_seed_test(RelayEnv, num_cycles=300)


def test_a_state_is_told_from_one_agents_side() -> None:
    task = RelayTask()
    task.env.reset(seed=0)
    task.env.game.poses = [(1, 1, NORTH), (4, 3, SOUTH)]
    task.env.game.pulled[0] = True
    told = task.viewpoint("orange")
    assert told.startswith(
        "You are the orange agent, the porter, at (4,3) facing south. Your teammate green is at (1,1)"
    )
    assert "Lever 1 at (1,0): pulled. Lever 2 at (11,6): not pulled." in told


def test_levers_are_pulled_by_turns_and_each_opens_the_next_room() -> None:
    game = RelayGame(seed=1)
    game.poses = [(1, 1, NORTH), (1, 1, NORTH)]
    assert not game.walkable(6, 3)
    orange = game.step([STAY, INTERACT])  # the porter cannot pull the guide's lever
    assert (orange.events, orange.reward) == (({"guide_pulled": 0}, {"porter_pulled": 0}), 0.0)
    green = game.step([INTERACT, STAY])
    assert (green.events[0], green.reward) == ({"guide_pulled": 1}, 0.0)
    assert game.walkable(6, 3) and not game.walkable(12, 3)
    again = game.step([INTERACT, STAY])
    assert again.events[0] == {"guide_pulled": 0}  # once and for good


def test_only_the_last_of_four_levers_is_paid() -> None:
    assert relay_spec().return_range == (0.0, 1.0)
    lengths = []
    for seed in range(50):
        game = RelayGame(seed)
        rewards, pulled = [], 0
        while True:
            outcome = game.step([towards_lever(game, i) for i in (0, 1)])
            rewards.append(outcome.reward)
            pulled += sum(sum(counts.values()) for counts in outcome.events)
            if outcome.terminated or outcome.truncated:
                break
        assert outcome.terminated and pulled == len(LEVERS)
        assert rewards[-1] == 1.0 and not any(rewards[:-1])
        lengths.append(len(rewards))
    assert min(lengths) > N_MAX / 4 and max(lengths) < N_MAX / 2  # there is room for detours


def test_random_play_pulls_the_first_lever_and_never_the_third() -> None:
    """So that nobody is paid, however long it is trained without help."""
    envs, rng = 500, np.random.default_rng(0)
    task, reached, now = BatchedRelay(envs), np.zeros(5), np.zeros(envs, int)
    for _ in range(5 * N_MAX):
        step = task.step([rng.integers(0, 5, (envs, 1)) for _ in range(2)])
        now += sum(events[:, 0, 0].astype(int) for events in step.events)
        over = step.terminated | step.truncated
        reached += np.bincount(now[over], minlength=5)
        now[over] = 0
    at_least = reached[::-1].cumsum()[::-1] / reached.sum()
    assert 0.1 < at_least[1] < 0.3
    assert at_least[2] < 0.002 and at_least[3] == at_least[4] == 0


def test_until_a_lever_is_pulled_nobody_gets_past_its_room() -> None:
    assert [max(x for x, _, _ in standing_poses((1 << k) - 1)) for k in range(4)] == [5, 11, 17, 23]
    bounds = {feature.name: feature.high for feature in relay_spec().groups[0].features}
    assert bounds["dist_lever_1"] < bounds["dist_lever_2"] < bounds["dist_lever_4"]
