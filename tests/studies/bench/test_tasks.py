"""The wrapper's share, by hand and measured for a moment."""

from __future__ import annotations

import pytest
from cosignal.studies.bench import tasks as bench_tasks
from cosignal.studies.bench.measure import Spell
from cosignal.studies.bench.tasks import run_tasks, tasks, wrapper_metrics


def test_the_share_is_what_a_wrapped_step_takes_longer() -> None:
    """10 µs bare, 12.5 µs wrapped: a fifth of a wrapped step is the wrapper's."""
    spells = {"bare": [Spell(100_000, 1.0, 1.0)] * 3, "wrapped": [Spell(80_000, 1.0, 2.0)] * 3}
    assert wrapper_metrics(spells) == {
        "bare_steps_per_core_s": 100_000, "wrapped_steps_per_core_s": 80_000, "wrapper_share": 0.2,
        "wrapper_share_range": [0.2, 0.2],
    }  # fmt: skip


def test_a_compiled_batch_is_so_many_times_the_original() -> None:
    """10 µs bare, 0.1 µs compiled: a hundred times."""
    spells = {"bare": [Spell(100_000, 1.0, 1.0)], "wrapped": [Spell(80_000, 1.0, 2.0)]}
    metrics = wrapper_metrics(spells | {"compiled": [Spell(20_000_000, 2.0, 2.0)]})
    assert (metrics["compiled_steps_per_core_s"], metrics["compiled_to_bare"]) == (10_000_000, 100)


def test_every_installed_task_is_measured_and_one_without_its_extra_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, said = tasks(), []
    missing = known["rware_original"].model_copy(update={"name": None, "env": "not_installed:Env"})
    monkeypatch.setattr(bench_tasks, "tasks", lambda: known | {"rware_original": missing})
    found = run_tasks(said.append, rounds=1, round_s=0.01)
    assert set(found) == {"name", "config", "device", "threads", "blas", "commit", "metrics"}
    assert set(found["metrics"]) == set(known) - {"rware_original"}
    assert all(x["bare_steps_per_core_s"] > 0 < x["wrapped_steps_per_core_s"] for x in found["metrics"].values())
    assert any(line.startswith("rware_original: left out, ") for line in said)
