"""Tanh networks and the gradient of PPO's loss, written out by hand for one CPU thread.

It gives what `CategoricalActorCritic` and `autograd_gradient` give, up to rounding, in half the time: no graph is
built, nothing is allocated, tanh is a rational function, and the head is one pass over the minibatch. Autograd is its
oracle in the tests, and what every other network and device uses.

    L = L_policy + c_v · L_value − c_e · H

    ∂L/∂z_u = −[ratio A unclipped] · ρ A · (1[u = a] − p_u) / N + c_e · p_u (log p_u + H) / N     z: logits, p: softmax
    ∂L/∂v   = c_v · clip(v − target, −10, 10) / N                                                    Huber, threshold 10
    ∂L/∂W_l = δ_lᵀ h_{l−1},  ∂L/∂b_l = Σ δ_l,  δ_{l−1} = (δ_l W_l) ∘ (1 − h²_{l−1})                backpropagation
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from .losses import HUBER, Minibatch, PPOLosses
from .networks.actor_critic import CategoricalActorCritic
from .networks.mlp import MLP
from .networks.sampling import FORBIDDEN_LOGIT

Float = NDArray[np.float32]
MAX_SIZES = 16  # numbers of rows that buffers are held for
FAST = {"contract", "arcp", "nsz"}  # fused multiply-add, and what cannot change NaN or infinity


class FusedActorCritic:
    """An actor-critic's outputs, and ∂L/∂θ of a minibatch, written into the parameters' gradients.

    Buffers are reused from call to call, and every call overwrites what the last one returned; one object serves one
    network.
    """

    def __init__(self, network: CategoricalActorCritic, clip: float, value_coef: float) -> None:
        assert isinstance(network.actor, MLP)
        assert isinstance(network.critic, MLP)
        self.actor, self.critic = FusedMLP(network.actor), FusedMLP(network.critic)
        self.clip, self.value_coef = clip, value_coef

    @torch.no_grad()
    def logits(self, obs: Tensor) -> Tensor:
        """[..., O] → [..., U]."""
        return torch.from_numpy(self.actor.forward(obs.flatten(0, -2).numpy())).view(*obs.shape[:-1], -1)

    @torch.no_grad()
    def values(self, critic_obs: Tensor) -> Tensor:
        """[..., S] → [...]."""
        return torch.from_numpy(self.critic.forward(critic_obs.flatten(0, -2).numpy())).view(critic_obs.shape[:-1])

    @torch.no_grad()
    def gradient(self, batch: Minibatch, entropy_coef: float) -> PPOLosses:
        """Overwrite the gradients of all parameters by ∂L/∂θ of the minibatch, and return its losses."""
        # forward: outputs stand in the buffers of the last layers
        logits, values = self.actor.forward(batch.obs.numpy()), self.critic.forward(batch.critic_obs.numpy())
        if batch.forbidden is not None:
            np.copyto(logits, FORBIDDEN_LOGIT, where=batch.forbidden.numpy())
        # an agent that has left pulls on no policy: its advantage counts as zero, and means are over the others
        n_acting, advantage = len(values), batch.advantage
        if batch.acting is not None:
            n_acting, advantage = max(int(batch.acting.sum()), 1), advantage * batch.acting
        # the head writes ∂L/∂outputs over the outputs, and backward goes on from there
        losses = ppo_head(
            logits,
            values,
            n_acting,
            batch.actions.numpy(),
            batch.logp_old.numpy(),
            advantage.numpy(),
            batch.target.numpy(),
            self.clip,
            self.value_coef,
            entropy_coef,
            HUBER,
        )
        self.actor.backward()
        self.critic.backward()
        return PPOLosses(*losses)


class FusedMLP:
    """Forward and backward through tanh layers, on buffers that are reused for the next input of as many rows.

    After `forward` the outputs may be overwritten by ∂L/∂outputs; `backward` goes on from there. The products are
    numpy's: its OpenBLAS is faster at these narrow matrices than torch's MKL, by a little or by half.
    """

    def __init__(self, network: MLP) -> None:
        self.layers = [_Layer(linear) for linear in network.linears]
        self.buffers: dict[int, list[_Buffer]] = {}  # by number of rows: acting, whole rollouts, minibatches

    def forward(self, x: Float) -> Float:
        """[N, inputs] → [N, outputs]."""
        rows = len(x)
        if rows not in self.buffers:
            # the number of ends varies from rollout to rollout, so the oldest size goes
            if len(self.buffers) == MAX_SIZES:
                self.buffers.pop(next(iter(self.buffers)))
            self.buffers[rows] = [_Buffer(rows, len(layer.bias)) for layer in self.layers]
        self.inputs, self.used = [x], self.buffers[rows]
        # every layer writes into its own buffer; the last one has no tanh
        for layer, buffer in zip(self.layers, self.used, strict=True):
            np.matmul(self.inputs[-1], layer.weight.T, out=buffer.output)
            add_bias(buffer.output, layer.bias, buffer is not self.used[-1])
            self.inputs.append(buffer.output)
        return self.inputs.pop()

    def backward(self) -> None:
        """Overwrite the parameters' gradients, by ∂L/∂outputs that stands in the outputs."""
        delta = self.used[-1].output
        for i in reversed(range(len(self.layers))):
            layer, h = self.layers[i], self.inputs[i]
            # ∂L/∂W = δᵀ h and ∂L/∂b = Σ δ
            weight_grad, bias_grad = layer.gradients()
            np.matmul(delta.T, h, out=weight_grad)
            column_sums(delta, bias_grad)
            # δ of the layer below
            if i:
                below = self.used[i - 1].delta
                # of one column numpy makes a slow outer product
                (np.matmul if delta.shape[1] > 1 else np.multiply)(delta, layer.weight, out=below)
                through_tanh(below, h)
                delta = below


