"""Parts that benchmarks share: spells of work, rounds that alternate, and the form of a result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from ..job_cache import commit


@dataclass(frozen=True)
class Spell:
    """A stretch of work.

    Attributes:
        steps: environment steps.
        cpu_s: CPU seconds of this process.
        wall_s: seconds of wall time.
    """

    steps: int
    cpu_s: float
    wall_s: float

    @property
    def rate(self) -> float:
        """Steps per CPU second."""
        return self.steps / self.cpu_s

    @property
    def wall_rate(self) -> float:
        """Steps per second of wall time."""
        return self.steps / self.wall_s


def spell(work: Callable[[], int], at_least_s: float) -> Spell:
    """Repeat `work`, which returns the steps that it made, until it has taken `at_least_s` CPU seconds."""
    wall, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.process_time() - cpu < at_least_s or not steps:
        steps += work()
    return Spell(steps, time.process_time() - cpu, time.perf_counter() - wall)


def alternating(works: Mapping[str, Callable[[], int]], rounds: int, round_s: float) -> dict[str, list[Spell]]:
    """Return `rounds` spells of each work, made in turn, so that a machine that grows slower favours none.

    Args:
        works: name → what to repeat; it returns the steps that it made.
        rounds: spells of each.
        round_s: CPU seconds that a spell takes at least.
    """
    spells: dict[str, list[Spell]] = {name: [] for name in works}
    # in turn, not one after another
    for _ in range(rounds):
        for name, work in works.items():
            spells[name].append(spell(work, round_s))
    return spells


def rate(spells: Sequence[Spell]) -> int:
    """Return the median of the steps per CPU second."""
    return round(float(np.median([x.rate for x in spells])))


def wall_rate(spells: Sequence[Spell]) -> int:
    """Return the median of the steps per second of wall time."""
    return round(float(np.median([x.wall_rate for x in spells])))


def median(values: Sequence[float], digits: int = 3) -> float:
    """Return the rounded median."""
    return round(float(np.median(values)), digits)


def span(values: Sequence[float], digits: int = 3) -> list[float]:
    """Return [lowest, highest], rounded."""
    return [round(float(min(values)), digits), round(float(max(values)), digits)]


def ratios(ours: Sequence[Spell], theirs: Sequence[Spell]) -> list[float]:
    """Return our steps per CPU second by theirs, round by round."""
    return [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]


def bench_result(name: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a benchmark as plain data.

    Args:
        name: of the benchmark.
        config: sizes that were measured; results with another config are not compared.
        metrics: numbers and truths, may be nested.
    """
    return {
        "name": name, "config": dict(config), "device": "cpu", "threads": 1, "blas": blas(), "commit": commit(),
        "metrics": dict(metrics),
    }  # fmt: skip


def blas() -> str:
    """Return numpy's BLAS and the processor that it takes this one for, as in "openblas SkylakeX".

    The environment variable OPENBLAS_CORETYPE may set another.
    """
    for library in threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            return f"{library['internal_api']} {library.get('architecture', 'unknown')}"
    return "unknown"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
