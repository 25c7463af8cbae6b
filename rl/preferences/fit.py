"""Fitting a scorer to ranked pairs: Bradley–Terry with confidences (LCA, Lin et al., arXiv 2502.03723, Eq. 3).

    L = −E[ c log sigmoid(σ(o') − σ(o)) + (1 − c) log sigmoid(σ(o) − σ(o')) ]        c: the confidence that o' is better

The difference is the log-odds of a vote for o'. With c = 1/2 the loss is least at zero: what nobody knows pays nothing.
All members are trained side by side as one stack, which is as if each were trained alone: the loss is a sum of theirs
and Adam works number by number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ...errors import PreferenceError
from ..signals.scorer import Scorer
from ..task import BoolArray, FloatArray, IntArray
from .config import ScorerConfig
from .pairs import Pairs
from .votes import agreement

LEAST_PAIRS = 20


@dataclass(frozen=True)
class Fitted:
    """`held_out_loss`: Eq. 3 at the weights that were kept, on the pairs that each member kept apart; their mean.

    `accuracy` and `agreement`: share of the pairs kept apart by some member on which the mean of those members prefers
    what the (noisy) votes prefer, or the true labels; pairs without a preference aside, None where no other is left.
    `epochs`: by member, to the weights that were kept.
    """

    scorer: Scorer
    held_out_loss: float
    accuracy: float | None
    agreement: float | None
    epochs: list[int]


def fit_scorer(
    pairs: Pairs, confidence: NDArray[np.float64], config: ScorerConfig, seed: int, labels: IntArray | None = None
) -> Fitted:
    """Fit an ensemble to the pairs whose `confidence` [P] is a number. The same arguments give the same scorer.

    `labels` [P]: the true ones to compare with, those of the pairs where not given; no fit sees them.

    Raises:
        PreferenceError: fewer than LEAST_PAIRS ranked pairs, confidences outside 0..1, or observations that are not
            finite.
    """
    pairs, target, labels = _ranked(pairs, confidence, pairs.label if labels is None else labels)
    training = _Training(pairs, target, config, seed)
    training.run()
    scorer = scaled(training.scorer(), pairs, config)
    kept_apart, change = _held_out_change(scorer, pairs, training.held_out)
    return Fitted(
        scorer=scorer,
        held_out_loss=float(training.best_loss.mean()),
        accuracy=agreement(change, target[kept_apart] - 0.5),
        agreement=agreement(change, labels[kept_apart]),
        epochs=training.best_epoch.tolist(),
    )


def scaled(scorer: Scorer, pairs: Pairs, config: ScorerConfig) -> Scorer:
    """The same networks with the unit and the anchor that these pairs give (see `Scorer`)."""
    raw = replace(scorer, unit=1.0, anchor=0.0)
    before, after = raw.score(pairs.obs), raw.score(pairs.last_obs)
    unit = max(float((after - before).std()), config.least_unit) if config.normalise else 1.0
    return replace(scorer, unit=unit, anchor=float(max(before.max(), after.max())))


def _ranked(
    pairs: Pairs, confidence: NDArray[np.float64], labels: IntArray
) -> tuple[Pairs, NDArray[np.float64], IntArray]:
    """Those that anybody was asked about."""
    asked = np.isfinite(confidence)
    if asked.sum() < LEAST_PAIRS:
        raise PreferenceError(
            f"a scorer needs at least {LEAST_PAIRS} ranked pairs, got {int(asked.sum())} of {len(pairs)}; "
            "collect more, or look why the Ranker did not answer"
        )
    target = confidence[asked]
    if target.min() < 0 or target.max() > 1:
        raise PreferenceError(
            f"confidences must be in 0..1, got {target.min():g} to {target.max():g}; give the mean of votes"
        )
    if not (np.isfinite(pairs.obs).all() and np.isfinite(pairs.last_obs).all()):
        raise PreferenceError("a scorer needs finite observations, got nan or inf; look what the task observes")
    return pairs.taken(asked), target, labels[asked]


def _held_out_change(scorer: Scorer, pairs: Pairs, held_out: IntArray) -> tuple[BoolArray, FloatArray]:
    """Which pairs some member kept apart, [P], and what the mean of those members says of σ(o') − σ(o) there."""
    apart = np.zeros((len(held_out), len(pairs)), np.bool_)
    np.put_along_axis(apart, held_out, True, axis=1)
    some = apart.any(axis=0)
    change = scorer.members(pairs.last_obs) - scorer.members(pairs.obs)
    return np.asarray(some), np.asarray(np.mean(change[:, some], axis=0, where=apart[:, some]))


class _Training:
    """The members side by side. `held_out` [M, H] and `train` [M, P − H] are numbers of pairs; member m draws from a
    stream of its own, so that it is the same in an ensemble of any size."""

    def __init__(self, pairs: Pairs, target: NDArray[np.float64], config: ScorerConfig, seed: int) -> None:
        self.config, self.rngs = config, [np.random.default_rng([seed, member]) for member in range(config.members)]
        self.ends = torch.from_numpy(np.stack([pairs.obs, pairs.last_obs]).astype(np.float32))  # [2, P, O]
        self.target = torch.from_numpy(target.astype(np.float32))
        order = np.stack([rng.permutation(len(pairs)) for rng in self.rngs])
        kept = max(round(config.held_out * len(pairs)), 1)
        self.held_out, self.train = order[:, :kept], order[:, kept:]
        self.network = _new_stack(pairs.obs.shape[1], config.hidden, self.rngs)
        self.best = [parameter.detach().clone() for parameter in self.network]
        self.best_loss = np.full(config.members, np.inf)
        self.best_epoch = np.zeros(config.members, np.int64)

    def run(self) -> None:
        optimiser = torch.optim.Adam(self.network, lr=self.config.lr)
        running = np.ones(self.config.members, np.bool_)
        for epoch in range(1, self.config.max_epochs + 1):
            for batch in self._batches():
                optimiser.zero_grad()
                self._losses(batch).sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            self._keep_best(epoch, running)
            running &= epoch - self.best_epoch < self.config.patience
            if not running.any():
                return

    def _batches(self) -> Iterator[IntArray]:
        """[M, B] numbers of pairs, each member in an order of its own."""
        order = np.stack([rng.permutation(own) for rng, own in zip(self.rngs, self.train, strict=True)])
        for start in range(0, order.shape[1], self.config.batch):
            yield order[:, start : start + self.config.batch]

    def _losses(self, index: IntArray) -> Tensor:
        """[M, B] → [M]: Eq. 3, mean over the batch."""
        chosen = torch.from_numpy(np.ascontiguousarray(index))
        before, after = _scores(self.network, torch.cat([*self.ends[:, chosen]], dim=1)).chunk(2, dim=1)
        losses = binary_cross_entropy_with_logits(after - before, self.target[chosen], reduction="none")
        return losses.mean(dim=1)

    @torch.no_grad()
    def _keep_best(self, epoch: int, running: BoolArray) -> None:
        """Of the members that have not stopped."""
        losses = self._losses(self.held_out).numpy().astype(np.float64)
        better = running & (losses < self.best_loss)
        self.best_loss[better], self.best_epoch[better] = losses[better], epoch
        for best, parameter in zip(self.best, self.network, strict=True):
            best[torch.from_numpy(better)] = parameter.detach()[torch.from_numpy(better)]

    def scorer(self) -> Scorer:
        """The best weights, with scores as they are."""
        arrays = [parameter.numpy() for parameter in self.best]
        return Scorer(weights=tuple(arrays[::2]), biases=tuple(x[:, 0] for x in arrays[1::2]))


def _new_stack(inputs: int, hidden: tuple[int, ...], rngs: Sequence[np.random.Generator]) -> list[Tensor]:
    """By layer weights [M, in, out] and biases [M, 1, out], uniform within ±1/√in as torch's Linear draws them."""
    sizes, stack = (inputs, *hidden, 1), []
    for size, outputs in pairwise(sizes):
        for shape in ((size, outputs), (1, outputs)):
            drawn = [rng.uniform(-1, 1, shape) / size**0.5 for rng in rngs]
            stack.append(torch.tensor(np.stack(drawn), dtype=torch.float32, requires_grad=True))
    return stack


def _scores(stack: list[Tensor], obs: Tensor) -> Tensor:
    """[M, B, O] → [M, B]: σ of each member on its own rows."""
    x = obs
    for i in range(0, len(stack), 2):
        x = torch.baddbmm(stack[i + 1], x if i == 0 else x.relu(), stack[i])
    return x.squeeze(-1)
