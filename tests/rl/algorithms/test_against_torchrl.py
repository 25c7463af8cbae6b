"""GAE, PPO's loss and QMIX's mixing against the independent implementations of torchrl."""

from __future__ import annotations

import warnings

import pytest
import torch
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.algorithms.fused_mlp import FusedActorCritic
from cosignal.rl.algorithms.losses import Minibatch
from cosignal.rl.algorithms.qmix import MonotonicMixer
from cosignal.rl.algorithms.returns import gae
from small_networks import categorical, gradient
from torch.distributions import Categorical

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.modules import ProbabilisticActor, QMixer
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value.functional import generalized_advantage_estimate


def test_generalised_advantages() -> None:
    draw = torch.Generator().manual_seed(1)
    steps, envs = 12, 40
    rewards, values, next_values = (torch.randn(steps, envs, generator=draw) for _ in range(3))
    terminated = (torch.rand(steps, envs, generator=draw) < 0.1).float()
    done = torch.maximum(terminated, (torch.rand(steps, envs, generator=draw) < 0.15).float())
    ours = gae(rewards, values, next_values, terminated, done, 0.97, 0.9)
    flags = (done[..., None].bool(), terminated[..., None].bool())
    theirs, _ = generalized_advantage_estimate(
        0.97, 0.9, values[..., None], next_values[..., None], rewards[..., None], *flags, time_dim=0
    )
    assert torch.allclose(ours, theirs.squeeze(-1), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_loss_and_gradient_of_ppo() -> None:
    """The policy's part: torchrl's critic has another loss. Old log-probabilities are far enough away to be clipped."""
    draw = torch.Generator().manual_seed(2)
    network = categorical(6, 6, 5, (16, 16), draw)
    obs, actions = torch.randn(64, 6, generator=draw), torch.randint(0, 5, (64,), generator=draw)
    advantage = torch.randn(64, generator=draw)
    now = torch.log_softmax(network.actor(obs), -1).gather(-1, actions[:, None]).squeeze(-1).detach()
    logp_old = now + 0.5 * torch.randn(64, generator=draw)

    module = TensorDictModule(network.actor, in_keys=["observation"], out_keys=["logits"])
    actor = ProbabilisticActor(
        module, in_keys=["logits"], distribution_class=Categorical, return_log_prob=True, cache_dist=False
    )
    loss = ClipPPOLoss(actor, None, clip_epsilon=0.2, entropy_bonus=True, entropy_coeff=0.03, critic_coeff=None)
    given = {"observation": obs, "action": actions, "action_log_prob": logp_old, "advantage": advantage[:, None]}
    theirs = loss(TensorDict(given, [64]))
    (theirs["loss_objective"] + theirs["loss_entropy"]).backward()
    gradients = [parameter.grad.clone() for parameter in loss.actor_network_params.parameters()]
    assert any(bool(gradient.any()) for gradient in gradients)

    config, batch = IPPOConfig(clip=0.2), Minibatch(obs, obs, actions, logp_old, advantage, torch.zeros(64))
    flat = FlatAdam(network, 1e-3, 10.0)
    for by in (lambda: gradient(network, batch, config, 0.03),
               lambda: FusedActorCritic(network, 0.2, config.value_coef).gradient(batch, 0.03)):  # fmt: skip
        flat.zero_grad()
        policy, _, entropy = by()
        assert policy == pytest.approx(theirs["loss_objective"].item(), abs=1e-5)
        assert -0.03 * entropy == pytest.approx(theirs["loss_entropy"].item(), abs=1e-6)
        ours = sorted((p.grad.clone() for p in network.actor.parameters()), key=lambda g: (tuple(g.shape), g.sum()))
        wanted = sorted(gradients, key=lambda g: (tuple(g.shape), g.sum()))
        assert len(ours) == len(wanted)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, wanted, strict=True))


def test_mixing_of_qmix() -> None:
    """Theirs makes its weights with one layer, ours with two: relu(s) − relu(−s) = s makes ours theirs."""
    agents, size, embed = 3, 4, 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs, ours = QMixer((size,), embed, agents, "cpu"), MonotonicMixer(agents, size, embed, 2 * size)
        q, state = torch.randn(50, agents), torch.randn(50, size)
    both = torch.cat([torch.eye(size), -torch.eye(size)])
    with torch.no_grad():
        ours.first.weight.copy_(torch.cat([both, both, theirs.V[0].weight, theirs.hyper_b_1.weight]))
        ours.first.bias.copy_(torch.cat([torch.zeros(4 * size), theirs.V[0].bias, theirs.hyper_b_1.bias]))
        for mine, other in ((ours.hyper_w1, theirs.hyper_w_1), (ours.hyper_w2, theirs.hyper_w_final)):
            mine.weight.copy_(torch.cat([other.weight, -other.weight], dim=1))
            mine.bias.copy_(other.bias)
        ours.value.load_state_dict(theirs.V[2].state_dict())
        assert torch.allclose(ours(q, state), theirs.mix(q[..., None], state).squeeze(-1), atol=1e-5)
