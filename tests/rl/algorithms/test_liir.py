"""LIIR: the gradient of the reward network against a reference in numpy, and what it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig, LIIRConfig
from cosignal.rl.algorithms.liir import BOUND, LIIR, ExtrinsicCritic, IntrinsicReward
from cosignal.rl.algorithms.ppo import Batch, Cuts
from cosignal.rl.task import GroupSpec, TaskSpec
from numpy.typing import NDArray
from one_step_episodes import one_step_batch
from training_lines import small_config, trained

PAIR = GroupSpec(name="agents", agents=("a", "b"), obs_size=3, n_actions=3)
SPEC = TaskSpec(name="pair", description="", groups=(PAIR,), has_masks=True)
T, E, S = 6, 4, 8
Doubles = NDArray[np.float64]


def some_batch(seed: int) -> Batch:
    """Episodes that end and are cut, one lost step, forbidden actions, and an agent that leaves; in double precision,
    so that finite differences mean something."""
    rng = np.random.default_rng(seed)
    terminated, done, lost = np.zeros((T, E)), np.zeros((T, E)), np.zeros((T, E))
    terminated[2, 0] = done[2, 0] = done[3, 1] = done[1, 2] = lost[2, 2] = done[2, 2] = 1
    alive = np.ones((T, E, 2), np.bool_)
    alive[3:, 3, 1] = False
    masks = rng.random((T, E, 2, 3)) < 0.7
    actions = rng.integers(0, 3, (T, E, 2))
    np.put_along_axis(masks, actions[..., None], True, -1)
    is_cut = done > 0
    is_cut[-1] = True
    cut = np.nonzero(is_cut)
    arrays: dict[str, Any] = {
        "obs": rng.normal(size=(T, E, 2, 3)),
        "critic_obs": rng.normal(size=(T, E, 2, S)),
        "cuts": Cuts(*cut, rng.normal(size=(len(cut[0]), 2, S))),
        "actions": actions,
        "logp": -1.1 + rng.normal(size=(T, E, 2)) / 5,
        "rewards": rng.normal(size=(T, E, 2)),
        "terminated": terminated,
        "done": done,
        "masks": masks,
        "alive": alive,
        "lost": lost,
    }
    return Batch(**arrays)


def in_double(**options: Any) -> LIIR:
    """Linear policy and critics, a step of the policy that is long enough to matter."""
    settings = {"hidden": (), "intrinsic_hidden": (4,), "lr": 0.7, "gamma": 0.9, "gae_lambda": 0.8, "entropy": 0.03}
    learner = LIIR(LIIRConfig.model_validate({**settings, "intrinsic_weight": 0.5, **options}), SPEC, 1)
    learner.fused = [None] * len(learner.networks)
    draw = torch.Generator().manual_seed(3)
    for module in (*learner.networks, *learner.reward_networks):
        module.double()
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return learner


class Reference:
    """L_ex(θ′(η)) of one network for both agents: sums and derivatives written out with numpy."""

    def __init__(self, learner: LIIR, batch: Batch, advantage: Doubles) -> None:
        self.config, self.batch, self.advantage = learner.config, batch, advantage
        actor, critic = (list(x.parameters()) for x in (learner.networks[0].actor, learner.networks[0].critic))
        self.weight, self.bias, self.critic, self.critic_bias = (
            x.detach().numpy() for x in (actor[0], actor[1], critic[0], critic[1])
        )
        counted = np.repeat(batch.lost == 0, 2).reshape(T, E, 2)  # type: ignore[arg-type]
        self.kept = counted & np.asarray(batch.alive)

    def loss(self, eta: list[Doubles]) -> float:
        proxy = self.normalised(self.proxy_advantages(self.r_in(eta)))[self.kept]
        obs = self.batch.obs[self.kept]
        slope = self.slope(proxy)
        weight, bias = self.weight - self.config.lr * slope.T @ obs, self.bias - self.config.lr * slope.sum(0)
        ratio = self.ratio(self.log_policy(weight, bias))
        return -float(self.surrogate(ratio, self.normalised(self.advantage)[self.kept]).mean())

    def r_in(self, eta: list[Doubles]) -> Doubles:
        w1, b1, w2, b2 = eta
        seen = np.concatenate([self.batch.obs, np.eye(3)[self.batch.actions]], -1)
        found: Doubles = BOUND * np.tanh((np.tanh(seen @ w1.T + b1) @ w2.T + b2)[..., 0] / BOUND)
        return found * np.asarray(self.batch.alive)

    def proxy_advantages(self, r_in: Doubles) -> Doubles:
        """Σ_k (γλ)^k δ_{t+k} up to the end of the episode."""
        c, b = self.config, self.batch
        values = (b.critic_obs @ self.critic.T + self.critic_bias)[..., 0]
        last = {}
        for t, e, critic_obs in zip(b.cuts.t, b.cuts.env, b.cuts.critic_obs, strict=True):
            last[t, e] = (critic_obs @ self.critic.T + self.critic_bias)[:, 0]
        found = np.zeros((T, E, 2))
        for t, e in np.ndindex(T, E):
            for k in range(t, T):
                after = last[k, e] if (k, e) in last else values[k + 1, e]
                reward = b.rewards[k, e] + c.intrinsic_weight * r_in[k, e]
                delta = reward + c.gamma * after * (1 - b.terminated[k, e]) - values[k, e]
                found[t, e] += (c.gamma * c.gae_lambda) ** (k - t) * delta
                if b.done[k, e]:
                    break
        return found

    def normalised(self, advantage: Doubles) -> Doubles:
        return (advantage - advantage[self.kept].mean()) / (advantage[self.kept].std(ddof=1) + 1e-8)

    def log_policy(self, weight: Doubles, bias: Doubles) -> Doubles:
        logits = np.where(np.asarray(self.batch.masks), self.batch.obs @ weight.T + bias, -1e9)[self.kept]
        found: Doubles = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        return found - logits.max(-1, keepdims=True)

    def ratio(self, logp: Doubles) -> Doubles:
        taken = np.take_along_axis(logp, self.batch.actions[self.kept][:, None], -1)[:, 0]
        found: Doubles = np.exp(taken - self.batch.logp[self.kept])
        return found

    def surrogate(self, ratio: Doubles, advantage: Doubles) -> Doubles:
        clip = self.config.clip
        found: Doubles = np.minimum(ratio * advantage, ratio.clip(1 - clip, 1 + clip) * advantage)
        return found

    def slope(self, advantage: Doubles) -> Doubles:
        """∂(L_proxy − c_e H)/∂logits, [N, 3]."""
        logp = self.log_policy(self.weight, self.bias)
        p, ratio = np.exp(logp), self.ratio(logp)
        pulls = np.where(self.surrogate(ratio, advantage) == ratio * advantage, ratio * advantage, 0.0)
        chosen = np.eye(3)[self.batch.actions[self.kept]]
        entropy = -(p * logp).sum(-1, keepdims=True)
        found: Doubles = (self.config.entropy * p * (logp + entropy) - pulls[:, None] * (chosen - p)) / len(p)
        return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_gradient_of_the_reward_is_the_slope_of_the_task_s_objective_through_the_policy_s_step(seed: int) -> None:
    learner, batch = in_double(), some_batch(seed)
    advantage = np.random.default_rng(seed + 100).normal(size=(T, E, 2))
    loss = learner.extrinsic_loss(0, batch, learner.intrinsic(0, batch), torch.from_numpy(advantage))
    assert loss is not None
    parameters = list(learner.reward_networks[0].parameters())
    found = torch.autograd.grad(loss, parameters)
    reference, eta = Reference(learner, batch, advantage), [x.detach().numpy().copy() for x in parameters]
    assert loss.item() == pytest.approx(reference.loss(eta), rel=1e-9)
    largest = max(float(x.abs().max()) for x in found)
    for array, slopes in zip(eta, found, strict=True):
        for index in np.ndindex(array.shape):
            ends = []
            for step in (1e-5, -1e-5):
                array[index] += step
                ends.append(reference.loss(eta))
                array[index] -= step
            assert slopes[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5 * largest)


def test_the_policy_stays_where_it_is_while_its_step_is_looked_at() -> None:
    learner, batch = in_double(), some_batch(1)
    before = [x.detach().clone() for x in learner.networks[0].parameters()]
    loss = learner.extrinsic_loss(0, batch, learner.intrinsic(0, batch), torch.ones(T, E, 2, dtype=torch.float64))
    assert loss is not None
    assert all(torch.equal(x, y) for x, y in zip(before, learner.networks[0].parameters(), strict=True))


def test_nobody_who_has_left_and_no_lost_step_counts() -> None:
    """Whatever they did and were paid there, gradient and proxy rewards are the same."""
    learner, batch = in_double(), some_batch(1)
    other = replace(batch, actions=batch.actions.copy())
    other.actions[2, 2] = (other.actions[2, 2] + 1) % 3  # lost
    other.actions[3:, 3, 1] = 0  # left
    advantage = torch.from_numpy(np.random.default_rng(0).normal(size=(T, E, 2)))
    slopes = []
    for given in (batch, other):
        loss = learner.extrinsic_loss(0, given, learner.intrinsic(0, given), advantage)
        assert loss is not None
        slopes.append(torch.autograd.grad(loss, list(learner.reward_networks[0].parameters())))
    assert all(torch.equal(x, y) for x, y in zip(*slopes, strict=True))
    assert not learner.intrinsic(0, batch)[3:, 3, 1].any()


def test_where_nobody_acts_nothing_is_learned_of_rewards() -> None:
    learner, batch = in_double(), some_batch(1)
    batch = replace(batch, alive=np.zeros((T, E, 2), np.bool_))
    assert learner.extrinsic_loss(0, batch, learner.intrinsic(0, batch), torch.zeros(T, E, 2)) is None


def test_without_weight_it_is_mappo_bit_for_bit() -> None:
    mappo = trained(small_config(algorithm="mappo"), 4).learner.state_dict()
    for weight, same in ((0.0, True), (0.5, False)):
        liir = trained(small_config(algorithm="liir", liir={"intrinsic_weight": weight}), 4).learner.state_dict()
        assert all(np.array_equal(value, liir[name]) for name, value in mappo.items()) == same


@pytest.mark.parametrize("actions", ["choices", "numbers"])
def test_an_intrinsic_reward_is_bounded_and_almost_zero_at_first(actions: str) -> None:
    box = GroupSpec(name="b", agents=("a",), obs_size=3, n_actions=0, action_bounds=((-1.0, 1.0), (-2.0, 2.0)))
    reward = IntrinsicReward(PAIR if actions == "choices" else box, (8,), torch.Generator().manual_seed(1))
    obs = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    taken = torch.arange(50) % 3 if actions == "choices" else torch.linspace(-1, 1, 100).view(50, 2)
    assert float(reward(obs, taken).detach().abs().max()) < 0.1
    for parameter in reward.parameters():
        parameter.data.mul_(1e4)
    assert float(reward(obs, taken).detach().abs().max()) == pytest.approx(BOUND, rel=1e-3)
    if actions == "numbers":  # what a task clips is the same action
        assert torch.equal(reward(obs, 1.0 + taken.abs()), reward(obs, torch.ones_like(taken)))


# ------------------------------------------------------------ what it learns

LEVERS = TaskSpec(
    name="levers", description="", groups=(GroupSpec(name="g", agents=("a", "b"), obs_size=1, n_actions=2),)
)


def pulled(learner: LIIR, paid: Doubles, noise: Doubles) -> Batch:
    """One-step episodes: the team is paid `paid[a]` for a's choice, whatever b does, and `noise` [T, E]."""
    obs = np.ones((*noise.shape, 2, 1), np.float32)
    (actions,), (logp,) = learner.act([obs])
    reward = (paid[actions[..., 0]] + noise).astype(np.float32)
    return one_step_batch(learner, obs, actions, logp, np.repeat(reward[..., None], 2, -1))


