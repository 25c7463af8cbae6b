"""Results of benchmarks that are kept in the repository: `cosignal bench NAME --baseline` compares with one.

`baselines/NAME.json` holds the metrics whose last name is in `TOLERANCES`: ratios, shares and truths, which
mean the same on another machine, never absolute rates. `--write-baseline` writes the file anew, so that a changed
baseline is part of a diff.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ...errors import ConfigError

FOLDER = Path(__file__).parent / "baselines"
Better = Literal["higher", "lower"]


# last name of a metric → by which share it may be worse, and which side is better
TOLERANCES: dict[str, tuple[float, Better]] = {
    "ratio_to_reference": (0.25, "higher"),
    "env_ratio": (0.4, "higher"),
    "trainer_to_torch": (0.25, "lower"),
    "control_bit_identical": (0.0, "higher"),
    "wall_ratio": (0.4, "lower"),
    "cpu_ratio": (0.25, "lower"),
    "main_slowdown_cpu": (0.25, "lower"),
    "wrapper_share": (0.5, "lower"),
    "compiled_to_bare": (0.5, "higher"),
    "overhead_fraction": (1.0, "lower"),
    "rate_ratio": (0.05, "higher"),
    "round_trip_to_echo": (1.0, "lower"),
    "idle_poll_share": (1.0, "lower"),
}


class BaselineMetric(BaseModel):
    """One metric of a baseline.

    Attributes:
        value: that was measured.
        tolerance: share of `value` by which a new one may be worse.
        better: which side is better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    tolerance: float
    better: Better

    def holds(self, value: float) -> bool:
        """Return whether a new value is within the tolerance, or better."""
        reach = self.tolerance * abs(self.value)
        return value >= self.value - reach if self.better == "higher" else value <= self.value + reach


class Baseline(BaseModel):
    """The comparable part of a benchmark's result.

    Attributes:
        name: of the benchmark.
        config: sizes that were measured.
        device: that was used.
        blas: of numpy.
        commit: of the code.
        metrics: by dotted name, as they lie in the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    config: dict[str, Any]
    device: str
    blas: str = "unknown"
    commit: str
    metrics: dict[str, BaselineMetric]


class ComparedMetric(BaseModel):
    """One metric beside its baseline; `value` is None where the result lacks it."""

    metric: str
    value: float | None
    baseline: BaselineMetric

    @property
    def holds(self) -> bool:
        """Tell whether the metric is there and no worse than its tolerance allows."""
        return self.value is not None and self.baseline.holds(self.value)

    def describe(self) -> str:
        """Return both numbers and the verdict in one line."""
        verdict = "as before" if self.holds else "WORSE" if self.value is not None else "MISSING"
        allowed = f"{self.baseline.better} is better, tolerance {self.baseline.tolerance:.0%}"
        return f"{self.metric}: {self.value} against {self.baseline.value} ({allowed}): {verdict}"


def baseline_of(result: Mapping[str, Any]) -> Baseline:
    """Return the comparable part of a benchmark's result."""
    metrics = {}
    for name, value in _leaves(result["metrics"]):
        known = TOLERANCES.get(name.rpartition(".")[2])
        if known is not None and value is not None:
            metrics[name] = BaselineMetric(value=float(value), tolerance=known[0], better=known[1])
    copied = {key: result[key] for key in ("name", "config", "device", "blas", "commit")}
    return Baseline(**copied, metrics=metrics)


def compare(result: Mapping[str, Any], baseline: Baseline) -> list[ComparedMetric]:
    """Return every metric of the baseline beside the one of the result.

    Raises:
        ConfigError: other sizes were measured.
    """
    if result["config"] != baseline.config:
        raise ConfigError(
            f"a baseline compares with one config only, got {result['config']!r} against {baseline.config!r};"
            " write it anew with --write-baseline"
        )
    measured = {name: float(value) for name, value in _leaves(result["metrics"]) if value is not None}
    return [
        ComparedMetric(metric=name, value=measured.get(name), baseline=metric)
        for name, metric in baseline.metrics.items()
    ]


def read(name: str, folder: Path = FOLDER) -> Baseline:
    """Read the baseline of a benchmark.

    Raises:
        ConfigError: there is none.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        raise ConfigError(f"--baseline: must have a file to compare with, got none at {str(path)!r}; --write-baseline")
    return Baseline.model_validate_json(path.read_text(encoding="utf-8"))


def write(baseline: Baseline, folder: Path = FOLDER) -> Path:
    """Write the baseline and return its file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{baseline.name}.json"
    path.write_text(baseline.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def holds(baseline: Baseline, result: Mapping[str, Any], tell: Callable[[str], None]) -> bool:
    """Tell how every metric of the baseline fares, and return whether none is worse or missing."""
    compared = compare(result, baseline)
    for metric in compared:
        tell(metric.describe())
    return all(metric.holds for metric in compared)


def _leaves(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield (dotted name, number or truth)."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, bool | int | float):
            yield prefix + name, value
