"""What is forbidden is never done, never valued and never pulled on; who has left learns nothing more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig, LIIRConfig, MAPPOConfig, QMIXConfig, VDNConfig
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.algorithms.fused_mlp import FusedActorCritic
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.algorithms.liir import LIIR
from cosignal.rl.algorithms.losses import Minibatch
from cosignal.rl.algorithms.mappo import MAPPO
from cosignal.rl.algorithms.networks.sampling import FORBIDDEN_LOGIT, sample_categorical
from cosignal.rl.algorithms.q_learning import QLearner, sample_allowed
from cosignal.rl.algorithms.qmix import QMIX
from cosignal.rl.algorithms.vdn import VDN
from cosignal.rl.experience.replay_buffer import Sample
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.signals.rewards import Rewards
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions
from small_networks import categorical, gradient

X = FeatureSpec(name="x", kind="quantity", low=-1, high=1)
GROUP = GroupSpec(name="agents", agents=("a", "b"), obs_size=3, n_actions=4, features=(X,))
SPEC = TaskSpec(name="masked", description="", groups=(GROUP,), has_masks=True)
LEARNERS = {
    "ippo": lambda **x: IPPO(IPPOConfig(**x), SPEC, 1),
    "mappo": lambda **x: MAPPO(MAPPOConfig(**x), SPEC, 1),
    "liir": lambda **x: LIIR(LIIRConfig(**x), SPEC, 1),
    "vdn": lambda **x: VDN(VDNConfig(**x), SPEC, 1),
    "qmix": lambda **x: QMIX(QMIXConfig(**x), SPEC, 1),
}


def some_masks(rng: np.random.Generator, *shape: int) -> Any:
    """At least one of four actions is allowed."""
    mask = rng.random((*shape, 4)) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return mask


@pytest.mark.parametrize("name", LEARNERS)
def test_only_allowed_actions_are_taken(name: str) -> None:
    rng, learner = np.random.default_rng(0), LEARNERS[name]()
    obs, mask = rng.normal(size=(500, 2, 3)).astype(np.float32), some_masks(rng, 500, 2)
    draw = torch.Generator().manual_seed(1)
    (acted,), (logp,) = learner.act([obs], masks=[mask])
    (evaluated,) = learner.act_to_evaluate([obs], draw, masks=[mask])
    for actions in (acted, evaluated):
        assert np.take_along_axis(mask, actions[..., None], -1).all()
    alone = mask.sum(-1) == 1
    assert np.allclose(logp[alone], 0.0, atol=1e-6)
    assert set(np.unique(acted)) == {0, 1, 2, 3}


@given(st.lists(st.booleans(), min_size=2, max_size=6).filter(any), st.floats(0, 1, exclude_max=True, width=32))
def test_no_uniform_number_draws_what_is_blocked(allowed: list[bool], uniform: float) -> None:
    logits = np.where(allowed, np.float32(0.3), np.float32(FORBIDDEN_LOGIT))[None].astype(np.float32)
    action, logp = np.empty(1, np.int64), np.empty(1, np.float32)
    sample_categorical(logits, np.array([uniform], np.float32), action, logp)
    assert allowed[int(action[0])]
    chosen = sample_allowed(np.array([allowed]), np.array([uniform], np.float32))
    assert allowed[int(chosen[0])]
    assert np.exp(logp[0]) == pytest.approx(1 / sum(allowed), rel=1e-5)


def test_every_allowed_action_is_explored_as_often() -> None:
    mask = np.array([[True, False, True, True]]).repeat(30_000, 0)
    chosen = sample_allowed(mask, np.random.default_rng(0).random(30_000, np.float32))
    assert np.bincount(chosen, minlength=4) / 30_000 == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.05]))
@settings(max_examples=20, deadline=None)
def test_the_kernel_with_masks_gives_the_gradient_of_autograd(seed: int, entropy_coef: float) -> None:
    rng, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    mask = some_masks(rng, 40)
    actions = torch.from_numpy(sample_allowed(mask, rng.random(40, np.float32)))
    obs, logp = torch.randn(40, 3, generator=draw), -torch.rand(40, generator=draw)
    advantage, target = torch.randn(40, generator=draw), torch.randn(40, generator=draw)
    batch = Minibatch(obs, obs, actions, logp, advantage, target, torch.from_numpy(~mask))
    network = categorical(3, 3, 4, (8,), draw)
    flat = FlatAdam(network, 1e-3, 10.0)
    expected_losses = gradient(network, batch, IPPOConfig(), entropy_coef)
    expected = flat.gradient.clone()
    losses = FusedActorCritic(network, 0.2, 0.5).gradient(batch, entropy_coef)
    assert losses == pytest.approx(expected_losses, rel=1e-4, abs=1e-5)
    assert torch.allclose(flat.gradient, expected, rtol=1e-3, atol=3e-6)


def test_an_agent_that_has_left_pulls_on_no_policy() -> None:
    """It may do its first action only, so that neither advantage nor entropy has a slope."""
    network = categorical(3, 3, 4, (8,), torch.Generator().manual_seed(1))
    FlatAdam(network, 1e-3, 10.0)
    blocked = torch.tensor([[False, True, True, True]]).repeat(5, 1)
    zeros = torch.zeros(5)
    batch = Minibatch(torch.zeros(5, 3), torch.zeros(5, 3), zeros.long(), zeros, torch.ones(5) * 7, zeros, blocked)
    FusedActorCritic(network, 0.2, 0.5).gradient(batch, 0.5)
    assert all(float(p.grad.abs().max()) == 0.0 for p in network.actor.parameters() if p.grad is not None)


PAY = np.array([1, 3, 0, 2], np.float32)


def rollout(learner: Any, rng: np.random.Generator) -> Rollout:
    """One-step episodes; actions pay as in `PAY`, and one of the last three is forbidden to each agent."""
    obs = np.eye(3, dtype=np.float32)[rng.integers(0, 3, size=(16, 16, 2))]
    mask = np.ones((16, 16, 2, 4), bool)
    np.put_along_axis(mask, obs.argmax(-1)[..., None] + 1, False, -1)  # of 1, 2, 3 the one that it sees
    found = [learner.act([obs[t]], masks=[mask[t]]) for t in range(16)]
    actions, logp = np.stack([a[0] for a, _ in found]), np.stack([p[0] for _, p in found])
    reward = PAY[actions].sum(-1)
    x, events = np.zeros((16, 16, 2, 1), np.float32), np.zeros((16, 16, 2, 0), np.float32)
    ones, alive = np.ones((16, 16), np.float32), np.ones((16, 16, 2), bool)
    return Rollout(
        [obs], [obs], [x], [x], [events], [actions], [logp], reward, ones, ones, ones, [mask], [alive], [mask], [alive]
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ippo", {"entropy": 0.0}),
        ("mappo", {"entropy": 0.0}),
        ("liir", {"entropy": 0.0}),
        ("vdn", {"epsilon_steps": 5000, "learning_starts": 0, "batch_size": 64, "target_every": 20}),
        ("qmix", {"epsilon_steps": 5000, "learning_starts": 0, "batch_size": 64, "target_every": 20}),
    ],
)
def test_learns_the_best_allowed_action_and_the_twin_without_a_learning_rate_does_not(
    name: str, options: dict[str, Any]
) -> None:
    signal = CompiledSignal(Signal(scale=1.0), SPEC)

    def share_of_best(lr: float) -> float:
        learner, rng = LEARNERS[name](lr=lr, hidden=(16,), **options), np.random.default_rng(0)
        for _ in range(60):
            found, rewards = rollout(learner, rng), Rewards(signal, [], 0.99, age=0)
            learner.learn(found, rewards.shape(found), rewards)
        obs, mask = found.obs[0][0], found.masks[0][0]  # type: ignore[index]
        (actions,) = learner.act_to_evaluate([obs], torch.Generator().manual_seed(0), masks=[mask])
        best = np.where(obs.argmax(-1) == 0, 3, 1)
        return float((actions == best).mean())

    assert share_of_best(5e-3) > 0.9
    assert share_of_best(1e-30) < 0.75


def test_targets_look_at_allowed_actions_only() -> None:
    """Hand-computed: values 1, 2, 3, 4 of each agent; the next best of a mask is what counts."""
    policy = VDN(VDNConfig(gamma=0.5, hidden=()), SPEC, 1)
    for values in (policy.values, policy.target):
        for network in values.agents:
            network.linears[0].weight.data.zero_()
            network.linears[0].bias.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    obs, x, none = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 1), np.float32), np.zeros((1, 2, 0), np.float32)
    mask, alive = np.array([[[True, True, True, False], [True, False, False, False]]]), np.array([[True, False]])
    found = Sample(
        [obs], [obs], [x], [x], [none], [np.zeros((1, 2), np.int64)], np.array([10.0], np.float32),
        np.zeros(1, np.float32), last_masks=[mask], alive=[np.array([[True, True]])], last_alive=[alive],
    )  # fmt: skip
    rewards = Rewards(CompiledSignal(Signal(scale=1.0), SPEC), [], 0.5, age=0)
    assert isinstance(policy, QLearner)
    assert policy.targets(found, rewards).tolist() == [10.0 + 0.5 * (3.0 + 1.0)]


def test_a_potential_ends_with_the_agent() -> None:
    """Φ = x: the step in which it leaves takes Φ(s) back, as a termination does, and no later step pays."""
    signal = CompiledSignal(Signal(beta=1.0, scale=1.0, terms=(PotentialTerm(name="near", expression="x"),)), SPEC)
    x = np.full((3, 2, 1), 0.5, np.float32)
    alive, last_alive = (
        np.array([[True, True], [True, True], [False, True]]),
        np.array([[True, True], [False, True], [False, True]]),
    )
    events, no = np.zeros((3, 2, 0), np.float32), np.zeros(3)
    left_early = MadeUpTransitions([x], [x], [events], no, alive=[alive], last_alive=[last_alive])
    shaped = signal.shape(left_early, 0.9)
    assert shaped.total[0] == pytest.approx(np.array([[-0.05, -0.05], [-0.5, -0.05], [0.0, -0.05]]), abs=1e-7)
    left = Rewards(signal, [signal], 0.9, age=0)
    offset = left.offset([x], [alive], [x])
    assert offset is not None
    assert offset[0].tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 0.5]]


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_policy_and_entropy_are_means_over_those_who_act(seed: int) -> None:
    """Kernel and autograd agree, and who has left changes no number of the policy."""
    rng, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    acting = torch.from_numpy(np.arange(30) < 20)
    mask = np.ones((30, 4), bool)
    mask[20:, 1:] = False
    actions = torch.from_numpy(sample_allowed(mask, rng.random(30, np.float32)))
    obs, logp = torch.randn(30, 3, generator=draw), -torch.rand(30, generator=draw) * acting
    advantage, target = torch.randn(30, generator=draw), torch.randn(30, generator=draw)
    batch = Minibatch(obs, obs, actions, logp, advantage, target, torch.from_numpy(~mask), acting)
    network = categorical(3, 3, 4, (8,), draw)
    flat = FlatAdam(network, 1e-3, 10.0)
    policy, _, entropy = gradient(network, batch, IPPOConfig(), 0.05)
    expected = flat.gradient.clone()
    found = FusedActorCritic(network, 0.2, 0.5).gradient(batch, 0.05)
    assert (found[0], found[2]) == pytest.approx((policy, entropy), rel=1e-4, abs=1e-5)
    assert torch.allclose(flat.gradient, expected, rtol=1e-3, atol=3e-6)
    alone = Minibatch(*(x[:20] for x in batch[:7]))  # type: ignore[index]
    assert gradient(network, alone, IPPOConfig(), 0.05)[::2] == pytest.approx((policy, entropy), rel=1e-5)
