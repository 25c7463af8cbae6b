"""IPPO and MAPPO: they learn what can be learned by hand, their twins without gradients do not, and they repeat
themselves exactly."""

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig, LIIRConfig, MAPPOConfig
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.algorithms.liir import LIIR
from cosignal.rl.algorithms.mappo import MAPPO
from cosignal.rl.algorithms.ppo import PPO, Batch, Cuts
from cosignal.rl.task import GroupSpec, TaskSpec
from one_step_episodes import one_step_batch

SPEC = TaskSpec(
    name="identity", description="", groups=(GroupSpec(name="agents", agents=("a", "b"), obs_size=3, n_actions=3),)
)


def rollout(learner: PPO, rng: np.random.Generator, steps: int = 16, envs: int = 16) -> Batch:
    """One-step episodes: the observation is a one-hot number, the reward 1 for an agent that answers with it."""
    obs = np.eye(3, dtype=np.float32)[rng.integers(0, 3, size=(steps, envs, 2))]
    actions, logps = zip(*(learner.act([obs[t]]) for t in range(steps)), strict=True)
    action = np.stack([a[0] for a in actions])
    reward = (action == obs.argmax(-1)).astype(np.float32)
    return one_step_batch(learner, obs, action, np.stack([x[0] for x in logps]), reward)


def train(learner: PPO, updates: int) -> float:
    rng = np.random.default_rng(0)
    rewards = []
    for _ in range(updates):
        batch = rollout(learner, rng)
        learner.update([batch])
        rewards.append(float(batch.rewards.mean()))
    return rewards[-1]


OPTIONS = ({}, {"value_norm": True}, {"advantage_norm": "agent"}, {"share_parameters": False}, {"hidden": (8, 8, 8)})


CONFIGS = {IPPO: IPPOConfig, MAPPO: MAPPOConfig, LIIR: LIIRConfig}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("options", OPTIONS)
def test_learns_identity_and_the_twin_without_a_learning_rate_does_not(
    kind: type[PPO], options: dict[str, object]
) -> None:
    config: type[IPPOConfig] = CONFIGS[kind]
    settings = {"entropy": 0.0, **options}
    assert train(kind(config.model_validate({"lr": 3e-3, **settings}), SPEC, 1), 60) > 0.95
    assert train(kind(config.model_validate({"lr": 1e-30, **settings}), SPEC, 1), 60) < 0.45


@pytest.mark.parametrize("kind", [IPPO, MAPPO])
def test_autograd_learns_the_same(kind: type[PPO]) -> None:
    """The path of other devices. Rounding parts the two at last, so that only what was learned is compared."""
    learner = kind(MAPPOConfig(lr=3e-3, entropy=0.0), SPEC, 1)
    learner.fused = [None]
    assert train(learner, 60) > 0.95


def test_each_agent_of_its_own_network_learns_its_own_answer() -> None:
    """Agents that are paid for opposite answers to the same observation need networks of their own."""

    def paid_apart(shared: bool) -> float:
        learner = IPPO(IPPOConfig(lr=3e-3, entropy=0.0, share_parameters=shared), SPEC, 1)
        assert len(learner.networks) == (1 if shared else 2)
        rng = np.random.default_rng(0)
        for _ in range(60):
            batch = rollout(learner, rng)
            wanted = (batch.obs.argmax(-1) + np.array([0, 1])) % 3
            batch.rewards = (batch.actions == wanted).astype(np.float32)
            learner.update([batch])
        return float(batch.rewards.mean())

    assert paid_apart(shared=False) > 0.95
    assert paid_apart(shared=True) < 0.7


def test_advantages_of_each_agent_are_normalised_apart() -> None:
    learner = IPPO(IPPOConfig(advantage_norm="agent"), SPEC, 4)
    batch = rollout(learner, np.random.default_rng(5))
    batch.rewards = batch.rewards * np.array([100.0, 0.01], np.float32)
    samples = learner.samples(0, batch).advantage.view(-1, 2)
    assert samples.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert samples.std(0).tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_same_seed_same_weights_and_state_dict_continues_bit_for_bit() -> None:
    first, second = IPPO(IPPOConfig(), SPEC, 7), IPPO(IPPOConfig(), SPEC, 7)
    train(first, 3)
    train(second, 3)
    copy = IPPO(IPPOConfig(), SPEC, 8)
    copy.load_state_dict(first.state_dict())
    for learner in (first, second, copy):
        train(learner, 2)
    states = [learner.state_dict() for learner in (first, second, copy)]
    for name, value in states[0].items():
        assert np.array_equal(value, states[1][name]), name
        assert np.array_equal(value, states[2][name]), name


