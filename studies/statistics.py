"""Means and shares with 95 % intervals (scipy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 10_000


def mean_ci(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and 95 % percentile bootstrap interval; the interval is the mean itself where all values are equal."""
    data = np.asarray(values, float)
    mean = float(data.mean())
    if len(data) < 2 or np.ptp(data) == 0:
        return mean, (mean, mean)
    found = stats.bootstrap((data,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
    return mean, (float(found.confidence_interval.low), float(found.confidence_interval.high))


def share_ci(hits: int, of: int) -> tuple[float, tuple[float, float]]:
    """Share and its 95 % Wilson interval."""
    interval = stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
    return hits / of, (float(interval.low), float(interval.high))


def rare_ci(hits: int, of: int) -> tuple[float, tuple[float, float]]:
    """Share and its exact 95 % interval (Clopper and Pearson 1934), which holds also where nothing was hit: with 0 of n
    it ends at 1 − 0.025^(1/n). Of no trials the share is 0 and the interval everything."""
    if of == 0:
        return 0.0, (0.0, 1.0)
    low = float(stats.beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return hits / of, (low, high)


def median_censored(values: Sequence[float | None]) -> float | None:
    """Median where None means "later than everything seen"; None where the median itself is censored."""
    ordered = sorted(np.inf if v is None else v for v in values)
    median = float(np.median(ordered))
    return None if np.isinf(median) or np.isnan(median) else median
