"""Laws of LCA's method as rows of the study: T-1 to T-3, checked on scorers fitted to Two-Switch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...rl.envs.config import TaskConfig
from ...rl.envs.two_switch.game import TwoSwitchGame
from ...rl.preferences.collect import collect_pairs
from ...rl.preferences.config import ScorerConfig
from ...rl.preferences.fit import fit_scorer
from ...rl.signals.scorer import Scorer
from ...rl.signals.terms.learned import difference
from ...rl.task import FloatArray
from ..report import Row
from .statements import below, statement_row

PAIRS = 1500  # a seed
STATES = 200  # moves of random play, for T-2
NOTHING = 0.05  # of what a clean scorer pays
ROUNDING = 1e-4  # of a scorer's unit, in single precision


def law_rows(seeds: Sequence[int]) -> list[Row]:
    """Return a row for each law; every seed has pairs and scorers of its own."""
    undecided, swapped, shifted, stayed = zip(*(measure_laws(seed) for seed in seeds), strict=True)
    n = len(seeds)
    nobody_knows = below(
        "mean absolute reward where all votes are 1/2, as a share of the clean one", undecided, NOTHING
    )
    swap = below("largest difference where two agents swap places", swapped, ROUNDING)
    shift = below("largest change of a reward where σ is shifted by 7", shifted, ROUNDING)
    stay = below("largest reward of an agent that stays", stayed, ROUNDING)
    return [
        statement_row("T-1", "what nobody knows pays nothing", [nobody_knows], n),
        statement_row("T-2", "exchangeable agents that swap poses swap rewards (Eq. 5)", [swap], n),
        statement_row("T-3", "a constant in σ pays nothing; who stays is paid nothing", [shift, stay], n),
    ]


def measure_laws(seed: int) -> tuple[float, float, float, float]:
    """Fit scorers to one seed's pairs, and return the numbers of the laws.

    Returns:
        The mean absolute reward of a scorer all of whose votes were 1/2, as a share of a clean one's; the largest
        difference where agents swap places; the largest change where σ is shifted by 7; the largest reward for staying.
    """
    [pairs] = collect_pairs(TaskConfig(name="two_switch"), [PAIRS], seed).pairs
    # a scorer of true votes, one of votes that say nothing, and the first with σ shifted by 7
    clean = fit_scorer(pairs, (pairs.label + 1) / 2, ScorerConfig(), seed).scorer
    unknown = fit_scorer(pairs, np.full(len(pairs), 0.5), ScorerConfig(), seed).scorer
    shifted = replace(clean, anchor=clean.anchor - 7 * clean.unit)

    def paid(scorer: Scorer, moved: bool = True) -> FloatArray:
        """Return the reward of each move [P]."""
        rewards = difference(scorer.score(pairs.obs), scorer.score(pairs.last_obs), np.full(len(pairs), moved))
        return np.asarray(rewards, np.float32)

    share = np.abs(paid(unknown)).mean() / np.abs(paid(clean)).mean()
    change = np.abs(paid(shifted) - paid(clean)).max()
    return float(share), largest_swap_gap(clean, seed), float(change), float(np.abs(paid(clean, moved=False)).max())


def largest_swap_gap(scorer: Scorer, seed: int) -> float:
    """Return the largest |r_0 − r_1'| or |r_1 − r_0'| of moves in random play; ' is with both poses swapped."""
    rng, gaps = np.random.default_rng(seed), list[float]()
    game = TwoSwitchGame(seed)

    def gap() -> FloatArray:
        """Return [2]: σ of each agent here minus σ of the other one where they have swapped places."""
        here = [game.observation(i) for i in (0, 1)]
        game.poses.reverse()
        there = [game.observation(i) for i in (1, 0)]
        game.poses.reverse()
        return np.asarray(scorer.score(np.stack(here)) - scorer.score(np.stack(there)))

    while len(gaps) < STATES:
        before = gap()
        game.step(rng.integers(0, 5, 2).tolist())
        gaps.append(float(np.abs(gap() - before).max()))
    return max(gaps)
