"""Relay: the compiled batch against the plain game."""

from __future__ import annotations

import numpy as np
from cosignal.rl.envs.relay.env import BatchedRelay
from cosignal.rl.envs.relay.game import RelayGame
from cosignal.rl.task import episode_seed
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_players import towards_lever


@settings(max_examples=8, deadline=None)
@given(base_seed=st.integers(0, 2**63), skill=st.sampled_from([0.0, 0.9]), overlap=st.booleans())
def test_the_batch_equals_the_plain_game(base_seed: int, skill: float, overlap: bool) -> None:
    batch, rng = BatchedRelay(2, 90, overlap), np.random.default_rng(0)
    batch.reset(base_seed)
    episodes, games = [0, 0], [RelayGame(episode_seed(base_seed, e, 0), 90, overlap) for e in (0, 1)]
    for _ in range(200):
        actions = rng.integers(0, 5, (2, 2))
        for e, game in enumerate(games):
            if rng.random() < skill:
                actions[e] = [towards_lever(game, i) for i in (0, 1)]
        step = batch.step([actions[:, :1], actions[:, 1:]])
        for e, game in enumerate(games):
            outcome = game.step(actions[e].tolist())
            for g in (0, 1):
                assert step.last_obs[g][e, 0].tobytes() == game.observation(g).tobytes()
                assert step.last_features[g][e, 0].tolist() == list(game.features(g).values())
                assert step.events[g][e, 0].tolist() == list(outcome.events[g].values())
            assert step.reward[e] == np.float32(outcome.reward) == float(outcome.terminated)
            assert (step.terminated[e], step.truncated[e]) == (outcome.terminated, outcome.truncated)
            if outcome.terminated or outcome.truncated:
                episodes[e] += 1
                games[e] = RelayGame(episode_seed(base_seed, e, episodes[e]), 90, overlap)
