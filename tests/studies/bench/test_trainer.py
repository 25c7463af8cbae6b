"""The arithmetic of `bench trainer`, its keys, and one tiny real run."""

from __future__ import annotations

import json

import pytest
from cosignal.rl.training.config import TrainerConfig
from cosignal.studies.bench import trainer as bench_trainer
from cosignal.studies.bench import trainer as startup
from cosignal.studies.bench.measure import Spell, alternating, spell
from cosignal.studies.bench.trainer import (
    ALGORITHMS,
    environment_metrics,
    learner_metrics,
    run_trainer,
    startup_metrics,
)


def test_every_algorithm_of_the_config_is_measured() -> None:
    assert "ippo" in ALGORITHMS
    assert all(TrainerConfig.model_validate({"algorithm": name}).algorithm == name for name in ALGORITHMS)


def test_ratios_are_taken_round_by_round() -> None:
    """Rates 100, 300, 80 against 10, 100, 20: ratios 10, 3, 4."""
    ours = [Spell(100, 1.0, 2.0), Spell(300, 1.0, 2.0), Spell(80, 1.0, 1.0)]
    reference = [Spell(10, 1.0, 1.0), Spell(100, 1.0, 2.0), Spell(10, 0.5, 1.0)]
    assert learner_metrics(ours, reference) == {
        "train_steps_per_core_s": 100, "train_steps_per_wall_s": 80, "reference_steps_per_core_s": 20,
        "reference_steps_per_wall_s": 10, "ratio_to_reference": 4.0, "ratio_to_reference_range": [3.0, 10.0],
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
    assert len(said) == 2 * (1 + len(ALGORITHMS))
    json.dumps(found)


def test_help_starts_as_a_child() -> None:
    assert startup.children_cpu_s(startup._help) > 0


@pytest.mark.integration
def test_the_trainer_starts_and_ends_as_a_child() -> None:
    assert startup.children_cpu_s(startup._trainer) > 0
