"""Drawing choices from logits, in one compiled pass."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FORBIDDEN_LOGIT = -1e9  # the probability is 0 exactly, and nothing becomes infinite


@njit(nogil=True, cache=True, error_model="numpy")
def sample_categorical(
    logits: NDArray[np.float32], uniform: NDArray[np.float32], actions: NDArray[np.int64], logp: NDArray[np.float32]
) -> None:
    """Draw from categorical distributions by inversion.

    What has no weight is never drawn, whatever rounding leaves over.

    Args:
        logits: [N, U].
        uniform: [N] random numbers in [0, 1).
        actions: [N], overwritten by the choices.
        logp: [N], overwritten by their log-probabilities.
    """
    rows, n_actions = logits.shape
    weights = np.empty(n_actions, np.float32)
    for i in range(rows):
        # unnormalised probabilities; `last` is the last action that has one at all
        top = logits[i].max()
        total, last = np.float32(0.0), 0
        for u in range(n_actions):
            weights[u] = np.exp(logits[i, u] - top)
            total += weights[u]
            if weights[u] > 0:
                last = u
        # walk along the weights until the drawn share of their sum is used up
        left = uniform[i] * total
        chosen = 0
        while chosen < last and left >= weights[chosen]:
            left -= weights[chosen]
            chosen += 1
        actions[i] = chosen
        logp[i] = logits[i, chosen] - top - np.log(total)
