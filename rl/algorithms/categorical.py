"""Sampling actions: one compiled pass over the logits."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, error_model="numpy")
def sample(
    logits: NDArray[np.float32], uniform: NDArray[np.float32], actions: NDArray[np.int64], logp: NDArray[np.float32]
) -> None:
    """Draw from categorical distributions by inversion: logits [N, U] and uniform numbers [N] in [0, 1) → `actions` and
    their log-probabilities `logp`, [N] each, written in place. What has no weight is never drawn, whatever rounding
    leaves over."""
    rows, n_actions = logits.shape
    weights = np.empty(n_actions, np.float32)
    for i in range(rows):
        top = logits[i].max()
        total, last = np.float32(0.0), 0
        for u in range(n_actions):
            weights[u] = np.exp(logits[i, u] - top)
            total += weights[u]
            if weights[u] > 0:
                last = u
        left = uniform[i] * total
        chosen = 0
        while chosen < last and left >= weights[chosen]:
            left -= weights[chosen]
            chosen += 1
        actions[i] = chosen
        logp[i] = logits[i, chosen] - top - np.log(total)
