"""A gated recurrent unit through time on a CPU, forward and backward written out by hand.

It gives what `gru_step` in a loop gives, up to rounding, three to six times as fast: no graph is built over the steps.
A step is one product by numpy and one compiled pass. With x_r, x_z, x_n what inputs give to the gates, k the state that
is carried (zero where an episode begins) and a_r, a_z, a_n = W k + b:

    r = σ(x_r + a_r),  z = σ(x_z + a_z),  n = tanh(x_n + r ∘ a_n),  h = n + z ∘ (k − n)

    ∂L/∂x_n = ∂L/∂h ∘ (1 − z) ∘ (1 − n²)          ∂L/∂a_n = ∂L/∂x_n ∘ r
    ∂L/∂x_r = ∂L/∂a_r = ∂L/∂x_n ∘ a_n ∘ r (1 − r)
    ∂L/∂x_z = ∂L/∂a_z = ∂L/∂h ∘ (k − n) ∘ z (1 − z)
    ∂L/∂k   = ∂L/∂h ∘ z + Wᵀ ∂L/∂a                  and so on to the step before, where the episode had begun by then
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..fused_kernel import FAST, TANH_END, TANH_EVEN, TANH_ODD, Float


class GRUScan(torch.autograd.Function):
    """Arguments: x [T, N, 3H], state [N, H] before the first step, first [T, N], W [3H, H], b [3H] → states [T, N, H].

    `first` is 1 where an episode begins at the step. The state before the first step gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Tensor, first: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, rows, width = *x.shape[:2], state.shape[-1]
        inputs, transposed = x.contiguous().numpy(), np.ascontiguousarray(weight.numpy().T)
        keep = 1 - first.numpy()
        # the state that is carried into each step, and after the last one
        carried = np.empty((steps + 1, rows, width), np.float32)
        states, gates = np.empty((steps, rows, width), np.float32), np.empty((steps, rows, 4 * width), np.float32)
        products = np.empty((rows, 3 * width), np.float32)
        np.multiply(state.numpy(), keep[0, :, None], out=carried[0])
        for t in range(steps):
            np.matmul(carried[t], transposed, out=products)
            after = keep[t + 1] if t + 1 < steps else keep[t]
            step_forward(inputs[t], products, bias.numpy(), carried[t], after, gates[t], states[t], carried[t + 1])
        ctx.saved, ctx.weight = (carried, gates, keep), weight
        return torch.from_numpy(states)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None, Tensor, Tensor]:
        (carried, gates, keep), weight = ctx.saved, ctx.weight.numpy()
        steps, rows, width = slopes.shape
        given = slopes.contiguous().numpy()
        of_inputs, of_products = (np.empty((steps, rows, 3 * width), np.float32) for _ in range(2))
        slope, of_carried = given[-1].copy(), np.empty((rows, width), np.float32)
        for t in reversed(range(steps)):
            step_backward(slope, gates[t], carried[t], of_inputs[t], of_products[t], of_carried)
            if t:
                # through W, and to the step before
                np.matmul(of_products[t], weight, out=slope)
                to_step_before(slope, of_carried, keep[t], given[t - 1])
        flat = of_products.reshape(-1, 3 * width)
        of_weight = flat.T @ carried[:-1].reshape(-1, width)
        return (
            torch.from_numpy(of_inputs), None, None, torch.from_numpy(of_weight), torch.from_numpy(flat.sum(0)),
        )  # fmt: skip


# ---------------------------------------------------------------- compiled passes


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", inline="always")
def rational_tanh(x: np.float32) -> np.float32:
    """Return tanh(x), within 3e-7, by the rational function of Eigen's `ptanh`."""
    v = min(max(x, np.float32(-TANH_END)), np.float32(TANH_END))
    s = v * v
    p, q = np.float32(TANH_ODD[0]), np.float32(TANH_EVEN[0])
    for factor in TANH_ODD[1:]:
        p = p * s + np.float32(factor)
    for factor in TANH_EVEN[1:]:
        q = q * s + np.float32(factor)
    return v * p / q


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def step_forward(
    x: Float, products: Float, bias: Float, carried: Float, keep: Float, gates: Float, state: Float, after: Float
) -> None:
    """Take one step.

    Args:
        x: [N, 3H] from inputs.
        products: [N, 3H] of W and the carried state, without bias.
        bias: [3H].
        carried: [N, H].
        keep: [N], 0 where an episode begins at the next step, else 1.
        gates: [N, 4H], overwritten by r, z, n and a_n.
        state: [N, H], overwritten by the next state.
        after: [N, H], overwritten by what of it is carried into the next step.
    """
    rows, width = state.shape
    half, one = np.float32(0.5), np.float32(1.0)
    for i in range(rows):
        for j in range(width):
            # σ(x) = ½ (1 + tanh(½ x))
            gates[i, j] = half * (one + rational_tanh(half * (x[i, j] + products[i, j] + bias[j])))
        for j in range(width):
            u = width + j
            gates[i, u] = half * (one + rational_tanh(half * (x[i, u] + products[i, u] + bias[u])))
        for j in range(width):
            u = 2 * width + j
            a_n = products[i, u] + bias[u]
            gates[i, 3 * width + j] = a_n
            gates[i, u] = rational_tanh(x[i, u] + gates[i, j] * a_n)
        for j in range(width):
            n = gates[i, 2 * width + j]
            h = n + gates[i, width + j] * (carried[i, j] - n)
            state[i, j] = h
            after[i, j] = h * keep[i]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def step_backward(
    slope: Float, gates: Float, carried: Float, of_inputs: Float, of_products: Float, of_carried: Float
) -> None:
    """Go back through one step, from ∂L/∂h in `slope` [N, H] to ∂L/∂x and ∂L/∂a [N, 3H], and to ∂L/∂h ∘ z [N, H]."""
    rows, width = slope.shape
    one = np.float32(1.0)
    for i in range(rows):
        for j in range(width):
            r, z = gates[i, j], gates[i, width + j]
            n, a_n = gates[i, 2 * width + j], gates[i, 3 * width + j]
            x_n = slope[i, j] * (one - z) * (one - n * n)
            x_r = x_n * a_n * r * (one - r)
            x_z = slope[i, j] * (carried[i, j] - n) * z * (one - z)
            of_inputs[i, j], of_inputs[i, width + j], of_inputs[i, 2 * width + j] = x_r, x_z, x_n
            of_products[i, j], of_products[i, width + j], of_products[i, 2 * width + j] = x_r, x_z, x_n * r
            of_carried[i, j] = slope[i, j] * z


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def to_step_before(slope: Float, of_carried: Float, keep: Float, given: Float) -> None:
    """Turn Wᵀ ∂L/∂a in `slope` [N, H] into ∂L/∂h of the step before, which has the slopes `given` [N, H] besides."""
    rows, width = slope.shape
    for i in range(rows):
        for j in range(width):
            slope[i, j] = given[i, j] + keep[i] * (slope[i, j] + of_carried[i, j])
