"""How much each term of the signal should weigh, learnt while it is in force, by the sparse return alone.

    θ′(f) = θ − α ∇_θ L(θ; r + Σ_k f_k F_k),   f ← f − η ∇_f L_ex(θ′(f)),   0 ≤ f_k ≤ 2

BARFI (Gupta et al., "Behavior Alignment via Reward Function Optimization", NeurIPS 2023) with its inner optimisation
unrolled for one step in place of its implicit gradient, which is what LIIR does; see `bilevel`. L_ex is the policy's
loss by advantages of the sparse reward, from a critic of its own. Gradients are divided by their running size (Adam),
so that η is the most that a factor moves in an update, about. An update without a sparse reward that varies says
nothing, and moves none.

The factors begin at 1. They act beside what the signal says, which stays as it was proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..experience.rollout import Rollout
from ..signals.shaping import Shaping
from ..task import Arrays, FloatArray, splitmix64
from .bilevel import ExtrinsicCritic, extrinsic_loss_after_step
from .returns import gae

if TYPE_CHECKING:
    from .ppo import PPO, Batch

MOST = 2.0  # of a factor
BETAS = (0.9, 0.99)  # of Adam
TINY = 1e-12  # gradients have α as a factor


class Blend:
    """The factors of terms, and what they are learnt with.

    Attributes:
        factors: key of a term, see `CompiledSignal.term_keys` → [factor, Adam's mean, Adam's square, steps], float64.
        critics: of the sparse return, one a network.
    """

    def __init__(self, ppo: PPO, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(_unrelated_seed(seed))
        self.factors: dict[str, NDArray[np.float64]] = {}
        self.critics = [
            ExtrinsicCritic(ppo.critic_size(members.spec), ppo.config, self.generator, ppo.device, members.name)
            for members in ppo.network_groups
        ]

    def factors_of(self, keys: Sequence[str]) -> list[float]:
        """Return the factors of these terms, 1 of new ones; what has left the signal is forgotten."""
        self.factors = {key: self.factors.get(key, np.array([1.0, 0, 0, 0])) for key in keys}
        return [float(x[0]) for x in self.factors.values()]

    def learn(self, ppo: PPO, rollout: Rollout, shaping: Shaping, batches: Sequence[Batch]) -> None:
        """Take a step of the factors, and those of the critics.

        Args:
            ppo: the learner, before it learns from the rollout.
            rollout: what was played.
            shaping: as the signal says it, without factors.
            batches: [g], with them.
        """
        scale = np.float32(ppo.reward_scale.value)
        sparse = rollout.reward[..., None] * scale
        factors = torch.tensor([x[0] for x in self.factors.values()], requires_grad=True)
        gradient = torch.zeros(len(factors), dtype=torch.float64)
        for n, members in enumerate(ppo.network_groups):
            batch, critic = batches[members.group], self.critics[n]
            rewards = np.broadcast_to(sparse, batch.rewards.shape).astype(np.float32)
            extrinsic = replace(batch, rewards=rewards, offset=None, last_offset=None, step_rewards=None)
            inputs = ppo.tensor(batch.critic_obs[:, :, members.agents])
            at_cuts = critic.values(ppo.tensor(batch.cuts.critic_obs[:, members.agents]))
            advantage, target = ppo.advantages_by(critic.values(inputs), at_cuts, n, extrinsic)
            if self.factors and rollout.reward.std() > 0:
                added = [ppo.tensor(term[members.group][:, :, members.agents] * scale) for term in shaping.per_term]
                loss = _loss_after_step(ppo, n, batch, advantage, factors, added)
                if loss is not None:
                    gradient += torch.autograd.grad(loss, factors)[0].double().cpu()
            finished = batch.finished_samples(members.n_agents).to(ppo.device)
            if len(finished) >= 2:
                critic.fit(inputs.flatten(0, 2)[finished], target.flatten()[finished], self.generator)
        if rollout.reward.std() > 0:
            for state, slope in zip(self.factors.values(), gradient.tolist(), strict=True):
                _adam_step(state, slope, ppo.config.blend_lr)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        """Draw minibatches of the critics from another stream from now on."""
        self.generator.manual_seed(_unrelated_seed(seed))

    def state_dict(self) -> Arrays:
        """Return factors, critics and random stream as numpy arrays, copied."""
        state: Arrays = {f"blend.{name}": x.copy() for name, x in self.factors.items()}
        state["blend_generator"] = self.generator.get_state().numpy().copy()
        for n, critic in enumerate(self.critics):
            state |= critic.state_dict(f"{n}.extrinsic.")
        return state

    def load_state_dict(self, state: Arrays) -> None:
        """Go on from `state`; of a learner that had no blend everything begins anew."""
        if "blend_generator" not in state:
            return
        self.factors = {
            name.removeprefix("blend."): np.array(x, np.float64)
            for name, x in state.items()
            if name.startswith("blend.")
        }
        self.generator.set_state(torch.from_numpy(np.asarray(state["blend_generator"]).copy()))
        for n, critic in enumerate(self.critics):
            critic.load_state_dict(f"{n}.extrinsic.", state)


def weighted(shaping: Shaping, factors: Sequence[float]) -> Shaping:
    """Return the shaping with its terms times these factors."""
    per_term = [[np.float32(factor) * x for x in term] for factor, term in zip(factors, shaping.per_term, strict=True)]
    total: list[FloatArray] = [x.copy() for x in shaping.total]
    for g, x in enumerate(total):
        for new, old in zip(per_term, shaping.per_term, strict=True):
            x += new[g] - old[g]
    return Shaping(total, per_term)


def _loss_after_step(
    ppo: PPO, n: int, batch: Batch, extrinsic: Tensor, factors: Tensor, added: Sequence[Tensor]
) -> Tensor | None:
    """Return L_ex(θ′) of network n, differentiable in the factors; None where nobody acts.

    Advantages are linear in rewards, and the critic does not depend on the factors: a term adds f_k Σ_j (γλ)^j F_k.
    """
    config, zero = ppo.config, torch.zeros_like(extrinsic)
    done = ppo.tensor(batch.done)[..., None].expand(zero.shape)
    proxy = ppo.with_step_rewards(n, batch, ppo.advantages(n, batch)[0])
    for factor, paid in zip(factors, added, strict=True):
        proxy = proxy + (factor - factor.detach()) * gae(paid, zero, zero, zero, done, config.gamma, config.gae_lambda)
    return extrinsic_loss_after_step(ppo, n, batch, proxy, extrinsic)


def _adam_step(state: NDArray[np.float64], slope: float, lr: float) -> None:
    """Move the factor in `state` [factor, mean, square, steps] against its slope, within 0..2; in place."""
    state[3] += 1
    state[1] += (1 - BETAS[0]) * (slope - state[1])
    state[2] += (1 - BETAS[1]) * (slope**2 - state[2])
    mean, square = state[1] / (1 - BETAS[0] ** state[3]), state[2] / (1 - BETAS[1] ** state[3])
    state[0] = np.clip(state[0] - lr * mean / (np.sqrt(square) + TINY), 0.0, MOST)


def _unrelated_seed(seed: int) -> int:
    """Return a seed that has nothing to do with this one."""
    return splitmix64(seed ^ 0xB1E4D) >> 1