def rewards_of_choices(learner: LIIR) -> Doubles:
    """[agent, choice]."""
    one, both = torch.ones(2, 1), torch.arange(2)
    return np.stack([x(one, both).detach().numpy() for x in learner.reward_networks]).astype(np.float64)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_choice_that_serves_the_team_is_rewarded_and_the_other_is_punished(sign: float) -> None:
    """Only a's second lever pays, and chance hides it: without chance, normalised advantages tell all there is to tell,
    and no reward can add to them. The policy hardly moves, so that all is asked of the reward. With the pay turned
    round its signs are, too, and b, whose levers do nothing, is told far less."""
    config = LIIRConfig(
        share_parameters=False, lr=1e-6, intrinsic_lr=1e-2, entropy=0.0, intrinsic_hidden=(), epochs=1, minibatches=1
    )
    learner, rng = LIIR(config, LEVERS, 1), np.random.default_rng(0)
    for _ in range(100):
        learner.update([pulled(learner, np.array([0.0, sign]), rng.normal(size=(32, 16)))])
    (useless, useful), (first, second) = sign * rewards_of_choices(learner)
    assert useful > 0.1 and useless < -0.1
    assert abs(first - second) < (useful - useless) / 3


@pytest.mark.parametrize(("weight", "learned"), [(1.0, True), (0.0, False)])
def test_the_policy_follows_the_intrinsic_reward_by_its_weight(weight: float, learned: bool) -> None:
    """The task pays nothing; the reward network, which does not learn here, likes the second lever."""
    config = LIIRConfig(
        lr=3e-3, intrinsic_lr=1e-30, entropy=0.0, intrinsic_hidden=(), intrinsic_weight=weight, hidden=(8,)
    )
    learner = LIIR(config, LEVERS, 1)
    learner.reward_networks[0].network.linears[0].weight.data.copy_(torch.tensor([[0.0, -1.0, 1.0]]))
    for _ in range(40):
        batch = pulled(learner, np.zeros(2), np.zeros((16, 16)))
        learner.update([batch])
    assert (float(batch.actions.mean()) > 0.9) == learned


