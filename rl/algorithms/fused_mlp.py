"""Tanh networks and the gradient of PPO's loss, written out by hand for one CPU thread.

It gives what `CategoricalActorCritic` and `autograd_gradient` give, up to rounding, in half the time: no graph is
built, nothing is allocated, tanh is a rational function, and the head is one pass over the minibatch. Autograd is its
oracle in the tests, and the path for every other network and device.

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

from .losses import HUBER, Minibatch
from .networks import BLOCKED, MLP, CategoricalActorCritic

Float = NDArray[np.float32]
MAX_SIZES = 16
FAST = {"contract", "arcp", "nsz"}  # fused multiply-add, and what cannot change NaN or infinity


class Kernel:
    """An actor-critic's outputs, and ∂L/∂θ of a minibatch, written into the parameters' gradients.

    Buffers are kept from call to call, and every call overwrites what the last one gave; one object serves one network.
    """

    def __init__(self, network: CategoricalActorCritic, clip: float, value_coef: float) -> None:
        self.actor, self.critic = FastMLP(network.actor), FastMLP(network.critic)
        self.clip, self.value_coef = clip, value_coef

    @torch.no_grad()
    def logits(self, obs: Tensor) -> Tensor:
        return torch.from_numpy(self.actor.forward(obs.flatten(0, -2).numpy())).view(*obs.shape[:-1], -1)

    @torch.no_grad()
    def values(self, critic_obs: Tensor) -> Tensor:
        return torch.from_numpy(self.critic.forward(critic_obs.flatten(0, -2).numpy())).view(critic_obs.shape[:-1])

    @torch.no_grad()
    def gradient(self, batch: Minibatch, entropy_coef: float) -> tuple[float, float, float]:
        """Losses of policy and value, and the entropy in nats; means over the minibatch. Overwrites the gradients."""
        logits, values = self.actor.forward(batch.obs.numpy()), self.critic.forward(batch.critic_obs.numpy())
        if batch.blocked is not None:
            np.copyto(logits, BLOCKED, where=batch.blocked.numpy())
        acting, advantage = len(values), batch.advantage
        if batch.acting is not None:
            acting, advantage = max(int(batch.acting.sum()), 1), advantage * batch.acting
        found: tuple[float, float, float] = _head(
            logits, values, acting, batch.actions.numpy(), batch.logp_old.numpy(), advantage.numpy(),
            batch.target.numpy(), self.clip, self.value_coef, entropy_coef, HUBER,
        )  # fmt: skip
        self.actor.backward()
        self.critic.backward()
        return found


class FastMLP:
    """Forward and backward through tanh layers, on buffers that are kept for the next input of as many rows.

    After `forward` the outputs may be overwritten by ∂L/∂outputs; `backward` goes on from there. The products are
    numpy's: its OpenBLAS is faster at these narrow matrices than torch's MKL, by a little or by half.
    """

    def __init__(self, network: MLP) -> None:
        self.layers = [_Layer(linear) for linear in network.linears]
        self.buffers: dict[int, list[_Buffer]] = {}  # by number of rows: acting, whole rollouts, minibatches

    def forward(self, x: Float) -> Float:
        """[N, inputs] → [N, outputs]."""
        self.inputs, self.used = [x], self._buffers(len(x))
        for layer, buffer in zip(self.layers, self.used, strict=True):
            np.matmul(self.inputs[-1], layer.weight.T, out=buffer.output)
            add_bias(buffer.output, layer.bias, buffer is not self.used[-1])
            self.inputs.append(buffer.output)
        return self.inputs.pop()

    def backward(self) -> None:
        """Into the parameters' gradients."""
        delta = self.used[-1].output
        for i in reversed(range(len(self.layers))):
            layer, h = self.layers[i], self.inputs[i]
            weight_grad, bias_grad = layer.gradients()
            np.matmul(delta.T, h, out=weight_grad)
            column_sums(delta, bias_grad)
            if i:
                below = self.used[i - 1].delta
                # of one column numpy makes a slow outer product
                (np.matmul if delta.shape[1] > 1 else np.multiply)(delta, layer.weight, out=below)
                through_tanh(below, h)
                delta = below

    def _buffers(self, rows: int) -> list[_Buffer]:
        if rows not in self.buffers:
            if len(self.buffers) == MAX_SIZES:  # numbers of ends vary from rollout to rollout
                self.buffers.pop(next(iter(self.buffers)))
            self.buffers[rows] = [_Buffer(rows, len(layer.bias)) for layer in self.layers]
        return self.buffers[rows]


