"""The arithmetic of `bench branches`, and tiny real runs of it and of `bench scale` with workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.bench.branches import (
    Round,
    candidate,
    job,
    repeats_main_line,
    round_metrics,
    run_branches,
    run_scale,
)
from cosignal.studies.bench.measure import Spell
from training_lines import UPDATE, small_config, trained

KEYS = {
    "snapshot_ms", "restore_ms", "snapshot_disk_ms", "restore_disk_ms", "state_kb", "control_bit_identical",
    "wall_ratio", "cpu_ratio", "main_slowdown", "main_slowdown_cpu", "wall_ratio_range", "cpu_ratio_range",
    "main_slowdown_range", "main_slowdown_cpu_range", "one_branch_wall_s", "cores",
}  # fmt: skip


def test_metrics_by_hand() -> None:
    """Alone 100 steps a CPU second and 50 a wall second; beside branches 80 and 20."""
    found = round_metrics([Round(2.0, 1.0, 9.0, 10.0, Spell(100, 1.0, 2.0), Spell(80, 1.0, 4.0))])
    assert (found["wall_ratio"], found["cpu_ratio"], found["one_branch_wall_s"]) == (4.5, 10.0, 2.0)
    assert (found["main_slowdown"], found["main_slowdown_cpu"]) == (2.5, 1.25)
    assert found["main_slowdown_range"] == [2.5, 2.5]


def test_jobs_differ_and_candidates_shape() -> None:
    jobs = [job("checkpoints/update_000000001", f"c{k}", candidate(k), 0, 100) for k in range(8)]
    assert len({x.key for x in jobs}) == len({x.end_state for x in jobs}) == 8


def test_a_control_repeats_the_main_line_and_a_candidate_does_not(tmp_path: Path) -> None:
    line = trained(small_config(), 3)
    save_snapshot(line, tmp_path / "fork")
    control, other = (
        job("fork", arm, signal, 0, 2 * UPDATE) for arm, signal in (("c", line.signal), ("o", candidate(3)))
    )
    for branch in (control, other):
        run_branch(TrainingLine(small_config()), tmp_path, branch)
    assert repeats_main_line(line, tmp_path, control)
    assert line.update_index == 5
    assert not repeats_main_line(line, tmp_path, other)


@pytest.mark.integration
def test_a_tiny_run_has_all_keys() -> None:
    found = run_branches(lambda line: None, horizon=2048, rounds=1, repeats=2)
    assert set(found) == {"name", "config", "device", "threads", "blas", "commit", "metrics"}
    assert set(found["metrics"]) == KEYS
    assert found["metrics"]["control_bit_identical"] is True
    json.dumps(found)


def test_every_round_has_its_candidates_and_the_control() -> None:
    said: list[str] = []
    result = run_scale(said.append, candidates=(1, 3), horizon=2_048)
    metrics = result["metrics"]
    assert (result["name"], metrics["1"]["branches"], metrics["3"]["branches"], len(said)) == ("scale", 2, 4, 2)
    assert metrics["snapshot_bytes"] > 100_000
    assert metrics["3"]["cpu_s"] > metrics["3"]["cpu_s_per_branch"] > 0