class _Layer:
    """The memory of a linear layer's parameters, and of their gradients, as numpy arrays."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.weight, self.bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()

    def gradients(self) -> tuple[Float, Float]:
        """Return the gradients of weight and bias; both must have one."""
        weight, bias = self.linear.weight.grad, self.linear.bias.grad
        assert weight is not None
        assert bias is not None
        return weight.numpy(), bias.numpy()


class _Buffer:
    """One layer's output and ∂L/∂output, [rows, width] each."""

    def __init__(self, rows: int, width: int) -> None:
        self.output, self.delta = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)


# ---------------------------------------------------------------- compiled passes over arrays, in place


# error_model: else a division may raise, and the loop is not vectorised
@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", inline="always")
def rational_tanh(x: np.float32) -> np.float32:
    """Return tanh(x), within 3e-7, by the rational function of Eigen's `ptanh`."""
    # beyond ±7.9 it is ±1 in single precision; between, an odd polynomial over an even one
    v = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    s = v * v
    p = np.float32(-2.76076847742355e-16)
    p = p * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return v * p / q


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def add_bias(x: Float, bias: Float, tanh: bool) -> None:
    """Add bias [n] to x [N, n], and take the tanh of the sum where `tanh` is true."""
    for row in range(x.shape[0]):
        if tanh:
            for j in range(x.shape[1]):
                x[row, j] = rational_tanh(x[row, j] + bias[j])
        else:
            for j in range(x.shape[1]):
                x[row, j] += bias[j]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def column_sums(x: Float, out: Float) -> None:
    """Sum x [N, n] into out [n]; numpy's own sum takes four times as long for few columns."""
    out[:] = 0
    for row in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += x[row, j]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def through_tanh(delta: Float, h: Float) -> None:
    """Turn ∂L/∂h, [N, n], into ∂L/∂x where h = tanh(x)."""
    for row in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[row, j] *= np.float32(1.0) - h[row, j] * h[row, j]


@njit(nogil=True, cache=True, error_model="numpy")
def ppo_head(
    logits: Float,
    values: Float,
    n_acting: int,
    actions: NDArray[np.int64],
    logp_old: Float,
    advantage: Float,
    target: Float,
    clip: float,
    value_coef: float,
    entropy_coef: float,
    huber: float,
) -> tuple[float, float, float]:
    """Compute PPO's losses and their gradient with respect to the networks' outputs.

    Args:
        logits: [N, U], overwritten by ∂L/∂logits.
        values: [N, 1], overwritten by ∂L/∂values.
        n_acting: rows that means of policy and entropy are over. For an agent that has left, one action is allowed, so
            that its row adds nothing where its advantage is 0.
        actions: [N].
        logp_old: [N] log-probabilities of the actions when they were taken.
        advantage: [N].
        target: [N] of the values.
        clip: ε of the clipped surrogate.
        value_coef: c_v.
        entropy_coef: c_e.
        huber: the error from which on the value loss is linear.

    Returns:
        The losses of policy and value, and the entropy in nats.
    """
    rows, n_actions = logits.shape
    policy, value, entropy = 0.0, 0.0, 0.0
    low, high = np.float32(1 - clip), np.float32(1 + clip)
    p = np.empty(n_actions, np.float32)
    for i in range(rows):
        row = logits[i]
        # softmax: p, and log p in the place of the logits
        top = row.max()
        total = np.float32(0.0)
        for u in range(n_actions):
            p[u] = np.exp(row[u] - top)
            total += p[u]
        log_total = np.log(total) + top
        h = 0.0
        for u in range(n_actions):
            p[u] /= total
            row[u] -= log_total
            h -= float(p[u] * row[u])
        # the clipped surrogate
        ratio = np.exp(row[actions[i]] - logp_old[i])
        unclipped = ratio * advantage[i]  # in single precision like `clipped`: equal where nothing is clipped
        clipped = min(max(ratio, low), high) * advantage[i]
        slope = unclipped if unclipped <= clipped else 0.0
        policy -= min(unclipped, clipped)
        entropy += h
        for u in range(n_actions):
            is_chosen = 1.0 if u == actions[i] else 0.0
            row[u] = (entropy_coef * p[u] * (row[u] + h) - slope * (is_chosen - p[u])) / n_acting
        # Huber's loss of the value
        error = values[i, 0] - target[i]
        bounded = min(max(error, -huber), huber)
        value += bounded * (error - 0.5 * bounded)
        values[i, 0] = value_coef * bounded / rows
    return policy / n_acting, value / rows, entropy / n_acting
