"""Ranked moves of Two-Switch, and made-up ones, for the tests of preferences."""

from __future__ import annotations

from functools import cache

import numpy as np
from cosignal.rl.envs.grid.map import STAY, Pose
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.heuristic import greedy_heuristic, scene_of, subgoals
from cosignal.rl.preferences.pairs import Pairs

SHARE = 0.25  # of the moves, so that pairs spread over many episodes


def label(before: TwoSwitchGame, i: int, pose: Pose, triggered: int) -> int:
    """Of agent i's move to `pose`, in which it `triggered` so many switches (all else taken as unchanged)."""
    cost = subgoals(scene_of(before))[i]
    return 1 if triggered else int(np.sign(cost(before.poses[i]) - cost(pose)))


def snapshot(game: TwoSwitchGame) -> TwoSwitchGame:
    copied = TwoSwitchGame(0)
    copied.poses, copied.triggered = list(game.poses), list(game.triggered)
    return copied


def _mixed(game: TwoSwitchGame, rng: np.random.Generator) -> tuple[int, int]:
    """Each agent acts at random or greedily, by the toss of a coin."""
    random, skilled = rng.integers(0, 5, 2), rng.random(2) < 0.5
    chosen = np.where(skilled, greedy_heuristic(game), random)
    return int(chosen[0]), int(chosen[1])


@cache
def two_switch_pairs(count: int, seed: int, ties: bool = True) -> Pairs:
    """Labelled moves of both agents in random episodes, without those of staying. Do not write to it."""
    rng, rows = np.random.default_rng(seed), []
    game = TwoSwitchGame(int(rng.integers(1 << 30)), n_max=200)
    while len(rows) < count:
        before, actions = snapshot(game), _mixed(game, rng)
        outcome = game.step(actions)
        for i in (0, 1):
            if actions[i] != STAY and rng.random() < SHARE:
                judged = label(before, i, game.poses[i], outcome.events[i]["switch_triggered"])
                if judged or ties:
                    rows.append((before.observation(i), game.observation(i), i, actions[i], judged))
        if outcome.terminated or outcome.truncated:
            game = TwoSwitchGame(int(rng.integers(1 << 30)), n_max=200)
    obs, last_obs, agent, action, labels = zip(*rows[:count], strict=True)
    return Pairs(
        0, np.stack(obs), np.stack(last_obs), np.array(agent), np.array(action), np.array(labels),
        [""] * count, [""] * count,
    )  # fmt: skip


def made_up_pairs(count: int, seed: int) -> Pairs:
    """Steps at random in four numbers; better is what has more of a bent σ*(x) = 2 x₀ − |x₁| + x₂ x₃."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(count, 4)).astype(np.float32)
    last_obs = (obs + rng.normal(size=obs.shape)).astype(np.float32)
    return Pairs(
        0, obs, last_obs, np.zeros(count, np.int64), np.ones(count, np.int64),
        np.sign(true_score(last_obs) - true_score(obs)).astype(np.int64), [""] * count, [""] * count,
    )  # fmt: skip


def true_score(x: np.ndarray) -> np.ndarray:
    return 2 * x[:, 0] - abs(x[:, 1]) + x[:, 2] * x[:, 3]
