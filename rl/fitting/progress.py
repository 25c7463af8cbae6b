"""Regressing judged progress on features, see `rl.signals.learned.progress`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import mse_loss

from ...errors import SignalError
from ..signals.scorer import Scorer
from ..signals.terms.progress import shares_of_range
from ..task import FloatArray, TaskSpec

LEAST_STATES = 20
LEAST_SPREAD = 1e-3  # of Φ*, 0..1


@dataclass(frozen=True)
class FittedProgress:
    """A network and the share of the variance of held-out Φ* that it explains, at most 1."""

    scorer: Scorer
    explained: float


def fit_progress(
    spec: TaskSpec, group: int, features: FloatArray, targets: NDArray[np.float64], hidden: int, epochs: int, seed: int
) -> FittedProgress:
    """Regress Φ* [m] on features [m, F_g]; a fifth of the states is held out and says how well it fits.

    Raises:
        SignalError: too few states were judged, or Φ is frozen, the same in all.
    """
    deviation = float(np.std(targets)) if len(targets) else 0.0
    if len(targets) < LEAST_STATES or deviation < LEAST_SPREAD:
        raise SignalError(
            f"progress needs {LEAST_STATES} judged states that differ, got {len(targets)} with a deviation of "
            f"{deviation:.2g}; ask more, or look whether the judge contradicts itself"
        )
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(shares_of_range(spec.groups[group], features))
    y = torch.from_numpy(targets.astype(np.float32))
    order = torch.randperm(len(y), generator=generator)
    held_out, kept = order[: max(len(y) // 5, 1)], order[max(len(y) // 5, 1) :]
    sizes = (x.shape[1], hidden, 1)
    layers = []
    for a, b in pairwise(sizes):
        weight = torch.randn(a, b, generator=generator) * (2.0 / a) ** 0.5
        layers += [weight.requires_grad_(), torch.zeros(b).requires_grad_()]
    optimiser = torch.optim.Adam(layers, lr=1e-2, weight_decay=1e-4)

    def output(rows: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = ((rows @ layers[0] + layers[1]).relu() @ layers[2] + layers[3]).squeeze(-1)
        return out

    for _ in range(epochs):
        optimiser.zero_grad()
        mse_loss(output(x[kept]), y[kept]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        error = float(((output(x[held_out]) - y[held_out]) ** 2).mean())
    spread = float(((y[held_out] - y[kept].mean()) ** 2).mean())
    w1, b1, w2, b2 = (layer.detach().numpy() for layer in layers)
    return FittedProgress(Scorer((w1[None], w2[None]), (b1[None], b2[None])), 1.0 - error / max(spread, 1e-9))
