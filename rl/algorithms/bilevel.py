"""What a change of the reward is worth to the task: the extrinsic objective after one step of the policy.

The outer of two levels of optimisation, by LIIR (Du et al. 2019, section 4) for rewards that a network gives, and by
`blend` for the weights of a signal's terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..task import Arrays
from .config import IPPOConfig
from .flat_adam import FlatAdam, load_trained_state, trained_state
from .gradient import policy_loss_and_entropy, split_into_minibatches
from .losses import Minibatch, value_loss
from .networks.actor_critic import ActorCritic
from .networks.mlp import MLP
from .returns import ValueNorm

if TYPE_CHECKING:
    from .ppo import PPO, Batch


def extrinsic_loss_after_step(ppo: PPO, n: int, batch: Batch, proxy: Tensor, extrinsic: Tensor) -> Tensor | None:
    """Return L_ex(θ′) of network n by all finished steps at once, see `loss_after_step`; None where nobody acts.

    Args:
        ppo: the learner.
        n: index of the network.
        batch: the rollout of its group.
        proxy: advantages [T, E, A] that the policy learns from, differentiable in what they were computed from.
        extrinsic: advantages [T, E, A] of the task's own reward.
    """
    finished = batch.finished_samples(ppo.network_groups[n].n_agents).to(ppo.device)
    if len(finished) < 2:
        return None

    def as_one_minibatch(x: Tensor) -> Minibatch:
        """Join all samples that count, with these advantages normalised as PPO does."""
        samples = ppo.arranged(n, batch, ppo.normalise_agents(batch, x), torch.zeros_like(x))
        flat = samples.each(lambda part: part.flatten(0, 2))
        return ppo.normalise_minibatch(next(split_into_minibatches(flat, finished, 1)))

    for_proxy, for_task = as_one_minibatch(proxy), as_one_minibatch(extrinsic)
    if for_task.acting is not None and not for_task.acting.any():
        return None
    config = ppo.config
    return loss_after_step(ppo.networks[n], for_proxy, for_task, config.clip, ppo.entropy_coef, config.lr)


def loss_after_step(
    network: ActorCritic, proxy: Minibatch, extrinsic: Minibatch, clip: float, entropy_coef: float, lr: float
) -> Tensor:
    """Return L_ex(θ′) with θ′ = θ − α ∇_θ (L_proxy(θ; η) − c_e H(θ)), a scalar; θ stays as it is.

    Both losses are PPO's clipped surrogate, on the same samples with different advantages. Differentiable in all that
    `proxy.advantage` was computed from. Somebody must act in the samples.

    Args:
        network: the policy, with parameters θ.
        proxy: the samples with proxy advantages.
        extrinsic: the same with extrinsic advantages.
        clip: ε of the clipped surrogate.
        entropy_coef: c_e.
        lr: α.
    """
    # the critic takes no part in the policy's step
    loss = _PolicyLoss(network, clip)
    weights = {name: w for name, w in loss.named_parameters() if not name.startswith("network.critic.")}
    policy, entropy = loss(proxy)
    slopes = torch.autograd.grad(policy - entropy_coef * entropy, list(weights.values()), create_graph=True)
    # θ′ on paper: the graph remembers how it came from the proxy advantages
    moved = {name: w - lr * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    after: Tensor = torch.func.functional_call(loss, moved, (extrinsic,))[0]
    return after


class _PolicyLoss(nn.Module):
    """PPO's policy loss as a module, so that torch can call it with other weights."""

    def __init__(self, network: ActorCritic, clip: float) -> None:
        super().__init__()
        self.network, self.clip = network, clip

    def forward(self, batch: Minibatch) -> tuple[Tensor, Tensor]:
        return policy_loss_and_entropy(self.network, self.network.actor(batch.obs), batch, self.clip)


# ---------------------------------------------------------------- the critic of the extrinsic return


class ExtrinsicCritic:
    """Critic inputs [..., S] → values [...]; learned, normalised and clipped as PPO's own critic."""

    def __init__(
        self,
        inputs: int,
        config: IPPOConfig,
        generator: torch.Generator,
        device: torch.device,
        name: str = "the agents",
    ) -> None:
        self.config = config
        self.network = MLP(inputs, config.hidden, 1, 1.0, generator).to(device)
        self.optimiser = FlatAdam(self.network, config.lr, config.max_grad_norm, name=f"the extrinsic critic of {name}")
        self.norm = ValueNorm() if config.value_norm else None

    @torch.no_grad()
    def values(self, inputs: Tensor) -> Tensor:
        values: Tensor = self.network(inputs).squeeze(-1)
        return values if self.norm is None else self.norm.denormalised(values)

    def fit(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        """Take `epochs` × `minibatches` gradient steps on inputs [N, S], targets [N], N at least 1; the mean loss."""
        if self.norm is not None:
            self.norm.add(targets)
            targets = self.norm.normalised(targets)
        n_minibatches, total = min(self.config.minibatches, len(targets)), 0.0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(targets), generator=generator).to(targets.device)
            for rows in order.tensor_split(n_minibatches):
                self.optimiser.zero_grad()
                loss = value_loss(self.network(inputs[rows]).squeeze(-1), targets[rows])
                (self.config.value_coef * loss).backward()  # type: ignore[no-untyped-call]
                self.optimiser.step()
                total += loss.item()
        self.optimiser.check_finite()
        return total / (self.config.epochs * n_minibatches)

    def state_dict(self, prefix: str) -> Arrays:
        state = trained_state(prefix, self.network, self.optimiser)
        return state if self.norm is None else state | {f"{prefix}value_norm": self.norm.state()}

    def load_state_dict(self, prefix: str, state: Arrays) -> None:
        load_trained_state(prefix, self.network, self.optimiser, state)
        if self.norm is not None:
            self.norm.load_state(state[f"{prefix}value_norm"])
