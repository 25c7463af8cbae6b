"""Laws of LCA's method as rows of the study: T-1 to T-3, on scorers fitted to Two-Switch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...rl.envs.config import TaskConfig
from ...rl.envs.two_switch.game import TwoSwitchGame
from ...rl.preferences.collect import collect_pairs
from ...rl.preferences.config import ScorerConfig
from ...rl.preferences.fit import fit_scorer
from ...rl.preferences.pairs import Pairs
from ...rl.signals.scorer import Scorer
from ...rl.signals.terms.learned import difference
from ...rl.task import FloatArray
from ..report import Row
from .statements import Part, below, judged

PAIRS = 1500
STATES = 200
NOTHING = 0.05  # of what a clean scorer pays
ROUNDING = 1e-4  # of a scorer's unit, in single precision


def law_rows(seeds: Sequence[int]) -> list[Row]:
    """One row a law; every seed has pairs and scorers of its own."""
    found = [_of_seed(seed) for seed in seeds]
    undecided, swapped, shifted, stayed = (list(values) for values in zip(*found, strict=True))
    what = "mean absolute reward where all votes are 1/2, as a share of the clean one"
    first = [below(what, undecided, NOTHING)]
    third = [
        _zero("largest change of a reward where σ is shifted by 7", shifted),
        _zero("largest reward of an agent that stays", stayed),
    ]
    swap = [_zero("largest difference where two agents swap places", swapped)]
    n = len(seeds)
    return [
        judged("T-1", "what nobody knows pays nothing", first, n),
        judged("T-2", "exchangeable agents that swap poses swap rewards (Eq. 5)", swap, n),
        judged("T-3", "a constant in σ pays nothing; who stays is paid nothing", third, n),
    ]


def _zero(what: str, values: Sequence[float]) -> Part:
    return below(what, values, ROUNDING)


def _of_seed(seed: int) -> tuple[float, float, float, float]:
    [pairs] = collect_pairs(TaskConfig(name="two_switch"), [PAIRS], seed).pairs
    clean = fit_scorer(pairs, (pairs.label + 1) / 2, ScorerConfig(), seed).scorer
    unknown = fit_scorer(pairs, np.full(len(pairs), 0.5), ScorerConfig(), seed).scorer
    share = np.abs(_paid(unknown, pairs)).mean() / np.abs(_paid(clean, pairs)).mean()
    shifted = replace(clean, anchor=clean.anchor - 7 * clean.unit)
    change = np.abs(_paid(shifted, pairs) - _paid(clean, pairs)).max()
    stays = np.abs(_paid(clean, pairs, moved=False)).max()
    return float(share), _swapped(clean, seed), float(change), float(stays)


def _paid(scorer: Scorer, pairs: Pairs, moved: bool = True) -> FloatArray:
    """[P]: the reward of each move."""
    rewards = difference(scorer.score(pairs.obs), scorer.score(pairs.last_obs), np.full(len(pairs), moved))
    return np.asarray(rewards, np.float32)


def _swapped(scorer: Scorer, seed: int) -> float:
    """Largest |r_0 − r_1'| and |r_1 − r_0'| of moves in random play, where ' is the same with both poses swapped."""
    rng, gaps = np.random.default_rng(seed), list[float]()
    game = TwoSwitchGame(seed)
    while len(gaps) < STATES:
        before = _views(scorer, game)
        game.step(rng.integers(0, 5, 2).tolist())
        gaps.append(float(np.abs(_views(scorer, game) - before).max()))
    return max(gaps)


def _views(scorer: Scorer, game: TwoSwitchGame) -> FloatArray:
    """[2]: σ of each agent here minus σ of the other one where they have swapped places."""
    here = [game.observation(i) for i in (0, 1)]
    game.poses.reverse()
    there = [game.observation(i) for i in (1, 0)]
    game.poses.reverse()
    return np.asarray(scorer.score(np.stack(here)) - scorer.score(np.stack(there)))