class _Layer:
    """The same memory as a linear layer's parameters, and as their gradients."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.weight, self.bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()

    def gradients(self) -> tuple[Float, Float]:
        weight, bias = self.linear.weight.grad, self.linear.bias.grad
        assert weight is not None
        assert bias is not None
        return weight.numpy(), bias.numpy()


class _Buffer:
    """Of one layer: its output and ∂L/∂ its output."""

    def __init__(self, rows: int, width: int) -> None:
        self.output, self.delta = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)


# error_model: else a division may raise, and the loop is not vectorised
@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", inline="always")
def _tanh(x: np.float32) -> np.float32:
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
    """In place: x [N, n] plus bias [n], and then its tanh, by the rational function of Eigen's `ptanh`, within 3e-7."""
    for row in range(x.shape[0]):
        if tanh:
            for j in range(x.shape[1]):
                x[row, j] = _tanh(x[row, j] + bias[j])
        else:
            for j in range(x.shape[1]):
                x[row, j] += bias[j]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def column_sums(x: Float, out: Float) -> None:
    """x [N, n] → out [n]; numpy's own takes four times as long for few columns."""
    out[:] = 0
    for row in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += x[row, j]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def through_tanh(delta: Float, h: Float) -> None:
    """In place: ∂L/∂h, [N, n], becomes ∂L/∂x of h = tanh(x)."""
    for row in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[row, j] *= np.float32(1.0) - h[row, j] * h[row, j]


@njit(nogil=True, cache=True, error_model="numpy")
def _head(
    logits: Float, values: Float, acting: int, actions: NDArray[np.int64], logp_old: Float, advantage: Float,
    target: Float, clip: float, value_coef: float, entropy_coef: float, huber: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Losses. Means of policy and entropy are over `acting` rows: of an agent that has left one action is allowed, so
    that its row adds nothing where its advantage is 0. `logits` [N, U] and `values` [N, 1] are overwritten by the
    loss's gradient with respect to them."""
    rows, n_actions = logits.shape
    policy, value, entropy = 0.0, 0.0, 0.0
    low, high = np.float32(1 - clip), np.float32(1 + clip)
    p = np.empty(n_actions, np.float32)
    for i in range(rows):
        row = logits[i]
        top = row.max()
        total = np.float32(0.0)
        for u in range(n_actions):
            p[u] = np.exp(row[u] - top)
            total += p[u]
        log_total = np.log(total) + top
        h = 0.0
        for u in range(n_actions):
            p[u] /= total
            row[u] -= log_total  # log p_u
            h -= float(p[u] * row[u])
        ratio = np.exp(row[actions[i]] - logp_old[i])
        unclipped = ratio * advantage[i]  # in single precision like `clipped`: equal where nothing is clipped
        clipped = min(max(ratio, low), high) * advantage[i]
        slope = unclipped if unclipped <= clipped else 0.0
        policy -= min(unclipped, clipped)
        entropy += h
        for u in range(n_actions):
            chosen = 1.0 if u == actions[i] else 0.0
            row[u] = (entropy_coef * p[u] * (row[u] + h) - slope * (chosen - p[u])) / acting
        error = values[i, 0] - target[i]
        bounded = min(max(error, -huber), huber)
        value += bounded * (error - 0.5 * bounded)
        values[i, 0] = value_coef * bounded / rows
    return policy / acting, value / rows, entropy / acting
