"""The outcome of one seed of one arm, when it first solved its task, and 95 % intervals over seeds (scipy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

SOLVED = 0.9  # success rate
SMOOTHING = 10  # updates averaged before a success rate counts
RESAMPLES = 10_000  # of the bootstrap

Interval = tuple[float, float]


class Point(NamedTuple):
    """One update of a run.

    Attributes:
        main: main steps so far.
        total: all environment steps so far.
        train_success: success rate of the training episodes that ended in it, None without one.
        fresh_success: success rate of fresh episodes of a state adopted from a branch, else None.
    """

    main: int
    total: int
    train_success: float | None
    fresh_success: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one seed of one arm.

    Attributes:
        main_to_90: main steps until 90 % success, None where it never came (censored at `steps_main`).
        total_to_90: all environment steps until then, None likewise (censored at `steps_total`).
        steps_main: main steps of the whole run.
        steps_total: all environment steps of the whole run.
        final_return: mean sparse return of the last policy.
        final_success: success rate of the last policy, 0 to 1.
        promotions: promotions of the run.
        rejections: decisions that promoted nothing.
    """

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
        """Tell whether 90 % success was reached."""
        return self.main_to_90 is not None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def summarise_outcome(value: Mapping[str, Any]) -> str:
    """Return an outcome in one line; `value` is as `Outcome.as_dict` returns it."""
    reached = value["main_to_90"]
    solved = f"90 % at {reached:_} main, {value['total_to_90']:_} total" if reached is not None else "never 90 %"
    return f"{solved}; ends at return {value['final_return']:.2f}, {value['steps_total']:_} total steps"


def first_solved(points: Sequence[Point]) -> Point | None:
    """Return the first update at which the task counts as solved, None where it never does.

    That is where the training episodes of the last `SMOOTHING` updates succeed at 90 % on average, or where a state
    adopted from a branch does on fresh episodes.
    """
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


# ---------------------------------------------------------------- statistics over seeds


def mean_ci(values: Sequence[float]) -> tuple[float, Interval]:
    """Return the mean and its 95 % percentile bootstrap interval.

    The interval is the mean itself where all values are equal.
    """
    data = np.asarray(values, float)
    mean = float(data.mean())
    if len(data) < 2 or np.ptp(data) == 0:
        return mean, (mean, mean)
    rng = np.random.default_rng(0)
    interval = stats.bootstrap((data,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
    return mean, (float(interval.confidence_interval.low), float(interval.confidence_interval.high))


def share_ci(hits: int, of: int) -> tuple[float, Interval]:
    """Return the share and its 95 % Wilson interval."""
    interval = stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
    return hits / of, (float(interval.low), float(interval.high))


def rare_ci(hits: int, of: int) -> tuple[float, Interval]:
    """Return the share and its exact 95 % interval (Clopper and Pearson 1934), which also holds where nothing was hit.

    With 0 of n it ends at 1 − 0.025^(1/n). Without any trial the share is 0 and the interval everything.
    """
    if of == 0:
        return 0.0, (0.0, 1.0)
    interval = stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    return hits / of, (float(interval.low), float(interval.high))


def median_censored(values: Sequence[float | None]) -> float | None:
    """Return the median where None means "later than everything seen"; None where the median itself is censored."""
    # censored values are larger than all others
    ordered = sorted(np.inf if v is None else v for v in values)
    median = float(np.median(ordered))
    return None if np.isinf(median) or np.isnan(median) else median
