"""Losses and densities on numbers worked out by hand, and densities against torch's own."""

import math

import pytest
import torch
from cosignal.rl.algorithms.losses import (
    categorical_entropy,
    gaussian_entropy,
    gaussian_log_prob,
    normalised,
    ppo_policy_loss,
    value_loss,
)
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal


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


def test_advantages_are_normalised_over_those_who_act() -> None:
    advantage, acting = torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])
    assert normalised(advantage, acting)[:2].tolist() == pytest.approx([-0.70710677, 0.70710677])
    one = torch.tensor([True, False, False])
    assert torch.isfinite(normalised(advantage, one)).all()
    assert torch.isfinite(normalised(advantage, ~acting & one)).all()


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_densities_and_entropy_are_those_of_torch(k: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mean, action = torch.randn(7, k, generator=draw), torch.randn(7, k, generator=draw)
    log_std = torch.randn(k, generator=draw)
    theirs = Independent(Normal(mean, log_std.exp()), 1)  # type: ignore[no-untyped-call]
    assert torch.allclose(gaussian_log_prob(action, mean, log_std), theirs.log_prob(action), rtol=1e-4, atol=1e-4)  # type: ignore[no-untyped-call]
    assert torch.allclose(gaussian_entropy(log_std), theirs.entropy()[0], atol=1e-5)  # type: ignore[no-untyped-call]


def test_hand_computed_density_and_entropy() -> None:
    """A standard normal at 0: −½ ln 2π = −0.918939; its entropy is ½ ln 2πe = 1.418939."""
    zero = torch.zeros(1)
    assert gaussian_log_prob(zero, zero, zero).item() == pytest.approx(-0.918939, abs=1e-6)
    assert gaussian_entropy(zero).item() == pytest.approx(1.418939, abs=1e-6)
