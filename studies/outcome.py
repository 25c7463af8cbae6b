"""What one seed of one arm came to, and when it first solved its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

# ---------------------------------------------------------------- MERGED studies.outcome

SOLVED = 0.9
SMOOTHING = 10  # updates averaged before a success rate counts


class Point(NamedTuple):
    """One update of a run: `main`, `total` environment steps so far; `train_success` of its finished training episodes,
    None without one; `fresh_success` of fresh episodes of a state adopted from a branch, else None."""

    main: int
    total: int
    train_success: float | None
    fresh_success: float | None = None


@dataclass(frozen=True)
class Outcome:
    """`main_to_90`, `total_to_90`: steps until 90 % success, None where it never came (censored at `steps_*`)."""

    arm: str
    seed: int
    main_to_90: int | None
    total_to_90: int | None
    steps_main: int
    steps_total: int
    final_return: float
    final_success: float
    promotions: int = 0
    rejections: int = 0

    @property
    def solved(self) -> bool:
        return self.main_to_90 is not None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def told(value: Mapping[str, Any]) -> str:
    """What one seed came to, in a line; `value` as `Outcome.as_dict` has it."""
    reached = value["main_to_90"]
    solved = f"90 % at {reached:_} main, {value['total_to_90']:_} total" if reached is not None else "never 90 %"
    return f"{solved}; ends at return {value['final_return']:.2f}, {value['steps_total']:_} total steps"


def first_solved(points: Sequence[Point]) -> Point | None:
    """The first update up to which the last `SMOOTHING` updates' training episodes succeed at 90 % on average, or at
    which a state adopted from a branch does on fresh episodes."""
    recent: list[float] = []
    for point in points:
        if point.fresh_success is not None:
            recent = []  # another state than the one before
            if point.fresh_success >= SOLVED:
                return point
        if point.train_success is not None:
            recent = [*recent[-(SMOOTHING - 1) :], point.train_success]
            if len(recent) == SMOOTHING and sum(recent) / SMOOTHING >= SOLVED:
                return point
    return None


# ---------------------------------------------------------------- MERGED studies.statistics
# DOC """Means and shares with 95 % intervals (scipy)."""

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
