"""Victim-Rubble: the compiled batch against the plain game."""

from __future__ import annotations

import numpy as np
from cosignal.rl.envs.grid.map import AGENTS
from cosignal.rl.envs.victim_rubble.env import BatchedVictimRubble
from cosignal.rl.envs.victim_rubble.game import VictimRubbleGame
from cosignal.rl.envs.victim_rubble.heuristic import Scene, VictimRubbleHeuristic
from cosignal.rl.task import episode_seed
from hypothesis import given, settings
from hypothesis import strategies as st


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
