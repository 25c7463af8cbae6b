"""GAE and value normalisation on numbers worked out by hand; GAE against an independent form, and its laws."""

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.returns import RewardScale, ValueNorm, gae
from hypothesis import given, settings
from hypothesis import strategies as st


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_two_steps_by_hand() -> None:
    # γ = 0.5, λ = 0.5. δ_1 = 1 + 0.5·4 − 2 = 1, δ_0 = 0 + 0.5·2 − 1 = 0; A_1 = 1, A_0 = 0 + 0.25·1
    advantage = gae(column(0, 1), column(1, 2), column(2, 4), column(0, 0), column(0, 0), 0.5, 0.5)
    assert advantage.squeeze(1).tolist() == [0.25, 1.0]


def test_termination_drops_the_next_value_and_a_time_limit_keeps_it() -> None:
    # γ = 1, λ = 1. terminated: A = 1 − 2 = −1; cut: A = 1 + 10 − 2 = 9; nothing leaks from the episode that follows
    after = (5.0, 0.0, 0.0)  # reward, value, next value of a step of the next episode
    for terminated, expected in ((1.0, -1.0), (0.0, 9.0)):
        advantage = gae(
            column(1, after[0]),
            column(2, after[1]),
            column(10, after[2]),
            column(terminated, 0),
            column(1, 0),
            1.0,
            1.0,
        )
        assert advantage[0, 0].item() == expected


def test_value_of_an_endless_reward_is_the_geometric_sum_and_the_wrong_setting_is_wrong() -> None:
    # reward 1 for ever, cut every step: with V = 1 / (1 − γ) every advantage is 0; as a termination it is not
    gamma = 0.9
    v = column(*[1 / (1 - gamma)] * 5)
    ones, zeros = torch.ones_like(v), torch.zeros_like(v)
    assert gae(ones, v, v, zeros, ones, gamma, 0.95).abs().max() < 1e-12
    assert gae(ones, v, v, ones, ones, gamma, 0.95).abs().min() > 1.0


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), steps=st.integers(1, 12), gamma=st.floats(0.1, 1.0))
def test_lambda_one_is_the_discounted_return_minus_the_value(seed: int, steps: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    r, v = rng.normal(size=(steps, 3)), rng.normal(size=(steps + 1, 3))
    done = rng.random((steps, 3)) < 0.3
    terminated = done & (rng.random((steps, 3)) < 0.5)
    last = np.where(done, rng.normal(size=(steps, 3)), v[1:])
    got = gae(*(torch.as_tensor(x, dtype=torch.float64) for x in (r, v[:-1], last, terminated, done)), gamma, 1.0)
    for e in range(3):
        for t in range(steps):
            total, discount, k = 0.0, 1.0, t
            while True:
                total += discount * r[k, e]
                discount *= gamma
                if done[k, e] or k == steps - 1:
                    total += 0.0 if terminated[k, e] else discount * last[k, e]
                    break
                k += 1
            assert got[t, e].item() == pytest.approx(total - v[t, e], abs=1e-9)


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        gae(column(1, 2), column(1), column(1), column(0), column(0), 0.9, 0.9)


def test_value_norm_is_the_mean_and_deviation_of_what_it_saw() -> None:
    norm = ValueNorm()
    assert norm.denormalised(torch.tensor([3.0])).item() == 3.0  # nothing seen yet
    norm.add(torch.tensor([1.0, 5.0]))
    assert (norm.mean, norm.std) == pytest.approx((3.0, 2.0))
    assert norm.normalised(torch.tensor([1.0, 5.0])).tolist() == pytest.approx([-1.0, 1.0])
    assert norm.denormalised(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([1.0, 5.0])
    other = ValueNorm()
    other.load_state(norm.state())
    assert (other.mean, other.std) == (norm.mean, norm.std)
    for _ in range(2000):
        norm.add(torch.tensor([7.0]))
    assert (norm.mean, norm.std) == pytest.approx((7.0, 0.1), abs=1e-3)  # forgets, and never divides by less than 0.1


def test_rewards_are_scaled_by_the_deviation_of_all_that_was_paid() -> None:
    """0, 0, 0 and 4 have mean 1 and variance 3; with four times 4 more, mean 2.5 and variance 3.75."""
    scale = RewardScale(standardise=True)
    assert scale.value == 1.0
    scale.add(np.zeros((1, 2), np.float32))
    assert scale.value == 1.0  # they do not differ
    scale.add(np.array([[0.0, 4.0]], np.float32))
    assert scale.value == pytest.approx(3**-0.5)
    other = RewardScale(standardise=True)
    other.load_state(scale.state())
    other.add(np.full(4, 4.0, np.float32))
    assert other.value == pytest.approx(3.75**-0.5)
    off = RewardScale(standardise=False)
    off.add(np.array([0.0, 4.0], np.float32))
    assert off.value == 1.0
    with pytest.raises(FloatingPointError, match="the sum of the squared rewards"):
        scale.add(np.array([np.inf], np.float32))
