"""Small training lines for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.training.config import EvaluationConfig, TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine

UPDATE = 8 * 16  # environment steps


def small_config(seed: int = 1, **trainer: Any) -> TrainingConfig:
    """Two-Switch with 8 environments × 16 steps an update."""
    settings: dict[str, Any] = {
        "envs": 8,
        "rollout": 16,
        "steps": 20 * UPDATE,
        "evaluation": EvaluationConfig(episodes=4),
    }
    return TrainingConfig(
        seed=seed, clock="lockstep", task=TaskConfig(name="two_switch", n_max=30), signal=SignalConfig(),
        trainer=TrainerConfig(**{**settings, **trainer}), pause_every_steps=4 * UPDATE, margin=0.02,
    )  # fmt: skip


def trained(config: TrainingConfig, updates: int) -> TrainingLine:
    line = TrainingLine(config)
    for _ in range(updates):
        line.update()
    return line


def assert_same_state(one: TrainingLine, other: TrainingLine) -> None:
    """Bit for bit: arrays and plain data."""
    (arrays, meta), (other_arrays, other_meta) = one.state_dict(), other.state_dict()
    assert arrays.keys() == other_arrays.keys()
    for name, value in arrays.items():
        assert np.array_equal(value, other_arrays[name], equal_nan=value.dtype.kind == "f"), name
    assert meta == other_meta
