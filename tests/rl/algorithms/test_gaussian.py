"""Policies that choose numbers, on tasks that are solved by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig, MAPPOConfig
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.algorithms.losses import Minibatch, gaussian_log_prob
from cosignal.rl.algorithms.mappo import MAPPO
from cosignal.rl.algorithms.networks.actor_critic import GaussianActorCritic
from cosignal.rl.algorithms.ppo import PPO, Batch
from cosignal.rl.task import GroupSpec, TaskSpec
from one_step_episodes import one_step_batch
from small_networks import gaussian, gradient

ARMS = GroupSpec(name="arms", agents=("a", "b"), obs_size=1, action_bounds=((0.0, 1.0), (-5.0, 5.0)))
SWITCH = GroupSpec(name="switches", agents=("s",), obs_size=2, n_actions=3)
SPEC = TaskSpec(name="arms", description="", groups=(ARMS,))
BOTH = TaskSpec(name="both", description="", groups=(ARMS, SWITCH), has_masks=True)


def rollout(learner: PPO, rng: np.random.Generator) -> Batch:
    """One-step episodes: the best first number is half of what is seen, the best second its negative."""
    obs = rng.uniform(-1, 1, (16, 16, 2, 1)).astype(np.float32)
    found = [learner.act([obs[t]]) for t in range(16)]
    action, logp = np.stack([a[0] for a, _ in found]), np.stack([p[0] for _, p in found])
    error = np.clip(action, -1, 1) - np.concatenate([0.5 * obs, -obs], -1)
    return one_step_batch(learner, obs, action, logp, -(error**2).sum(-1).astype(np.float32))


def error_after(learner: PPO, updates: int = 150) -> float:
    """Mean distance of the policy's mean from the best numbers."""
    rng = np.random.default_rng(0)
    for _ in range(updates):
        learner.update([rollout(learner, rng)])
    seen = torch.linspace(-1, 1, 21)[:, None]
    with torch.no_grad():
        mean = learner.networks[0].actor(seen)
    return float((mean - torch.cat([0.5 * seen, -seen], -1)).abs().mean())


@pytest.mark.parametrize(("kind", "config"), [(IPPO, IPPOConfig), (MAPPO, MAPPOConfig)])
def test_learns_the_best_numbers_and_the_twin_without_a_learning_rate_does_not(kind: Any, config: Any) -> None:
    options: dict[str, Any] = {"entropy": 0.0, "hidden": (16,), "log_std_init": -0.7}
    assert error_after(kind(config(lr=5e-3, **options), SPEC, 1)) < 0.1
    assert error_after(kind(config(lr=1e-30, **options), SPEC, 1), 5) > 0.3


def test_what_is_drawn_has_the_policys_mean_and_deviation() -> None:
    learner = IPPO(IPPOConfig(log_std_init=-1.0), SPEC, 1)
    network = learner.networks[0]
    assert isinstance(network, GaussianActorCritic)
    with torch.no_grad():
        network.actor.layers[-1].weight.zero_()
        network.actor.layers[-1].bias.copy_(torch.tensor([0.25, -0.5]))
    (actions,), (logp,) = learner.act([np.zeros((20_000, 2, 1), np.float32)])
    assert actions.dtype == np.float32
    assert actions.mean((0, 1)) == pytest.approx([0.25, -0.5], abs=0.01)
    assert actions.std((0, 1)) == pytest.approx(np.exp([-1.0, -1.0]), abs=0.01)
    densities = gaussian_log_prob(torch.from_numpy(actions), torch.tensor([0.25, -0.5]), torch.tensor([-1.0, -1.0]))
    assert np.allclose(logp, densities.numpy(), atol=1e-4)


def test_a_kick_widens_what_had_narrowed() -> None:
    learner = IPPO(IPPOConfig(log_std_init=0.0), SPEC, 1)
    network = learner.networks[0]
    assert isinstance(network, GaussianActorCritic)
    network.log_std.data.fill_(-2.0)
    learner.kick(0.25)
    assert network.log_std.tolist() == [-0.5, -0.5]


def test_groups_of_numbers_and_of_choices_learn_side_by_side_and_repeat_themselves() -> None:
    def states() -> list[dict[str, Any]]:
        learner, found = MAPPO(MAPPOConfig(hidden=(8,)), BOTH, 1), []
        rng = np.random.default_rng(0)
        for _ in range(2):
            obs = [rng.normal(size=(4, n, o)).astype(np.float32) for n, o in ((2, 1), (1, 2))]
            masks = [np.ones((4, 2, 0), bool), np.array([[[True, False, True]]] * 4)]
            actions, _ = learner.act(obs, masks=masks)
            assert [x.shape for x in actions] == [(4, 2, 2), (4, 1)]
            assert not (actions[1] == 1).any()
            found.append(learner.state_dict())
        return found

    for one, other in zip(states(), states(), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_an_agent_that_has_left_pulls_on_no_policy_of_numbers() -> None:
    network = gaussian(1, 1, 2, (4,), torch.Generator().manual_seed(1))
    flat = FlatAdam(network, 1e-3, 10.0)
    zeros, gone = torch.zeros(5), torch.zeros(5, dtype=torch.bool)
    batch = Minibatch(torch.zeros(5, 1), torch.zeros(5, 1), torch.ones(5, 2), zeros, zeros + 7, zeros + 1, None, gone)
    flat.zero_grad()
    policy, value, entropy = gradient(network, batch, IPPOConfig(), 0.5)
    assert (policy, entropy) == (0.0, 0.0)
    assert value > 0
    assert network.log_std.grad is not None
    assert float(network.log_std.grad.abs().max()) == 0.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in network.actor.parameters() if p.grad is not None)


def test_deviations_stay_where_numbers_still_differ() -> None:
    """An entropy bonus alone would widen them for ever, until all that is drawn is clipped."""
    learner = IPPO(IPPOConfig(entropy=0.5, lr=3e-2), SPEC, 1)
    rng = np.random.default_rng(0)
    for _ in range(60):
        batch = rollout(learner, rng)
        batch.rewards = np.zeros_like(batch.rewards)
        learner.update([batch])
    (actions,), _ = learner.act([np.zeros((5_000, 2, 1), np.float32)])
    assert actions.std() == pytest.approx(np.e, rel=0.1)


def test_the_smallest_rollout_leaves_numbers_behind() -> None:
    learner = IPPO(IPPOConfig(minibatches=4), SPEC, 1)
    obs = np.zeros((1, 2, 2, 1), np.float32)
    (action,), (logp,) = learner.act([obs[0]])
    batch = one_step_batch(learner, obs, action[None], logp[None], np.zeros((1, 2, 2), np.float32))
    (metrics,) = learner.update([batch])
    assert all(np.isfinite(value) for value in metrics.losses.values())
    assert all(np.isfinite(value).all() for value in learner.state_dict().values())
