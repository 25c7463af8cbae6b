"""Fitting a scorer to ranked pairs: Bradley–Terry with confidences (LCA, Lin et al., arXiv 2502.03723, Eq. 3).

    L = −E[ c log sigmoid(σ(o') − σ(o)) + (1 − c) log sigmoid(σ(o) − σ(o')) ]        c: the confidence that o' is better

The difference is the log-odds of a vote for o'. With c = 1/2 the loss is least at zero: what nobody knows pays nothing.
All members are trained side by side as one stack, which is as if each were trained alone: the loss is a sum of theirs
and Adam works number by number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ...errors import PreferenceError, TrainingDiverged
from ..signals.scorer import Scorer
from ..task import BoolArray, FloatArray, IntArray
from .config import ScorerConfig
from .pairs import Pairs
from .votes import agreement

LEAST_PAIRS = 20


@dataclass(frozen=True)
class Fitted:
    """A fitted scorer, and how well it fits.

    Shares are over the pairs that some member held out, and ask what the mean of those members prefers. Pairs without
    a preference are left out; a share is None where no other is left.

    Attributes:
        scorer: the ensemble, with unit and anchor.
        held_out_loss: Eq. 3 at the best weights, on the pairs that each member held out; their mean.
        accuracy: share on which it prefers what the (noisy) votes prefer.
        agreement: share on which it prefers what the true labels prefer.
        epochs: by member, the epoch of its best weights.
    """

    scorer: Scorer
    held_out_loss: float
    accuracy: float | None
    agreement: float | None
    epochs: list[int]


def fit_scorer(
    pairs: Pairs,
    confidence: NDArray[np.float64],
    config: ScorerConfig,
    seed: int,
    labels: IntArray | None = None,
    voted: BoolArray | None = None,
) -> Fitted:
    """Fit an ensemble to ranked pairs. The same arguments give the same scorer.

    Args:
        pairs: the pairs, `P` of them.
        confidence: [P] in 0..1, nan where nobody was asked; such pairs are left out.
        config: sizes, and when to stop.
        seed: of first weights, order of pairs and held-out pairs.
        labels: [P], the true ones to compare with, those of the pairs where None; no fit sees them.
        voted: [P], where somebody has voted; all where None. By the other pairs nothing is judged or scaled.

    Raises:
        TrainingDiverged: a network has never had a finite loss on the pairs that it held out.
        PreferenceError: fewer than LEAST_PAIRS ranked pairs, confidences outside 0..1, or observations that are not
            finite.
    """
    # Only pairs that somebody was asked about count, and they must be usable.
    asked = np.isfinite(confidence)
    voted = asked if voted is None else voted & asked
    if voted.sum() < LEAST_PAIRS:
        raise PreferenceError(
            f"a scorer needs at least {LEAST_PAIRS} ranked pairs, got {int(voted.sum())} of {len(pairs)}; "
            "collect more, or look why the Ranker did not answer"
        )
    target = confidence[asked]
    if target.min() < 0 or target.max() > 1:
        raise PreferenceError(
            f"confidences must be in 0..1, got {target.min():g} to {target.max():g}; give the mean of votes"
        )
    if not (np.isfinite(pairs.obs).all() and np.isfinite(pairs.last_obs).all()):
        raise PreferenceError("a scorer needs finite observations, got nan or inf; look what the task observes")
    labels = (pairs.label if labels is None else labels)[asked]
    pairs, voted = pairs.select(asked), voted[asked]
    training = _Training(pairs, target, config, seed)
    training.run()
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is raised
        scorer = scaled(training.scorer(), pairs.select(voted), config)
    if not np.isfinite([*training.best_loss, scorer.unit, scorer.anchor]).all():
        raise TrainingDiverged(
            f"scorers must stay finite, got a held-out loss of {training.best_loss.max():g} and a unit of "
            f"{scorer.unit:g}; lower preferences.scorer.lr ({config.lr:g}), or scale what the task observes to about 1"
        )
    apart, change = held_out_change(scorer, pairs, training.held_out)
    counted = voted[apart]
    change, target, labels = change[counted], target[apart][counted], labels[apart][counted]
    return Fitted(
        scorer=scorer,
        held_out_loss=float(training.best_loss.mean()),
        accuracy=agreement(change, target - 0.5),
        agreement=agreement(change, labels),
        epochs=training.best_epoch.tolist(),
    )


def scaled(scorer: Scorer, pairs: Pairs, config: ScorerConfig) -> Scorer:
    """Return the same networks with the unit and the anchor that these pairs give (see `Scorer`)."""
    raw = replace(scorer, unit=1.0, anchor=0.0)
    before, after = raw.score(pairs.obs), raw.score(pairs.last_obs)
    unit = max(float((after - before).std()), config.least_unit) if config.normalise else 1.0
    return replace(scorer, unit=unit, anchor=float(max(before.max(), after.max())))


def held_out_change(scorer: Scorer, pairs: Pairs, held_out: IntArray) -> tuple[BoolArray, FloatArray]:
    """Judge each pair by the members that held it out.

    Args:
        scorer: M members.
        pairs: P pairs.
        held_out: [M, H], the numbers of the pairs that each member held out.

    Returns:
        (which pairs some member held out, [P]; the mean of σ(o') − σ(o) over those members, for these pairs).
    """
    apart = np.zeros((len(held_out), len(pairs)), np.bool_)
    np.put_along_axis(apart, held_out, True, axis=1)
    some = apart.any(axis=0)
    change = scorer.members(pairs.last_obs) - scorer.members(pairs.obs)
    return np.asarray(some), np.asarray(np.mean(change[:, some], axis=0, where=apart[:, some]))


class _Training:
    """The members side by side; each draws from a stream of its own, so that it is the same in an ensemble of any size.

    Attributes:
        held_out: [M, H], the numbers of the pairs that each member holds out.
        train: [M, P − H], the others.
        network: by layer weights [M, in, out] and biases [M, 1, out].
        best: the same at each member's best epoch.
    """

    def __init__(self, pairs: Pairs, target: NDArray[np.float64], config: ScorerConfig, seed: int) -> None:
        self.config, self.rngs = config, [np.random.default_rng([seed, member]) for member in range(config.members)]
        self.ends = torch.from_numpy(np.stack([pairs.obs, pairs.last_obs]).astype(np.float32))  # [2, P, O]
        self.target = torch.from_numpy(target.astype(np.float32))
        # Each member holds out pairs of its own.
        order = np.stack([rng.permutation(len(pairs)) for rng in self.rngs])
        apart = max(round(config.held_out * len(pairs)), 1)
        self.held_out, self.train = order[:, :apart], order[:, apart:]
        # Weights are uniform within ±1/√in, as torch's Linear draws them.
        self.network: list[Tensor] = []
        for size, outputs in pairwise((pairs.obs.shape[1], *config.hidden, 1)):
            for shape in ((size, outputs), (1, outputs)):
                drawn = [rng.uniform(-1, 1, shape) / size**0.5 for rng in self.rngs]
                self.network.append(torch.tensor(np.stack(drawn), dtype=torch.float32, requires_grad=True))
        self.best = [parameter.detach().clone() for parameter in self.network]
        self.best_loss = np.full(config.members, np.inf)
        self.best_epoch = np.zeros(config.members, np.int64)

    def run(self) -> None:
        """Train until every member has stopped; one that has stopped trains on, but its best weights stay."""
        optimiser = torch.optim.Adam(self.network, lr=self.config.lr)
        running = np.ones(self.config.members, np.bool_)
        for epoch in range(1, self.config.max_epochs + 1):
            # Each member sees its pairs in an order of its own.
            order = np.stack([rng.permutation(pairs) for rng, pairs in zip(self.rngs, self.train, strict=True)])
            for start in range(0, order.shape[1], self.config.batch):
                optimiser.zero_grad()
                losses = self._losses(order[:, start : start + self.config.batch])
                losses.sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            # Members that have not stopped keep their weights where they are better than ever.
            with torch.no_grad():
                held_out = self._losses(self.held_out).numpy().astype(np.float64)
                better = running & (held_out < self.best_loss)
                self.best_loss[better], self.best_epoch[better] = held_out[better], epoch
                for best, parameter in zip(self.best, self.network, strict=True):
                    best[torch.from_numpy(better)] = parameter.detach()[torch.from_numpy(better)]
            running &= epoch - self.best_epoch < self.config.patience
            if not running.any():
                return

    def _losses(self, index: IntArray) -> Tensor:
        """Return Eq. 3 of each member on its pairs, the mean over the batch: numbers [M, B] → [M]."""
        chosen = torch.from_numpy(np.ascontiguousarray(index))
        # Both ends of the pairs go through the networks at once: [M, 2 B, O] → σ [M, 2 B].
        x = torch.cat([*self.ends[:, chosen]], dim=1)
        for i in range(0, len(self.network), 2):
            x = torch.baddbmm(self.network[i + 1], x if i == 0 else x.relu(), self.network[i])
        before, after = x.squeeze(-1).chunk(2, dim=1)
        losses = binary_cross_entropy_with_logits(after - before, self.target[chosen], reduction="none")
        return losses.mean(dim=1)

    def scorer(self) -> Scorer:
        """Return the best weights, with scores as they are."""
        arrays = [parameter.numpy() for parameter in self.best]
        return Scorer(weights=tuple(arrays[::2]), biases=tuple(x[:, 0] for x in arrays[1::2]))
