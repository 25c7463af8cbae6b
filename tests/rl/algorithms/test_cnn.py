"""Convolutional networks: what they see of an input, and images that are learned from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cosignal.rl.algorithms.networks.cnn import CNN
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.training.evaluate import Evaluation, Evaluator
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config

SPOT = TaskConfig(env="small_tasks:Spot")
PIXELS = TaskConfig(name="pistonball", n_max=60, env_args={"pixels": True})


def test_every_view_goes_through_the_same_convolutions_and_numbers_pass_beside_them() -> None:
    made = CNN((5, 4, 2), 2, 2 * (40 + 3), (), 6, 1.0, torch.Generator().manual_seed(1))
    seen = torch.rand(7, 2, 43, generator=torch.Generator().manual_seed(2))
    # by torch's own layers: channels first, and 5 × 4 becomes 3 × 2 and 2 × 1
    first, second = made.convolutions
    flat = []
    for view in range(2):
        image = seen[:, view, :40].view(7, 5, 4, 2).permute(0, 3, 1, 2)
        found = torch.relu(second(torch.relu(first(image))))
        assert found.shape == (7, 32, 2, 1)
        flat += [found.flatten(1), seen[:, view, 40:]]
    expected = made.head(torch.cat(flat, -1))
    assert torch.allclose(made(seen.flatten(1)), expected, atol=1e-6)
    # any leading axes
    assert torch.allclose(made(seen.view(7, 1, 86)), expected[:, None], atol=1e-6)


def test_images_of_bytes_are_seen_as_such() -> None:
    (group,) = task_spec(SPOT).groups
    assert group.image == (6, 6, 1)
    assert {(feature.low, feature.high) for feature in group.features} == {(0.0, 1.0)}
    (group,) = task_spec(PIXELS).groups
    assert group.image == (16, 25, 3)


def evaluated(task: TaskConfig, algorithm: str, updates: int, trainer: dict[str, Any], **section: Any) -> Evaluation:
    config = small_config(algorithm=algorithm, **trainer, **{algorithm: section}).model_copy(update={"task": task})
    line = TrainingLine(config)
    for _ in range(updates):
        line.update()
    return Evaluator(task, 32, seed=3).evaluate(line.learner)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "liir", "vdn", "qmix"])
def test_where_a_spot_is_in_an_image_is_learned_and_the_twin_without_a_learning_rate_does_not(algorithm: str) -> None:
    """Two quarters of eight are right by chance."""
    assert evaluated(SPOT, algorithm, 60, {}, network="cnn", lr=1e-3).mean_return >= 6.5
    assert evaluated(SPOT, algorithm, 5, {}, network="cnn", lr=1e-30).mean_return <= 3


def test_pistonball_is_learned_from_pixels_and_the_twin_without_a_learning_rate_does_not() -> None:
    """Five pistons that move at random bring the ball to the left wall in a fifth of the episodes."""
    trainer = {"rollout": 64}
    assert (evaluated(PIXELS, "ippo", 13, trainer, lr=1e-3).success_rate or 0) >= 0.8
    assert (evaluated(PIXELS, "ippo", 1, trainer, lr=1e-30).success_rate or 0) <= 0.5
