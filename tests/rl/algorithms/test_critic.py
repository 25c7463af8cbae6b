"""A critic by itself learns what PPO's critic learns from the same targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.algorithms.liir import Critic


def draw(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value_norm", [False, True])
def test_it_learns_a_linear_return_and_its_twin_without_a_learning_rate_does_not(value_norm: bool) -> None:
    """Values are in the targets' own units, whether or not they are normalised."""
    inputs = torch.randn(256, 2, generator=draw())
    targets = 5 + inputs @ torch.tensor([2.0, -1.0])

    def error(lr: float) -> float:
        critic = Critic(2, IPPOConfig(lr=lr, hidden=(16,), value_norm=value_norm), draw(), torch.device("cpu"))
        for _ in range(40):
            critic.fit(inputs, targets, draw())
        return float((critic.values(inputs) - targets).abs().mean())

    assert error(1e-2) < 0.2
    assert error(1e-30) > 1.0


def test_fewer_samples_than_minibatches_are_learned_from_one_by_one() -> None:
    critic = Critic(2, IPPOConfig(minibatches=4, epochs=1), draw(), torch.device("cpu"))
    assert np.isfinite(critic.fit(torch.ones(3, 2), torch.ones(3), draw()))
    assert critic.optimiser.steps == 3


def test_a_restored_critic_goes_on_bit_for_bit() -> None:
    config, inputs, targets = IPPOConfig(value_norm=True), torch.randn(32, 2, generator=draw()), torch.arange(32.0)
    one, other = (Critic(2, config, draw(seed), torch.device("cpu")) for seed in (1, 2))
    one.fit(inputs, targets, draw())
    other.load_state_dict("c.", one.state_dict("c."))
    assert one.fit(inputs, targets, draw(3)) == other.fit(inputs, targets, draw(3))
    assert torch.equal(one.values(inputs), other.values(inputs))