def test_a_potential_that_left_changes_no_slope_of_the_reward() -> None:
    """Both critics have absorbed Φ: with it as their offset, and without the shaping, advantages are as they were."""
    learner, batch = in_double(), some_batch(2)
    batch.terminated[:] = 0
    rng, gamma = np.random.default_rng(4), learner.config.gamma
    phi, last_phi = rng.normal(size=(2, T, E, 2))
    last_phi[:-1] = np.where(batch.done[:-1, :, None] > 0, last_phi[:-1], phi[1:])
    shaped: Any = replace(batch, rewards=batch.rewards + gamma * last_phi - phi)
    offset: Any = replace(batch, offset=phi, last_offset=last_phi)
    critic = learner.critics[0]
    critic.network.double()
    found = []
    for given in (shaped, offset, batch):
        advantage, _ = learner.extrinsic_advantages(0, given)
        loss = learner.extrinsic_loss(0, given, learner.intrinsic(0, given), advantage)
        assert loss is not None
        found.append(torch.autograd.grad(loss, list(learner.reward_networks[0].parameters()))[0])
    assert torch.allclose(found[0], found[1], rtol=1e-9)
    assert not torch.allclose(found[0], found[2], rtol=1e-2)


def test_the_state_holds_the_reward_both_critics_and_the_second_stream() -> None:
    learner = trained(small_config(algorithm="liir", liir={"value_norm": True}), 2).learner
    state = learner.state_dict()
    parts = ("critic.layers.0.weight", "intrinsic.network.layers.0.weight", "intrinsic.adam.square")
    parts += ("extrinsic.layers.0.weight", "extrinsic.adam.mean", "extrinsic.value_norm")
    assert state.keys() >= {"meta_generator", *(f"0.{name}" for name in parts)}
    other = trained(small_config(2, algorithm="liir", liir={"value_norm": True}), 1).learner
    other.load_state_dict(state)
    assert all(np.array_equal(value, other.state_dict()[name]) for name, value in state.items())


