"""Minibatches of PPO, and the gradient of its loss by autograd."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .config import IPPOConfig
from .losses import Minibatch, PPOLosses, ppo_policy_loss, value_loss
from .networks.actor_critic import ActorCritic


def split_into_minibatches(samples: Minibatch, order: Tensor, number: int) -> Iterator[Minibatch]:
    """Cut all samples in this order into `number` minibatches; they are copied once, and the minibatches are views."""
    present = {name: x for name, x in samples._asdict().items() if x is not None}
    pieces = {
        name: x.index_select(0, order).tensor_split(number) for name, x in present.items() if name != "critic_obs"
    }
    # an independent critic sees what its actor sees: one copy serves both
    same = samples.critic_obs is samples.obs
    pieces["critic_obs"] = pieces["obs"] if same else samples.critic_obs.index_select(0, order).tensor_split(number)
    for i in range(number):
        yield Minibatch(**{name: x[i] for name, x in pieces.items()})


def autograd_gradient(
    network: ActorCritic, outputs: Tensor, values: Tensor, batch: Minibatch, config: IPPOConfig, entropy_coef: float
) -> PPOLosses:
    """Add ∂L/∂θ of one minibatch to the gradients, and return its losses.

    Args:
        network: has the parameters θ.
        outputs: of its actor, [N, U] or [N, k].
        values: of its critic, [N].
        batch: the N samples.
        config: has clip and c_v.
        entropy_coef: c_e.
    """
    policy, entropy = policy_loss_and_entropy(network, outputs, batch, config.clip)
    value = value_loss(values, batch.target)
    loss = policy + config.value_coef * value - entropy_coef * entropy
    loss.backward()  # type: ignore[no-untyped-call]
    return PPOLosses(policy.item(), value.item(), entropy.item())


def policy_loss_and_entropy(
    network: ActorCritic, outputs: Tensor, batch: Minibatch, clip: float
) -> tuple[Tensor, Tensor]:
    """Return the means over those who act, scalars; zero where nobody does.

    `outputs` are the actor's, [N, U] or [N, k].
    """
    acting = slice(None) if batch.acting is None else batch.acting
    actions, forbidden = batch.actions[acting], batch.forbidden
    if not len(actions):
        return outputs.sum() * 0, outputs.sum() * 0
    forbidden = None if forbidden is None else forbidden[acting]
    logp, entropy = network.log_prob_and_entropy(outputs[acting], actions, forbidden)
    return ppo_policy_loss(logp, batch.logp_old[acting], batch.advantage[acting], clip), entropy