def test_another_seed_gives_other_weights() -> None:
    one, other = IPPO(IPPOConfig(), SPEC, 1).state_dict(), IPPO(IPPOConfig(), SPEC, 2).state_dict()
    assert not np.array_equal(one["0.actor.layers.0.weight"], other["0.actor.layers.0.weight"])


def test_sampling_follows_the_policy() -> None:
    learner = IPPO(IPPOConfig(), SPEC, 3)
    with torch.no_grad():
        learner.networks[0].actor.layers[-1].bias.copy_(torch.log(torch.tensor([0.7, 0.2, 0.1])))
        learner.networks[0].actor.layers[-1].weight.zero_()
    (actions,), (logps,) = learner.act([np.zeros((20_000, 2, 3), np.float32)])
    shares = np.bincount(actions.ravel(), minlength=3) / actions.size
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    assert np.exp(logps) == pytest.approx(np.array([0.7, 0.2, 0.1])[actions], abs=1e-5)


def test_kick_makes_the_policy_more_uniform() -> None:
    learner = IPPO(IPPOConfig(lr=3e-3, entropy=0.0), SPEC, 1)
    train(learner, 40)
    obs = [np.eye(3, dtype=np.float32)[None, :2]]
    before = learner.networks[0].actor(torch.from_numpy(obs[0]))
    learner.kick(0.05)
    after = learner.networks[0].actor(torch.from_numpy(obs[0]))
    assert torch.allclose(after, before * 0.05, atol=1e-6)


def offset_batch(learner: IPPO, phi: float | None) -> Batch:
    batch = rollout(learner, np.random.default_rng(5))
    batch.terminated[:], batch.done[:] = 0, 0
    last = np.full(batch.done.shape[1], len(batch.done) - 1), np.arange(batch.done.shape[1])
    batch.cuts = Cuts(*last, batch.critic_obs[last])
    if phi is not None:
        rng = np.random.default_rng(9)
        batch.offset = rng.normal(size=batch.rewards.shape).astype(np.float32) * phi
        batch.last_offset = np.concatenate([batch.offset[1:], batch.offset[:1]])
    return batch


def test_an_offset_equal_to_the_potential_leaves_every_advantage_as_it_was() -> None:
    """Wiewiora 2003: shaping by Φ with the critic's output at V − Φ, and no shaping at V, give the same advantages.

    Here the other way round: the critic has absorbed Φ, the shaping is gone, and the offset adds Φ to its output.
    """
    config = IPPOConfig(gamma=0.9)
    learner = IPPO(config, SPEC, 4)
    batch = offset_batch(learner, 1.0)
    assert batch.offset is not None and batch.last_offset is not None
    shaped = Batch(**{**vars(batch), "offset": None, "last_offset": None})
    shaped.rewards = batch.rewards + config.gamma * batch.last_offset - batch.offset
    with_shaping, target_with = learner.advantages(0, shaped)
    without, target_without = learner.advantages(0, batch)
    assert torch.allclose(with_shaping, without, atol=1e-5)
    assert torch.allclose(target_with, target_without, atol=1e-5)  # so the network need not change either
    plain = Batch(**{**vars(batch), "offset": None, "last_offset": None})
    assert not torch.allclose(learner.advantages(0, plain)[0], without, atol=1e-2)  # without the offset it dips


def test_a_greedy_evaluation_takes_the_likeliest_action_and_a_sampled_one_all() -> None:
    """One row of logits (0, 0.5, 0) 4,000 times: of sampled actions 0.45 are the second one."""
    obs = [np.zeros((2_000, 2, 3), np.float32)]
    shares = []
    for greedy in (True, False):
        learner = IPPO(IPPOConfig(greedy_evaluation=greedy), SPEC, 1)
        with torch.no_grad():
            learner.networks[0].actor.head.weight.zero_()
            learner.networks[0].actor.head.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
        (actions,) = learner.act_to_evaluate(obs, torch.Generator().manual_seed(3))
        shares.append(float((actions == 1).mean()))
        (actions,), _ = learner.act(obs)  # training samples in either case
        assert 0.4 < (actions == 1).mean() < 0.5
    assert shares[0] == 1.0 and shares[1] == pytest.approx(np.exp(0.5) / (2 + np.exp(0.5)), abs=0.03)


def test_masked_actions_are_never_the_likeliest() -> None:
    learner = IPPO(IPPOConfig(greedy_evaluation=True), SPEC, 1)
    with torch.no_grad():
        learner.networks[0].actor.head.bias.copy_(torch.tensor([0.0, 5.0, 1.0]))
    mask = [np.broadcast_to(np.array([True, False, True]), (7, 2, 3))]
    (actions,) = learner.act_to_evaluate([np.zeros((7, 2, 3), np.float32)], torch.Generator(), mask)
    assert (actions == 2).all()
