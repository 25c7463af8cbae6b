"""Victim-Rubble: the compiled batch against the plain game, its heuristic, and PettingZoo's own contract."""

from __future__ import annotations

from statistics import mean

import numpy as np
from cosignal.rl.envs.grid.map import AGENTS, FORWARD, INTERACT, STAY
from cosignal.rl.envs.victim_rubble.env import BatchedVictimRubble, VictimRubbleEnv, VictimRubbleTask
from cosignal.rl.envs.victim_rubble.game import VictimRubbleGame
from cosignal.rl.envs.victim_rubble.heuristic import Scene, VictimRubbleHeuristic
from cosignal.rl.envs.victim_rubble.map import START_CELLS, THINGS
from cosignal.rl.task import episode_seed
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo_tests import parallel_api_test, parallel_seed_test

EAST, SOUTH, WEST, NORTH = range(4)


def test_the_map_has_the_coordinates_of_the_papers_prompts() -> None:
    assert THINGS == ((1, 1), (11, 1), (8, 1), (9, 2), (6, 5))
    assert len(START_CELLS) == 14


@settings(max_examples=8, deadline=None)
@given(base_seed=st.integers(0, 2**63), skill=st.sampled_from([0.0, 0.8]), overlap=st.booleans())
def test_the_batch_equals_the_plain_game(base_seed: int, skill: float, overlap: bool) -> None:
    batch, heuristic, rng = BatchedVictimRubble(2, 60, overlap), VictimRubbleHeuristic(), np.random.default_rng(0)
    batch.reset(base_seed)
    episodes, games = [0, 0], [VictimRubbleGame(episode_seed(base_seed, e, 0), 60, overlap) for e in (0, 1)]
    for _ in range(150):
        actions = rng.integers(0, 5, (2, 2))
        for e, game in enumerate(games):
            scene = Scene((game.poses[0], game.poses[1]), game.flags)
            if rng.random() < skill:
                actions[e] = [heuristic.act(agent, scene) for agent in AGENTS]
        step = batch.step([actions[:, :1], actions[:, 1:]])
        for e, game in enumerate(games):
            outcome = game.step(actions[e].tolist())
            for g in (0, 1):
                assert step.last_obs[g][e, 0].tobytes() == game.observation(g).tobytes()
                assert step.last_features[g][e, 0].tolist() == list(game.features(g).values())
                assert step.events[g][e, 0].tolist() == list(outcome.events[g].values())
            assert step.reward[e] == np.float32(outcome.reward)
            assert (step.terminated[e], step.truncated[e]) == (outcome.terminated, outcome.truncated)
            if outcome.terminated or outcome.truncated:
                episodes[e] += 1
                games[e] = VictimRubbleGame(episode_seed(base_seed, e, episodes[e]), 60, overlap)


def steps_to_the_end(seed: int) -> int:
    game, heuristic = VictimRubbleGame(seed), VictimRubbleHeuristic()
    while True:
        scene = Scene((game.poses[0], game.poses[1]), game.flags)
        outcome = game.step([heuristic.act(agent, scene) for agent in AGENTS])
        assert not outcome.truncated
        if outcome.terminated:
            return game.clock


def test_the_heuristic_solves_every_episode_in_28_steps_on_average() -> None:
    """The exact joint optimum is 28.0 on average, 24 to 31."""
    steps = [steps_to_the_end(seed) for seed in range(300)]
    assert abs(mean(steps) - 28.0) < 0.2
    assert min(steps) >= 24
    assert max(steps) <= 31


def judged(agent: str, before: Scene, action: int, pose: tuple[int, int, int]) -> int:
    poses = (pose, before.poses[1]) if agent == "green" else (before.poses[0], pose)
    return VictimRubbleHeuristic().prefers(agent, before, action, Scene(poses, before.flags))


def test_single_moves_are_judged_by_the_rules() -> None:
    start = Scene(((4, 2, WEST), (6, 1, EAST)), 0)
    assert judged("green", start, FORWARD, (3, 2, WEST)) == 1  # to the free victim
    assert judged("green", start, 2, (4, 2, NORTH)) == -1
    assert judged("orange", start, FORWARD, (7, 1, EAST)) == 1  # to the rubble in the gap
    assert judged("orange", start, INTERACT, (6, 1, EAST)) == 0  # nothing is faced
    at_rubble = Scene(((5, 1, EAST), (7, 1, EAST)), 1)
    assert judged("orange", at_rubble, INTERACT, (7, 1, EAST)) == 1
    assert judged("green", at_rubble, 1, (5, 1, NORTH)) == 0  # waits where it should, whatever it does
    harmless = Scene(((5, 1, EAST), (6, 4, SOUTH)), 1)
    assert judged("orange", harmless, INTERACT, (6, 4, SOUTH)) == 1
    strict = VictimRubbleHeuristic(strict_order=True)
    assert strict.prefers("orange", harmless, INTERACT, harmless) == -1
    assert VictimRubbleHeuristic().act("orange", Scene(harmless.poses, 0b11100)) == STAY


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
