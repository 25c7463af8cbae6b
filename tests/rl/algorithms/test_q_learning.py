"""VDN and QMIX: targets on hand-computed numbers, learning what is solved by hand, and never from a stale reward."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import QMIXConfig, VDNConfig
from cosignal.rl.algorithms.q_learning import QLearner
from cosignal.rl.algorithms.qmix import QMIX, MonotonicMixer
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

X = FeatureSpec(name="x", kind="quantity", low=-1, high=1)
SPEC = TaskSpec(
    name="match", description="",
    groups=(GroupSpec(name="agents", agents=("a", "b"), obs_size=3, n_actions=3, features=(X,)),),
)  # fmt: skip
PLAIN = Signal(scale=1.0)
NEAR = Signal(beta=1.0, scale=1.0, terms=(PotentialTerm(name="near", expression="x"),))


def rewards(signal: Signal = PLAIN, left: list[Signal] | None = None, gamma: float = 0.9) -> Rewards:
    return Rewards(CompiledSignal(signal, SPEC), [CompiledSignal(x, SPEC) for x in left or []], gamma, age=0)


def learner(kind: type[QLearner] = VDN, **changes: Any) -> QLearner:
    told: dict[str, Any] = {"gamma": 0.9, "hidden": (16,), "lr": 5e-3, "learning_starts": 0, "batch_size": 64}
    config = QMIXConfig if kind is QMIX else VDNConfig
    return kind(config(**told | changes), SPEC, 1)  # type: ignore[arg-type]


def rollout(policy: QLearner, rng: np.random.Generator, steps: int = 8, envs: int = 8) -> Rollout:
    """One-step episodes: both see a number; the team is paid 1 where both answer with it, and else nothing."""
    obs = np.eye(3, dtype=np.float32)[rng.integers(0, 3, size=(steps, envs))][:, :, None].repeat(2, axis=2)
    actions = np.stack([policy.act([obs[t]])[0][0] for t in range(steps)])
    reward = (actions == obs.argmax(-1)).all(-1).astype(np.float32)
    features, last_features = np.zeros((2, steps, envs, 2, 1), np.float32)
    events, logp = np.zeros((steps, envs, 2, 0), np.float32), np.zeros((steps, envs, 2), np.float32)
    terminated, done = np.ones((2, steps, envs), np.float32)
    return Rollout(
        [obs], [obs], [features], [last_features], [events], [actions], [logp], reward, terminated, done, reward
    )


def train(policy: QLearner, updates: int) -> float:
    """Share of teams that are right when all are greedy."""
    rng = np.random.default_rng(0)
    for _ in range(updates):
        found = rollout(policy, rng)
        given_now = rewards()
        policy.learn(found, given_now.shape(found), given_now)
    numbers = np.eye(3, dtype=np.float32)[:, None].repeat(2, axis=1)
    (actions,) = policy.act_to_evaluate([numbers], torch.Generator())
    return float((actions == np.arange(3)[:, None]).all(-1).mean())


@pytest.mark.parametrize("kind", [VDN, QMIX])
@pytest.mark.parametrize("shared", [True, False])
def test_learns_to_match_and_the_twin_without_a_learning_rate_does_not(kind: type[QLearner], shared: bool) -> None:
    told = {"epsilon_steps": 2000, "samples_per_step": 16, "target_every": 20, "share_parameters": shared}
    assert train(learner(kind, **told), 60) == 1.0
    assert train(learner(kind, **told, lr=1e-30), 60) < 1.0


def sample(**changes: Any) -> Sample:
    """Two transitions; the first terminates."""
    obs = np.eye(3, dtype=np.float32)[[[0, 1], [2, 0]]]
    x = np.array([[[0.5], [0.1]], [[0.2], [0.4]]], np.float32)
    after = np.array([[[0.9], [0.7]], [[-0.2], [0.6]]], np.float32)
    fields = {
        "obs": [obs], "last_obs": [obs[:, ::-1].copy()], "features": [x], "last_features": [after],
        "events": [np.zeros((2, 2, 0), np.float32)], "actions": [np.array([[0, 1], [2, 2]])],
        "reward": np.array([1.0, 2.0], np.float32), "terminated": np.array([1.0, 0.0], np.float32),
    }  # fmt: skip
    return Sample(**fields | changes)


def test_targets_are_the_reward_and_the_discounted_value_of_the_best_next_actions() -> None:
    policy = learner()
    with torch.no_grad():
        for parameter in (*policy.values.parameters(), *policy.target.parameters()):
            parameter.zero_()
        policy.values.agents[0].layers[-1].bias.copy_(torch.tensor([0.0, 5.0, 1.0]))  # chooses action 1
        policy.target.agents[0].layers[-1].bias.copy_(torch.tensor([7.0, 3.0, 9.0]))  # which is worth 3 to each
    assert policy.targets(sample(), rewards()).tolist() == pytest.approx([1.0, 2.0 + 0.9 * 6.0])
    assert learner(double_q=False).config.double_q is False
    single = learner(double_q=False)
    single.load_state_dict(policy.state_dict())
    assert single.targets(sample(), rewards()).tolist() == pytest.approx([1.0, 2.0 + 0.9 * 18.0])
    # mean over agents of γΦ(s′) − Φ(s); Φ(s′) is zero where the episode terminated
    shaped = [1.0 - 0.3, 2.0 + 0.9 * 6.0 + 0.9 * 0.2 - 0.3]
    assert policy.targets(sample(), rewards(NEAR)).tolist() == pytest.approx(shaped)


@pytest.mark.parametrize("kind", [VDN, QMIX])
def test_a_potential_that_leaves_is_offset_exactly_and_one_that_enters_acts(kind: type[QLearner]) -> None:
    """Wiewiora 2003: with the offset no TD error changes when Φ leaves; with one on entry none would ever change."""
    policy = learner(kind)
    before = policy.targets(sample(), rewards(NEAR)) - policy.q_tot(sample())
    removed = policy.targets(sample(), rewards(PLAIN, left=[NEAR])) - policy.q_tot(sample())
    assert torch.allclose(before, removed, atol=1e-5)
    dipped = policy.targets(sample(), rewards(PLAIN)) - policy.q_tot(sample())
    assert not torch.allclose(before, dipped, atol=1e-2)
    inverse = NEAR.model_copy(update={"terms": (NEAR.terms[0].model_copy(update={"weight": -1.0}),)})
    cancelled = policy.targets(sample(), rewards(NEAR, left=[inverse])) - policy.q_tot(sample())
    assert torch.allclose(cancelled, dipped, atol=1e-5)  # so an entering potential is not offset: it would do nothing


def test_no_transition_carries_a_stale_reward() -> None:
    """What was collected under one signal is learned from under the signal in force."""
    policy = learner()
    found = rollout(policy, np.random.default_rng(1))
    found.features[0][:], found.last_features[0][:] = 0.25, 1.0
    found.terminated[:] = 0
    policy.replay.add(found)
    drawn = policy.replay.sample(16, torch.Generator().manual_seed(1))
    plain, shaped = policy.targets(drawn, rewards()), policy.targets(drawn, rewards(NEAR))
    assert torch.allclose(shaped - plain, torch.full((16,), 0.9 * 1.0 - 0.25), atol=1e-5)
    halved = NEAR.model_copy(update={"beta": 0.5})
    assert torch.allclose(policy.targets(drawn, rewards(halved)) - plain, (shaped - plain) / 2, atol=1e-5)


@given(st.integers(0, 2**31), st.integers(0, 1), st.floats(0.01, 5.0))
@settings(max_examples=50, deadline=None)
def test_the_mixer_is_monotonic_in_every_agents_value(seed: int, agent: int, more: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mixer, q, state = MonotonicMixer(2, 6, 8, 16), torch.randn(4, 2), torch.randn(4, 6)
    raised = q.clone()
    raised[:, agent] += more
    assert bool((mixer(raised, state) >= mixer(q, state) - 1e-5).all())


def test_the_mixer_on_hand_computed_numbers() -> None:
    mixer = MonotonicMixer(2, 1, 1, 1)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        mixer.hyper_w1.bias.copy_(torch.tensor([-2.0, 3.0]))  # the absolute values count: 2 and 3
        mixer.first.bias[-1] = -1.0  # b
        mixer.hyper_w2.bias.fill_(-0.5)
        mixer.value.bias.fill_(10.0)
    q = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = [0.5 * 4.0 + 10.0, 0.5 * (np.exp(-1.0) - 1) + 10.0]  # elu(2 + 3 − 1), elu(−1)
    assert mixer(q, torch.zeros(2, 1)).tolist() == pytest.approx(expected)


def test_epsilon_falls_and_a_kick_raises_it_again() -> None:
    policy = learner(epsilon_steps=100)
    seen = []
    for steps in (0, 50, 100, 1000):
        policy.steps = steps
        seen.append(policy.epsilon)
    assert seen == pytest.approx([1.0, 0.525, 0.05, 0.05])
    policy.kick(0.2)
    assert policy.epsilon == pytest.approx(0.8)
    policy.steps += 40
    assert policy.epsilon == pytest.approx(0.8 - 0.95 * 0.4)
    policy.explore(0.5)
    assert policy.epsilon == 0.5
    policy.explore(None)
    policy.steps += 1000
    assert policy.epsilon == pytest.approx(0.05)


def test_actions_are_greedy_but_for_the_share_epsilon() -> None:
    policy = learner(epsilon_start=0.3, epsilon_end=0.3)
    obs = np.zeros((20_000, 2, 3), np.float32)
    (actions,), (logp,) = policy.act([obs])
    (greedy,) = policy.act_to_evaluate([obs], torch.Generator())
    assert (actions != greedy).mean() == pytest.approx(0.2, abs=0.01)  # of the random third lands on the greedy one
    assert np.exp(logp[actions == greedy]) == pytest.approx(0.8, abs=1e-5)
    assert np.exp(logp[actions != greedy]) == pytest.approx(0.1, abs=1e-5)


def test_standardised_rewards_scale_rewards_and_offsets_alike() -> None:
    policy = learner(standardise_rewards=True)
    policy.reward_scale.load_state(np.array([4.0, 4.0, 20.0]))  # variance 20/4 − 1 = 4
    assert policy.reward_scale.value == 0.5
    plain = learner()
    plain.load_state_dict(policy.state_dict())
    now = rewards(PLAIN, left=[NEAR], gamma=0.9)
    one, other = policy.targets(sample(), now), plain.targets(sample(), now)
    views = sample().last_obs
    best = plain.best_actions(plain.outputs(plain.values, sample(), after=True), None)
    by_target = plain.outputs(plain.target, sample(), after=True)
    future = 0.9 * plain.team_values(plain.target, plain.chosen_values(by_target, best), views)
    future = future * torch.tensor([0.0, 1.0])
    assert torch.allclose(one - future, (other - future) / 2, atol=1e-5)
    assert learner(standardise_rewards=True).reward_scale.value == 1.0  # nothing seen, or rewards that never differ


@pytest.mark.parametrize("kind", [VDN, QMIX])
def test_same_seed_same_weights_and_a_restored_state_goes_on_bit_for_bit(kind: type[QLearner]) -> None:
    first, second = learner(kind, epsilon_steps=500), learner(kind, epsilon_steps=500)
    train(first, 5)
    train(second, 5)
    kept = first.state_dict()
    train(first, 3)
    train(second, 3)
    first.load_state_dict(kept)
    train(first, 3)
    one, other = first.state_dict(), second.state_dict()
    for name in one.keys() - {"replay.segments"}:  # files have names of their own
        assert np.array_equal(one[name], other[name]), name


def test_the_target_is_copied_every_so_many_updates(tmp_path: Path) -> None:
    policy = learner(target_every=10, samples_per_step=4)  # 4 updates a rollout of 64 steps
    apart = []
    for _ in range(5):
        train(policy, 1)
        apart.append(any(not torch.equal(a, b) for a, b in zip(
            policy.values.parameters(), policy.target.parameters(), strict=True)))  # fmt: skip
    assert policy.updates == 20
    assert apart == [True, True, True, True, False]
