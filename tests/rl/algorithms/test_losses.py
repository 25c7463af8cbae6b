"""Losses on numbers worked out by hand."""

import math

import pytest
import torch
from cosignal.rl.algorithms.losses import categorical_entropy, normalised, ppo_policy_loss, value_loss


def test_ppo_loss_clips_gains_and_not_losses() -> None:
    # ratios 1.5 and 0.5, ε = 0.2. A > 0: min(1.5, 1.2) = 1.2 and min(0.5, 0.8) = 0.5; mean 0.85
    logp_old = torch.zeros(2)
    logp = torch.tensor([math.log(1.5), math.log(0.5)])
    assert ppo_policy_loss(logp, logp_old, torch.ones(2), 0.2).item() == pytest.approx(-0.85)
    # A < 0: min(−1.5, −1.2) = −1.5 and min(−0.5, −0.8) = −0.8; mean −1.15
    assert ppo_policy_loss(logp, logp_old, -torch.ones(2), 0.2).item() == pytest.approx(1.15)


def test_ppo_gradient_vanishes_where_the_clip_acts() -> None:
    logp = torch.tensor([math.log(1.5)], requires_grad=True)
    ppo_policy_loss(logp, torch.zeros(1), torch.ones(1), 0.2).backward()
    assert logp.grad is not None and logp.grad.item() == 0.0


def test_value_loss_is_half_the_square_below_ten_and_linear_above() -> None:
    assert value_loss(torch.tensor([3.0]), torch.tensor([1.0])).item() == pytest.approx(2.0)
    assert value_loss(torch.tensor([30.0]), torch.tensor([0.0])).item() == pytest.approx(10 * (30 - 5))


def test_entropy_of_uniform_and_certain() -> None:
    uniform = torch.log(torch.full((1, 5), 0.2))
    assert categorical_entropy(uniform).item() == pytest.approx(math.log(5), abs=1e-6)
    certain = torch.log_softmax(torch.tensor([[100.0, 0.0]]), -1)
    assert categorical_entropy(certain).item() == pytest.approx(0.0, abs=1e-6)


def test_normalised() -> None:
    x = normalised(torch.tensor([1.0, 2.0, 3.0]))
    assert x.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert x.std().item() == pytest.approx(1.0, abs=1e-6)
