"""The hand-written gradient against autograd, and the compiled pieces against numpy and torch."""

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.algorithms.fused_kernel import PAD, exp_in_place
from cosignal.rl.algorithms.fused_mlp import FusedActorCritic, FusedMLP, kernel_samples
from cosignal.rl.algorithms.losses import Minibatch, normalised
from cosignal.rl.algorithms.networks.mlp import MLP
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import categorical, gradient


def minibatch(rows: int, n_actions: int, seed: int) -> Minibatch:
    """Old log-probabilities far enough from the policy's that both clips and both sides of Huber are met."""
    draw = torch.Generator().manual_seed(seed)
    actions = torch.randint(0, n_actions, (rows,), generator=draw)
    logp = torch.log_softmax(torch.randn(rows, n_actions, generator=draw), -1)
    advantage, target = torch.randn(rows, generator=draw), 15 * torch.randn(rows, generator=draw)
    logp_old = logp.gather(-1, actions[:, None]).squeeze(-1)
    obs, critic_obs = torch.randn(rows, 6, generator=draw), torch.randn(rows, 9, generator=draw)
    return Minibatch(obs, critic_obs, actions, logp_old, advantage, target)


@given(
    st.integers(1, 70), st.integers(2, 7), st.sampled_from([(), (5,), (8, 8), (16, 4, 8), (70, 33)]),
    st.integers(0, 2**31), st.sampled_from([0.0, 0.01, 0.5]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_kernel_gives_the_gradient_of_autograd(
    rows: int, n_actions: int, hidden: tuple[int, ...], seed: int, entropy_coef: float
) -> None:
    config, batch = IPPOConfig(hidden=hidden), minibatch(rows, n_actions, seed)
    network = categorical(6, 9, n_actions, hidden, torch.Generator().manual_seed(seed))
    flat = FlatAdam(network, 1e-3, 10.0)
    expected_losses = gradient(network, batch, config, entropy_coef)
    expected = flat.gradient.clone()
    flat.gradient.fill_(float("nan"))  # the kernel overwrites all of it
    losses = FusedActorCritic(network, config.clip, config.value_coef).gradient(batch, entropy_coef)
    assert losses == pytest.approx(expected_losses, rel=1e-4, abs=1e-5)
    assert torch.allclose(flat.gradient, expected, rtol=1e-3, atol=3e-6 * max(1.0, float(expected.abs().max())))


def test_nothing_is_lost_where_nothing_is_clipped() -> None:
    """At the old policy every ratio is 1, so that every sample pulls: by rounding it must never count as clipped."""
    batch = minibatch(512, 5, 3)
    network = categorical(6, 9, 5, (8,), torch.Generator().manual_seed(1))
    logp_all = torch.log_softmax(network.actor(batch.obs), -1).detach()
    batch = batch._replace(logp_old=logp_all.gather(-1, batch.actions[:, None]).squeeze(-1))
    flat = FlatAdam(network, 1e-3, 10.0)
    gradient(network, batch, IPPOConfig(), 0.0)
    expected = flat.gradient.clone()
    FusedActorCritic(network, 0.2, 0.5).gradient(batch, 0.0)
    assert torch.allclose(flat.gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (8,), (16, 16)])
def test_fast_outputs_are_those_of_the_network(hidden: tuple[int, ...]) -> None:
    network = MLP(6, hidden, 3, 1.0, torch.Generator().manual_seed(1))
    fast = FusedMLP(network)
    for rows in (5, 64, 7):  # buffers grow, and serve shorter inputs
        x = torch.randn(rows, 6)
        with torch.no_grad():
            assert fast.forward(x.numpy()) == pytest.approx(network(x).numpy(), abs=1e-6)


def test_fast_tanh_is_tanh() -> None:
    x = np.concatenate([np.linspace(-12, 12, 100_001), [-1e30, 1e30, 0.0, 1e-20]]).astype(np.float32)
    network = MLP(1, (1,), 1, 1.0, torch.Generator())
    for layer in network.linears:
        torch.nn.init.ones_(layer.weight)
    found = FusedMLP(network).forward(x[:, None])[:, 0]
    assert np.abs(found - np.tanh(x.astype(np.float64))).max() < 4e-7
    assert np.all(np.abs(found) <= 1.0 + 2e-7)


def test_fast_exp_is_exp() -> None:
    """It is at most 1 in a softmax, exactly 0 of what is forbidden, and of what is not finite it makes no number."""
    x = np.concatenate([np.linspace(-87, 80, 160_000), [0.0, -1e-20, -1e9, -np.inf, np.nan, np.nan]])
    found = np.concatenate([x, np.zeros(-len(x) % PAD)]).astype(np.float32)
    exp_in_place(found)
    found = found[: len(x)]
    assert found[:160_000] == pytest.approx(np.exp(x[:160_000].astype(np.float32).astype(np.float64)), rel=2e-7)
    assert found[160_000:164_000].tolist()[:4] == [1.0, 1.0, 0.0, 0.0]
    assert np.isnan(found[-2:]).all()


def test_what_is_no_number_stays_none() -> None:
    """Else a run that diverges would go on unnoticed."""
    network = MLP(6, (8, 8), 3, 1.0, torch.Generator().manual_seed(1))
    x = np.zeros((2, 6), np.float32)
    x[1, 3] = np.nan
    found = FusedMLP(network).forward(x)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("normalise", [False, True])
def test_a_minibatch_is_some_of_the_samples(normalise: bool) -> None:
    """More of them than a tile, in any order, and normalised as `normalised` does it."""
    batch, chosen = minibatch(300, 5, 2), torch.randperm(300, generator=torch.Generator().manual_seed(1))[:131]
    network = categorical(6, 9, 5, (8, 8), torch.Generator().manual_seed(1))
    flat, fused = FlatAdam(network, 1e-3, 10.0), FusedActorCritic(network, 0.2, 0.5)
    part = Minibatch(*(x[chosen] for x in batch[:6]))
    part = part._replace(advantage=normalised(part.advantage)) if normalise else part
    expected_losses = gradient(network, part, IPPOConfig(), 0.01)
    expected = flat.gradient.clone()
    losses = fused.gradient_of(kernel_samples(batch), chosen.numpy(), 0.01, normalise)
    assert losses == pytest.approx(expected_losses, rel=1e-4, abs=1e-5)
    assert torch.allclose(flat.gradient, expected, rtol=1e-3, atol=3e-6)
    # and again the same, bit for bit
    before = flat.gradient.clone()
    assert fused.gradient_of(kernel_samples(batch), chosen.numpy(), 0.01, normalise) == losses
    assert torch.equal(flat.gradient, before)
