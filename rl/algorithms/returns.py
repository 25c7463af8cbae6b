"""Returns and advantages."""

from __future__ import annotations

from torch import Tensor, zeros_like


def gae(
    r_t: Tensor, v_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, done_t: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16), with time limits bootstrapped.

        δ_t = r_t + γ · v_{t+1} · (1 − terminated_t) − v_t
        A_t = δ_t + γλ · (1 − done_t) · A_{t+1}

    Args: all [T, ...]. `r_t` reward for the step from s_t; `v_t` value of s_t; `v_tp1` value of the state that the step
    led to, *before* auto-reset; `terminated_t` the task ended (nothing follows); `done_t` terminated or cut by a time
    limit (another episode follows, but v_{t+1} still counts where it was only cut).
    Returns A_t [T, ...].
    """
    if not (r_t.shape == v_t.shape == v_tp1.shape == terminated_t.shape == done_t.shape):
        raise ValueError(
            f"gae needs equal shapes, got {[tuple(x.shape) for x in (r_t, v_t, v_tp1, terminated_t, done_t)]}"
        )
    delta_t = r_t + gamma * v_tp1 * (1 - terminated_t) - v_t
    keep_t = gamma * lam * (1 - done_t)
    advantage_t = zeros_like(delta_t)
    running = zeros_like(delta_t[0])
    for t in range(len(delta_t) - 1, -1, -1):
        running = delta_t[t] + keep_t[t] * running
        advantage_t[t] = running
    return advantage_t


def td_target(r_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, gamma: float) -> Tensor:
    """One-step target r_t + γ · v_{t+1} · (1 − terminated_t), with time limits bootstrapped; all of one shape."""
    return r_t + gamma * v_tp1 * (1 - terminated_t)
