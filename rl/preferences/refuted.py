"""What the sparse outcome says of a scorer: pairs that refute it, and how often it finds one good state among bad ones.

*Refuted* (Cooper: Hong et al. 2025, which trains a reward model beside the policy on answers that a rule judges):
states in which episodes ended badly and which the scorer likes all the same, more than it likes the median end of a
good one. At the next fit each is the worse half of a pair whose better half is the end of a good episode, so that an
exploit loses its score. The rule here is the sparse outcome: success, else a return in the upper or the lower third.

*One to many* (RewardMATH: Kim et al. 2024, one correct answer against nine wrong ones, which goes with what a policy
gains where single pairs do not): the share of sets in which the one good end scores highest, and the mean of 1 / its
rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..experience.transition_sample import TransitionSample
from ..signals.scorer import Scorer
from ..task import FloatArray, IntArray
from .pairs import NOT_JUDGED, Pairs

BAD_ENDS = 9  # against one good one
SETS = 200
NOTHING_DONE = 0  # `Pairs.action` of pairs that no move connects


class Ends(NamedTuple):
    """Where episodes ended, from the side of each agent of a group: the last states before termination."""

    good: FloatArray  # [K, A_g, O_g]
    bad: FloatArray  # [B, A_g, O_g]


class OneToMany(NamedTuple):
    """How often one good end is found among `BAD_ENDS` bad ones, 0..1 each."""

    accuracy: float
    mean_reciprocal_rank: float


def ends_of(recorded: TransitionSample, g: int) -> Ends:
    """Return the good and the bad ends of the recorded episodes; both empty where nothing tells them apart."""
    obs, success = recorded.end_obs[g], np.asarray(recorded.end_success) > 0.5
    if success.any() and not success.all():
        return Ends(obs[success], obs[~success])
    returns = np.asarray(recorded.end_return, np.float64)
    known = np.isfinite(returns)
    if not len(returns) or not known.any():
        return Ends(obs[:0], obs[:0])
    low, high = np.quantile(returns[known], [1 / 3, 2 / 3])
    if low == high:
        return Ends(obs[:0], obs[:0])
    return Ends(obs[returns >= high], obs[returns <= low])


def refuted_pairs(scorer: Scorer, ends: Ends, group: int, most: int, seed: int) -> Pairs:
    """Return at most so many pairs from a bad end that the scorer likes to a good end of the same agent.

    Those that it likes most come first. There are none where it likes no bad end more than the median good one.
    """
    good, bad = ends
    rng = np.random.default_rng(seed)
    if len(good) and len(bad):
        liked = scorer.score(bad) - np.median(scorer.score(good), axis=0)  # [B, A]
        order = np.argsort(-liked, axis=None, kind="stable")[:most]
        order = order[liked.ravel()[order] > 0]
    else:
        order = np.zeros(0, np.int64)
    episode, agent = np.unravel_index(order, bad.shape[:2])
    better = rng.integers(0, max(len(good), 1), len(order))
    size = bad.shape[-1]
    words = [""] * len(order)
    return Pairs(
        group=group,
        obs=bad[episode, agent].reshape(-1, size).astype(np.float32),
        last_obs=good[better, agent].reshape(-1, size).astype(np.float32) if len(order) else bad[:0, 0],
        agent=agent.astype(np.int64),
        action=np.full(len(order), NOTHING_DONE, np.int64),
        label=np.full(len(order), NOT_JUDGED, np.int64),
        before=words,
        after=words,
    )


def one_to_many(scorer: Scorer, ends: Ends, seed: int) -> OneToMany | None:
    """Return how often the scorer finds the good end, each set of one agent; None with fewer than nine bad ends.

    A good end that scores as high as a bad one is behind it.
    """
    good, bad = ends
    if not len(good) or len(bad) < BAD_ENDS:
        return None
    rng = np.random.default_rng(seed)
    liked, disliked = scorer.score(good), scorer.score(bad)
    ranks = np.zeros(SETS)
    for i in range(SETS):
        agent = rng.integers(liked.shape[1])
        others: IntArray = rng.choice(len(bad), BAD_ENDS, replace=False)
        ranks[i] = 1 + (disliked[others, agent] >= liked[rng.integers(len(good)), agent]).sum()
    return OneToMany(float((ranks == 1).mean()), float((1 / ranks).mean()))
