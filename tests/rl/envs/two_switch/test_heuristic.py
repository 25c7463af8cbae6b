"""The greedy controller solves every episode, nearly as fast as the optimum."""

from __future__ import annotations

from statistics import mean

from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.heuristic import greedy_heuristic


def steps_to_goal(seed: int) -> int:
    game = TwoSwitchGame(seed)
    while True:
        outcome = game.step(greedy_heuristic(game))
        assert not outcome.truncated
        if outcome.terminated:
            return game.clock


def test_it_solves_every_episode_in_16_7_steps_on_average() -> None:
    steps = [steps_to_goal(seed) for seed in range(1000)]
    assert abs(mean(steps) - 16.7) < 0.1
    # The joint optimum takes 14 to 20 steps over all starts (exact dynamic programming), 16.6 on average.
    assert (min(steps), max(steps)) == (14, 20)


def test_with_both_switches_open_the_shorter_of_the_longer_ways_counts() -> None:
    game = TwoSwitchGame(0)
    game.poses = [(6, 2, 0), (2, 2, 2)]  # green faces B, orange faces A
    assert greedy_heuristic(game) == (4, 4)


def test_on_a_tie_green_takes_a() -> None:
    game = TwoSwitchGame(0)
    game.poses = [(4, 2, 3), (4, 2, 3)]
    green, orange = greedy_heuristic(game)
    assert (green, orange) == (1, 2)  # both face north: green turns left to the west, orange right to the east


def test_the_one_who_is_not_needed_waits_in_front_of_the_door() -> None:
    game = TwoSwitchGame(0)
    game.poses, game.triggered = [(4, 3, 1), (6, 2, 0)], [True, False]
    assert greedy_heuristic(game) == (0, 4)
