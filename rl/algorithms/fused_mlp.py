"""Tanh networks and the gradient of PPO's loss, written out by hand for one CPU thread; compiled in `fused_kernel`.

It gives what `CategoricalActorCritic` and `autograd_gradient` give, up to rounding: no graph is built, nothing is
allocated, tanh is a rational function, and a tile of samples goes through forward, loss and backward while it is in the
cache. Autograd is its oracle in the tests, and what every other network and device uses.

    L = L_policy + c_v · L_value − c_e · H

    ∂L/∂z_u = −[ratio A unclipped] · ρ A · (1[u = a] − p_u) / N + c_e · p_u (log p_u + H) / N     z: logits, p: softmax
    ∂L/∂v   = c_v · clip(v − target, −10, 10) / N                                                    Huber, threshold 10
    ∂L/∂W_l = δ_lᵀ h_{l−1},  ∂L/∂b_l = Σ δ_l,  δ_{l−1} = (δ_l W_l) ∘ (1 − h²_{l−1})                backpropagation
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .flat_adam import flat_gradient, flat_parameters
from .fused_kernel import Float, Int, Loss, Network, Samples, forward, network_memory, ppo_gradient
from .losses import HUBER, Minibatch, PPOLosses
from .networks.actor_critic import CategoricalActorCritic
from .networks.mlp import MLP
from .networks.sampling import FORBIDDEN_LOGIT


class FusedActorCritic:
    """An actor-critic's outputs, and ∂L/∂θ of a minibatch, written into the parameters' gradients.

    Its buffers are reused from call to call; one object serves one network.
    """

    def __init__(self, network: CategoricalActorCritic, clip: float, value_coef: float) -> None:
        assert isinstance(network.actor, MLP)
        assert isinstance(network.critic, MLP)
        self.network, self.parameters = network, flat_parameters(network).numpy()
        self.actor = FusedMLP(network.actor, self.parameters)
        self.critic = FusedMLP(network.critic, self.parameters, self.actor.end)
        self.loss = Loss(clip, value_coef, HUBER, FORBIDDEN_LOGIT)
        self._gradient: Float | None = None  # found at the first use: an optimiser has to make it

    @torch.no_grad()
    def values(self, critic_obs: Tensor) -> Tensor:
        """[..., S] → [...]."""
        return torch.from_numpy(self.critic.forward(critic_obs.flatten(0, -2).numpy())).view(critic_obs.shape[:-1])

    def gradient(self, batch: Minibatch, entropy_coef: float) -> PPOLosses:
        """Overwrite the gradients of all parameters by ∂L/∂θ of the minibatch, and return its losses."""
        return self.gradient_of(kernel_samples(batch), np.arange(len(batch.actions)), entropy_coef, normalise=False)

    def gradient_of(self, samples: Samples, chosen: Int, entropy_coef: float, normalise: bool) -> PPOLosses:
        """Do the same with the minibatch of the chosen samples, whose advantages are normalised where asked for."""
        if self._gradient is None:
            self._gradient = flat_gradient(self.network).numpy()
        losses = ppo_gradient(
            self.actor.memory, self.critic.memory, self.parameters, self._gradient, samples, chosen, self.loss,
            entropy_coef, normalise,
        )  # fmt: skip
        return PPOLosses(*losses)


class FusedMLP:
    """The outputs of a network.

    Attributes:
        memory: of the kernel.
        end: where the network's parameters end among the flat ones.
    """

    def __init__(self, network: MLP, parameters: Float | None = None, first: int = 0) -> None:
        """Serve a network whose parameters begin at `first` of `parameters`; without those it is on its own."""
        self.parameters = flat_parameters(network).numpy() if parameters is None else parameters
        sizes = [network.linears[0].in_features, *(linear.out_features for linear in network.linears)]
        self.memory: Network = network_memory(sizes, first)
        self.end = first + sum(p.numel() for p in network.parameters())
        self.n_out = sizes[-1]

    def forward(self, x: Float) -> Float:
        """[N, inputs] → [N, outputs]."""
        outputs = np.empty((len(x), self.n_out), np.float32)
        forward(self.memory, self.parameters, np.ascontiguousarray(x), outputs)
        return outputs


def kernel_samples(batch: Minibatch) -> Samples:
    """Return samples as arrays; what there is none of is empty."""
    forbidden = np.zeros((0, 0), np.bool_) if batch.forbidden is None else batch.forbidden.numpy()
    acting = np.zeros(0, np.bool_) if batch.acting is None else batch.acting.numpy()
    # contiguous, and once where actor and critic see the same
    obs = np.ascontiguousarray(batch.obs.numpy())
    return Samples(
        obs=obs,
        critic_obs=obs if batch.critic_obs is batch.obs else np.ascontiguousarray(batch.critic_obs.numpy()),
        actions=batch.actions.numpy(),
        logp_old=batch.logp_old.numpy(),
        advantage=batch.advantage.numpy(),
        target=batch.target.numpy(),
        forbidden=np.ascontiguousarray(forbidden),
        acting=acting,
    )
