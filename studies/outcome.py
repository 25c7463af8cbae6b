"""The outcome of one seed of one arm, when it first solved its task, and 95 % intervals over seeds (scipy)."""

from __future__ import annotations

import math
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
        main: main steps so far: the age of the policy, which steps back where a younger state is adopted.
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


def ratio_ci(values: Sequence[float], others: Sequence[float]) -> tuple[float, Interval]:
    """Return the ratio of the two means and its 95 % percentile bootstrap interval over pairs.

    `others` are positive and belong to `values` one by one. The interval is the ratio itself where it is that of every
    pair.
    """
    data, base = np.asarray(values, float), np.asarray(others, float)
    ratio = float(data.mean() / base.mean())
    if len(data) < 2 or np.ptp(data / base) < 1e-12:
        return ratio, (ratio, ratio)

    def of_means(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(x.mean(axis) / y.mean(axis))

    rng = np.random.default_rng(0)
    options = {"n_resamples": RESAMPLES, "method": "percentile", "paired": True, "rng": rng}
    interval = stats.bootstrap((data, base), of_means, **options)
    return ratio, (float(interval.confidence_interval.low), float(interval.confidence_interval.high))


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


def paired_share_ci(hits: Sequence[bool], others: Sequence[bool]) -> tuple[float, Interval]:
    """Return the share of `hits` less that of `others`, paired one by one, and its 95 % interval.

    Newcombe's tenth method (1998, Statistics in Medicine 17, 2635-2650): both Wilson intervals, joined by the
    correlation within pairs. It also holds where nothing differs: with 0 and 0 of 73 it ends at ±0.05. Without any
    pair it is 0 in (−1, 1).
    """
    n = len(hits)
    if not n:
        return 0.0, (-1.0, 1.0)
    pairs = list(zip(hits, others, strict=True))
    both, first, second = (sum(pair == kind for pair in pairs) for kind in ((True, True), (True, False), (False, True)))
    neither = n - both - first - second
    (p, (low, high)), (q, (low_q, high_q)) = share_ci(both + first, n), share_ci(both + second, n)
    square = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross: float = both * neither - first * second
    if cross > 0:  # his correction for continuity
        cross = max(cross - n / 2, 0)
    phi = cross / math.sqrt(square) if square else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * phi * a * b + b**2, 0.0))

    return p - q, (p - q - reach(p - low, high_q - q), p - q + reach(high - p, q - low_q))


def median_censored(values: Sequence[float | None]) -> float | None:
    """Return the median where None means "later than everything seen"; None where the median itself is censored."""
    # censored values are larger than all others
    ordered = sorted(np.inf if v is None else v for v in values)
    median = float(np.median(ordered))
    return None if np.isinf(median) or np.isnan(median) else median
