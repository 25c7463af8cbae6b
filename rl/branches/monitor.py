"""Is a run worse than it was? The monitor's arithmetic: two evaluations, one bound. No model has a vote.

Statistic: Welch's t for the difference of two means with unequal variances (Welch 1947, Biometrika 34:28-35),
one-sided, with the Welch-Satterthwaite degrees of freedom. Both evaluations are of the same fixed seeds, but the
policies act by chance and differ, so that the episodes are as good as independent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import stats

RUNNING = 2  # evaluations in a row that must show a regression: one in `level` does so by chance


class Returns(NamedTuple):
    """Undiscounted sparse returns of one evaluation: their mean, their sample standard deviation, and how many."""

    mean: float
    sd: float
    episodes: int


def regression_upper(now: Returns, before: Returns, level: float) -> float:
    """One-sided upper bound, at error `level` in (0, 1), of the change (now − before) of the mean return.

    Infinite where an evaluation has fewer than two episodes: nothing is known of its spread. Where neither spreads the
    change is what it is.
    """
    if min(now.episodes, before.episodes) < 2:
        return math.inf
    change = now.mean - before.mean
    parts = [one.sd**2 / one.episodes for one in (now, before)]
    spread = sum(part**2 / (one.episodes - 1) for part, one in zip(parts, (now, before), strict=True))
    if spread == 0.0:
        return change
    freedom = sum(parts) ** 2 / spread
    return change + float(stats.t.ppf(1.0 - level, freedom)) * math.sqrt(sum(parts))
