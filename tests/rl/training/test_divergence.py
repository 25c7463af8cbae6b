"""Numbers that are not finite: every algorithm stops in the update that makes or meets them, and says where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.errors import TrainingDiverged
from cosignal.rl.algorithms.config import AlgorithmName
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.task import ActionArray, Step
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from torch import nn
from training_lines import UPDATE, small_config, trained

ALGORITHMS: tuple[AlgorithmName, ...] = ("ippo", "mappo", "liir", "vdn", "qmix")
EAGER = {"learning_starts": 0, "batch_size": 32}  # a Q-learner takes gradient steps from the first update on


def line_of(algorithm: AlgorithmName, **settings: Any) -> TrainingLine:
    section = {**(EAGER if algorithm in ("vdn", "qmix") else {}), **settings}
    return TrainingLine(small_config(algorithm=algorithm, **{algorithm: section}))


def diverged(line: TrainingLine, updates: int = 4) -> str:
    try:
        for _ in range(updates):
            line.update()
    except TrainingDiverged as error:
        return str(error)
    raise AssertionError(f"{updates} updates, and nothing was said")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("lr", [1e30, 1e300])
def test_a_step_size_beyond_all_numbers_is_named(algorithm: AlgorithmName, lr: float) -> None:
    message = diverged(line_of(algorithm, lr=lr))
    assert "group 'agents'" in message or "the team" in message
    assert f"lower trainer.{algorithm}.lr ({lr:g})" in message
    assert "in update 1 after main step 0" in message


def test_one_gradient_step_an_update_is_enough() -> None:
    assert "the weights of the networks of group 'agents'" in diverged(
        line_of("ippo", lr=1e30, epochs=1, minibatches=1)
    )


def test_of_the_intrinsic_rewards_of_liir_the_message_says_so() -> None:
    assert "the intrinsic_lr reward of group 'agents'" in diverged(line_of("liir", intrinsic_lr=1e38))


def test_without_sharing_the_agent_is_named() -> None:
    line = line_of("ippo", share_parameters=False)
    with torch.no_grad():
        line.learner.networks[1].actor.layers[0].weight[0, 0] = torch.nan  # type: ignore[attr-defined]
    agent = line.spec.groups[0].agents[1]
    assert f"agent {agent!r}" in diverged(line)


def changed(line: TrainingLine, change: Callable[[Step], Step]) -> TrainingLine:
    """The line's task, but that what it gives from now on is changed."""
    step = line.task.step

    def changing(actions: list[ActionArray]) -> Step:
        return change(step(actions))

    line.task.step = changing  # type: ignore[method-assign]
    return line


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1e30])
def test_rewards_beyond_all_squares_are_named_in_their_update(algorithm: AlgorithmName, size: float) -> None:
    line = line_of(algorithm)
    line.update()
    paid = changed(line, lambda step: replace(step, reward=np.full_like(step.reward, size)))
    message = diverged(paid, updates=1)
    assert f"in update 2 after main step {UPDATE}" in message
    assert "advantages" in message or "rewards" in message or "gradient" in message


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_observations_beyond_all_squares_are_noticed(algorithm: AlgorithmName) -> None:
    def shown(step: Step) -> Step:
        return replace(step, obs=[x * np.float32(1e30) for x in step.obs])

    assert "infinity or NaN in the gradient of" in diverged(changed(line_of(algorithm), shown))


def test_large_rewards_that_can_be_learned_from_are_none_of_it() -> None:
    for algorithm in ALGORITHMS:
        line = changed(line_of(algorithm), lambda step: replace(step, reward=step.reward * np.float32(1e9)))
        for _ in range(3):
            line.update()


def test_a_snapshot_with_weights_that_are_not_finite_is_never_written(tmp_path: Path) -> None:
    line = trained(small_config(), 1)
    with torch.no_grad():
        line.learner.networks[0].critic.layers[0].weight[0, 0] = torch.inf  # type: ignore[attr-defined]
    with pytest.raises(TrainingDiverged, match="'learner/0.critic"):
        save_snapshot(line, tmp_path / "update_000000001")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_whose_returns_are_not_finite_is_none() -> None:
    config = small_config()
    evaluator = Evaluator(config.task, 4, 1)
    step = evaluator.task.step
    evaluator.task.step = lambda actions: replace(step(actions), reward=np.full(4, np.inf, np.float32))  # type: ignore[method-assign]
    with pytest.raises(TrainingDiverged, match="returns"):
        evaluator.evaluate(TrainingLine(config).learner)


def test_the_moments_of_adam_must_stay_finite_too() -> None:
    """A gradient of 1e20 has a norm, but no square: from there on every step would be zero."""
    network = nn.Linear(1, 1)
    flat = FlatAdam(network, 1e-3, 1e30, name="it")
    flat.check_finite()
    flat.square[0] = torch.inf
    with pytest.raises(FloatingPointError, match="Adam's moments of it"):
        flat.check_finite()


def test_rewards_whose_sum_overflows_are_noticed() -> None:
    for algorithm in ("ippo", "vdn"):
        line = changed(line_of(algorithm), lambda step: replace(step, reward=np.full_like(step.reward, 3e38)))
        assert "in update 1" in diverged(line, updates=1)
