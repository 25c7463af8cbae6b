"""Comparing a benchmark with what it found once: inside the tolerance, outside, missing, of another size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.cli import app
from cosignal.errors import ConfigError
from cosignal.studies.bench import NAMES
from cosignal.studies.bench import baseline as baselines
from cosignal.studies.bench.baseline import FOLDER, TOLERANCES, BaselineMetric, baseline_of, compare, holds, read, write
from typer.testing import CliRunner


def result(ratio: float | None = 5.0, wall_ratio: float = 4.0, identical: bool = True) -> dict[str, Any]:
    sizes = {"64x32": {"ratio_to_reference": ratio, "ratio_to_reference_range": [4.0, 6.0]}}
    return {
        "name": "made_up", "config": {"rounds": 3}, "device": "cpu", "threads": 1, "blas": "openblas Haswell",
        "commit": "abc",
        "metrics": {
            "ippo": {"train_steps_per_core_s": 30_000, "sizes": sizes},
            "wall_ratio": wall_ratio, "control_bit_identical": identical,
        },
    }  # fmt: skip


def test_only_ratios_shares_and_truths_are_kept() -> None:
    kept = baseline_of(result()).metrics
    assert list(kept) == ["ippo.sizes.64x32.ratio_to_reference", "wall_ratio", "control_bit_identical"]
    assert kept["control_bit_identical"] == BaselineMetric(value=1.0, tolerance=0.0, better="higher")
    assert not any(name.endswith(("_s", "_ms")) for name in TOLERANCES)


@pytest.mark.parametrize(
    ("better", "value", "expected"),
    [
        ("higher", 7.5, True), ("higher", 7.49, False), ("higher", 99.0, True),
        ("lower", 12.5, True), ("lower", 12.51, False), ("lower", 0.0, True),
    ],
)  # fmt: skip
def test_a_metric_may_be_worse_by_its_tolerance_and_better_by_anything(
    better: Any, value: float, expected: bool
) -> None:
    assert BaselineMetric(value=10.0, tolerance=0.25, better=better).holds(value) is expected


def test_a_worse_and_a_missing_metric_are_told() -> None:
    before, said = baseline_of(result()), list[str]()
    assert holds(before, result(ratio=3.75, wall_ratio=5.6), said.append)
    assert not holds(before, result(ratio=3.74), said.append)
    assert said[3] == ("ippo.sizes.64x32.ratio_to_reference: 3.74 against 5.0 (higher is better, tolerance 25%): WORSE")
    assert not holds(before, result(identical=False), said.append)
    missing = compare(result(ratio=None), before)[0]
    assert not missing.holds and missing.describe().endswith("MISSING")
    del (changed := result())["metrics"]["wall_ratio"]
    assert not holds(before, changed, said.append)


def test_another_config_is_refused() -> None:
    with pytest.raises(ConfigError, match="one config only"):
        compare({**result(), "config": {"rounds": 4}}, baseline_of(result()))


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = baseline_of(result())
    assert write(kept, tmp_path / "baselines") == tmp_path / "baselines" / "made_up.json"
    assert read("made_up", tmp_path / "baselines") == kept
    with pytest.raises(ConfigError, match="--write-baseline"):
        read("other", tmp_path)


@pytest.mark.parametrize("name", ["trainer", "branches", "ipc", "overhead"])
def test_the_kept_baselines_are_whole(name: str) -> None:
    kept = read(name)
    assert kept.name == name and name in NAMES
    assert kept.metrics and all(
        (metric.tolerance, metric.better) == TOLERANCES[path.rpartition(".")[2]]
        for path, metric in kept.metrics.items()
    )
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == kept.model_dump_json(indent=2) + "\n"


def test_the_command_compares_and_fails_where_something_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = tmp_path / "baselines", [result(), result(ratio=4.0), result(ratio=1.0)]
    monkeypatch.setattr("cosignal.studies.bench.run_bench", lambda name, tell: found.pop(0))
    monkeypatch.setattr(baselines, "FOLDER", folder)
    monkeypatch.setattr(baselines.read, "__defaults__", (folder,))
    monkeypatch.setattr(baselines.write, "__defaults__", (folder,))
    runner = CliRunner()
    assert runner.invoke(app, ["bench", "made_up", "--baseline"]).exit_code == 2
    assert runner.invoke(app, ["bench", "made_up", "--write-baseline", "--json"]).exit_code == 0
    same = runner.invoke(app, ["bench", "made_up", "--baseline", "--json"])
    assert same.exit_code == 0 and json.loads(same.stdout)["name"] == "made_up" and "as before" in same.stderr
    worse = runner.invoke(app, ["bench", "made_up", "--baseline", "--json"])
    assert worse.exit_code == 1 and "WORSE" in worse.stderr
