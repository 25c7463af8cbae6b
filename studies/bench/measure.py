"""What benchmarks share: seconds, rounds that alternate, and the form of a result."""

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
    """Environment steps and the seconds that they took: CPU seconds of this process, and wall time."""

    steps: int
    cpu_s: float
    wall_s: float

    @property
    def rate(self) -> float:
        """Steps per CPU second."""
        return self.steps / self.cpu_s

    @property
    def wall_rate(self) -> float:
        return self.steps / self.wall_s


def spell(work: Callable[[], int], at_least_s: float) -> Spell:
    """Repeat `work`, which gives the steps that it made, until it has taken `at_least_s` CPU seconds."""
    wall, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.process_time() - cpu < at_least_s or not steps:
        steps += work()
    return Spell(steps, time.process_time() - cpu, time.perf_counter() - wall)


def alternating(works: Mapping[str, Callable[[], int]], rounds: int, round_s: float) -> dict[str, list[Spell]]:
    """`rounds` spells of each, one after another in turn, so that a machine that grows slower favours none."""
    found: dict[str, list[Spell]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(spell(work, round_s))
    return found


def rate(spells: Sequence[Spell]) -> int:
    """Steps per CPU second, the median."""
    return round(float(np.median([x.rate for x in spells])))


def wall_rate(spells: Sequence[Spell]) -> int:
    return round(float(np.median([x.wall_rate for x in spells])))


def median(values: Sequence[float], digits: int = 3) -> float:
    return round(float(np.median(values)), digits)


def span(values: Sequence[float], digits: int = 3) -> list[float]:
    """[lowest, highest]"""
    return [round(float(min(values)), digits), round(float(max(values)), digits)]


def ratios(ours: Sequence[Spell], theirs: Sequence[Spell]) -> list[float]:
    """Steps per CPU second of ours by theirs, round by round."""
    return [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]


def bench_result(name: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What every benchmark gives back, as plain data."""
    return {
        "name": name, "config": dict(config), "device": "cpu", "threads": 1, "blas": blas(), "commit": commit(),
        "metrics": dict(metrics),
    }  # fmt: skip


def blas() -> str:
    """The products that numpy takes on this processor, as in "openblas SkylakeX"; OPENBLAS_CORETYPE may tell others."""
    for found in threadpool_info():
        if found["user_api"] == "blas" and "numpy" in found["filepath"]:
            return f"{found['internal_api']} {found.get('architecture', 'unknown')}"
    return "unknown"


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