# ------------------------------------------------------------ the critic of the extrinsic return


def draw(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value_norm", [False, True])
def test_it_learns_a_linear_return_and_its_twin_without_a_learning_rate_does_not(value_norm: bool) -> None:
    """Values are in the targets' own units, whether or not they are normalised."""
    inputs = torch.randn(256, 2, generator=draw())
    targets = 5 + inputs @ torch.tensor([2.0, -1.0])

    def error(lr: float) -> float:
        critic = ExtrinsicCritic(2, IPPOConfig(lr=lr, hidden=(16,), value_norm=value_norm), draw(), torch.device("cpu"))
        for _ in range(40):
            critic.fit(inputs, targets, draw())
        return float((critic.values(inputs) - targets).abs().mean())

    assert error(1e-2) < 0.2
    assert error(1e-30) > 1.0


def test_fewer_samples_than_minibatches_are_learned_from_one_by_one() -> None:
    critic = ExtrinsicCritic(2, IPPOConfig(minibatches=4, epochs=1), draw(), torch.device("cpu"))
    assert np.isfinite(critic.fit(torch.ones(3, 2), torch.ones(3), draw()))
    assert critic.optimiser.steps == 3


def test_a_restored_critic_goes_on_bit_for_bit() -> None:
    config, inputs, targets = IPPOConfig(value_norm=True), torch.randn(32, 2, generator=draw()), torch.arange(32.0)
    one, other = (ExtrinsicCritic(2, config, draw(seed), torch.device("cpu")) for seed in (1, 2))
    one.fit(inputs, targets, draw())
    other.load_state_dict("c.", one.state_dict("c."))
    assert one.fit(inputs, targets, draw(3)) == other.fit(inputs, targets, draw(3))
    assert torch.equal(one.values(inputs), other.values(inputs))
