"""Every shipped task is trained by both families of algorithms and with every network that fits it.

From a snapshot it goes on as if never left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.registry import ShippedName
from cosignal.rl.evidence.build import build_evidence
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config, trained

SMALL: dict[str, dict[str, Any]] = {
    "ippo": {"minibatches": 2},
    "qmix": {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "target_every": 3},
}
CASES = [
    *[(task, algorithm, "mlp") for task in get_args(ShippedName) for algorithm in SMALL],
    *[(task, algorithm, "gru") for task in get_args(ShippedName) for algorithm in SMALL],
    *[("pistonball", algorithm, "cnn") for algorithm in SMALL],
]


@pytest.fixture(params=CASES, ids="-".join)
def config(request: pytest.FixtureRequest) -> TrainingConfig:
    task, algorithm, network = request.param
    section = SMALL[algorithm] | {"network": network}
    small = small_config(algorithm=algorithm, envs=2, rollout=16, **{algorithm: section})
    arguments = {"env_args": {"pixels": True}} if network == "cnn" else {}
    return small.model_copy(update={"task": TaskConfig.model_validate({"name": task, "n_max": 10, **arguments})})


def test_a_task_is_trained_and_restored_and_gives_evidence(config: TrainingConfig, tmp_path: Path) -> None:
    line = trained(config, 2)
    save_snapshot(line, tmp_path / "snapshot")
    for _ in range(2):
        report = line.update()
        assert all(np.isfinite(value) for metrics in report.metrics for value in metrics.losses.values())
    restored = TrainingLine(config)
    load_snapshot(restored, tmp_path / "snapshot")
    for _ in range(2):
        restored.update()
    arrays, others = line.state_dict()[0], restored.state_dict()[0]
    for name in arrays.keys() - {"learner/replay.segments"}:  # files have names of their own
        assert np.array_equal(arrays[name], others[name], equal_nan=arrays[name].dtype.kind == "f"), name
    evidence = build_evidence(line, 10_000)
    assert evidence.model_dump_json()
    assert len(line.last_rollout_text()["episode"]) == 10 or line.spec.name == "pistonball"
    assert Evaluator(config.task, 1, seed=1).evaluate(line.learner).steps <= 10
