"""The arithmetic of `bench trainer`, its keys, and one tiny real run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.studies.bench import trainer as bench_trainer
from cosignal.studies.bench.measure import Spell, alternating, spell
from cosignal.studies.bench.trainer import (
    ALGORITHMS,
    RECURRENT,
    children_cpu_s,
    environment_metrics,
    learner_metrics,
    recurrent_metrics,
    run_trainer,
    start_python,
    start_trainer,
    startup_metrics,
    training_config,
    waiting_trainer,
)


def test_ratios_are_taken_round_by_round() -> None:
    """Rates 100, 300, 80 against 10, 100, 20: ratios 10, 3, 4."""
    ours = [Spell(100, 1.0, 2.0), Spell(300, 1.0, 2.0), Spell(80, 1.0, 1.0)]
    reference = [Spell(10, 1.0, 1.0), Spell(100, 1.0, 2.0), Spell(10, 0.5, 1.0)]
    assert learner_metrics(ours, reference) == {
        "train_steps_per_core_s": 100, "train_steps_per_wall_s": 80, "reference_steps_per_core_s": 20,
        "reference_steps_per_wall_s": 10, "ratio_to_reference": 4.0, "ratio_to_reference_range": [3.0, 10.0],
    }  # fmt: skip
    assert recurrent_metrics(ours, reference) == {
        "train_steps_per_core_s": 100, "ratio_to_mlp": 4.0, "ratio_to_mlp_range": [3.0, 10.0],
    }  # fmt: skip
    assert environment_metrics({"batch": ours, "python": reference}) == {
        "env_steps_per_core_s": 100, "python_env_steps_per_core_s": 20, "env_ratio": 4.0,
        "env_ratio_range": [3.0, 10.0],
    }  # fmt: skip


def test_startup_by_hand() -> None:
    found = startup_metrics({"help": [0.2, 0.4, 0.3], "torch": [1.0, 2.0, 4.0], "trainer": [3.0, 4.0, 6.0]})
    assert found == {
        "help_cpu_s": 0.3, "torch_cpu_s": 2.0, "trainer_cpu_s": 4.0, "trainer_to_torch": 2.0,
        "trainer_to_torch_range": [1.5, 3.0],
    }  # fmt: skip


def test_a_spell_works_until_its_time_is_over_and_spells_take_turns() -> None:
    asked: list[str] = []

    def work(name: str, steps: int) -> int:
        asked.append(name)
        return steps

    assert spell(lambda: work("once", 7), 0.0).steps == 7
    found = alternating({"a": lambda: work("a", 1), "b": lambda: work("b", 2)}, rounds=2, round_s=0.0)
    assert asked == ["once", "a", "b", "a", "b"]
    assert [x.steps for x in found["b"]] == [2, 2]
    assert spell(lambda: sum(range(1000)), 0.01).cpu_s >= 0.01


def test_a_tiny_run_has_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {"help_cpu_s": 0.1}
    monkeypatch.setattr(bench_trainer, "startup", lambda times, tell: started)
    said: list[str] = []
    found = run_trainer(said.append, sizes=((2, 8), (4, 8)), rounds=2, round_s=0.0, starts=1)
    assert set(found) == {"name", "config", "device", "threads", "blas", "commit", "metrics"}
    metrics = found["metrics"]
    assert set(metrics) == {*ALGORITHMS, "environment", "startup"}
    assert set(metrics["environment"]) == {"2", "4"}
    for name in ALGORITHMS:
        assert set(metrics[name]["sizes"]) == {"2x8", "4x8"}
        assert {
            "env_steps_per_core_s",
            "train_steps_per_core_s",
            "reference_steps_per_core_s",
            "ratio_to_reference",
        } < {*metrics[name]}
        assert metrics[name]["ratio_to_reference"] > 0
        assert ("gru" in metrics[name]) == (name in RECURRENT)
    assert len(said) == 2 * (1 + len(ALGORITHMS))
    json.dumps(found)


def test_the_cpu_seconds_are_those_of_the_children_alone() -> None:
    """A child works for 0.3 CPU seconds; what this process does besides does not count."""
    spin = "import time\nwhile time.process_time() < {}: pass"

    def start() -> None:
        start_python("-c", spin.format(0.3))
        while time.process_time() < end:
            pass

    end = time.process_time() + 1.0
    alone, with_work = children_cpu_s(lambda: None), children_cpu_s(start)
    assert alone == pytest.approx(0.0, abs=1e-9)
    assert 0.3 <= with_work < 1.0


def test_a_command_that_fails_is_not_measured() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        start_python("-c", "raise SystemExit(3)")


@pytest.mark.integration
def test_a_trainer_reaches_its_first_point_and_ends(tmp_path: Path) -> None:
    async def reach_point() -> tuple[TrainerStatus, int]:
        config = training_config("ippo", 2, 8).model_copy(update={"pause_every_steps": 16})
        async with waiting_trainer(config, tmp_path) as client:
            status = await client.status()
            return status, (await client.hello()).pid

    status, pid = asyncio.run(reach_point())
    assert (status.update, status.waiting_at, status.steps_main) == (1, 1, 16)
    assert not psutil.pid_exists(pid)


@pytest.mark.integration
def test_the_trainer_of_the_shipped_task_starts_and_ends_as_a_child() -> None:
    assert children_cpu_s(start_trainer) > 0.5  # importing torch alone takes longer
