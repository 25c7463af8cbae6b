"""Votes on pairs: what several answers to the same question say together."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PreferenceError
from ..task import IntArray
from .pairs import NOT_JUDGED

Votes = NDArray[np.float64]  # [P, K]: 1 where s' is preferred, 0 where s is, 0.5 for neither; nan was not asked


def confidence(votes: Votes) -> NDArray[np.float64]:
    """[P, K] → [P] in 0..1: mean of the votes that were asked, conf(o' ≻ o) of Eq. 3 (LCA, Lin et al., arXiv
    2502.03723); nan where nobody was asked."""
    asked = np.isfinite(votes).sum(axis=1)
    total = np.nansum(votes, axis=1)
    return np.asarray(np.divide(total, asked, out=np.full(len(votes), np.nan), where=asked > 0))


def oracle_votes(labels: IntArray, queries: int, accuracy: float, seed: int) -> Votes:
    """[P] labels of a heuristic (1, −1, 0) → [P, `queries`]: copies in which each label is flipped independently with
    probability 1 − `accuracy` (the synthetic queries of LCA, section 5). A label of no preference votes 0.5.

    Copy k is the same whatever `queries` is, so that one query is the first of four.

    Raises:
        PreferenceError: the accuracy is outside 0..1, or there are labels that no heuristic gave.
    """
    if not 0 <= accuracy <= 1:
        raise PreferenceError(f"the accuracy of an oracle must be in 0..1, got {accuracy!r}; give a share of labels")
    if (labels == NOT_JUDGED).any():
        raise PreferenceError(
            f"an oracle votes by the labels of the task's heuristic, {int((labels == NOT_JUDGED).sum())} of "
            f"{len(labels)} pairs have none; let a model rank, or write a heuristic for the task"
        )
    copies = [_flipped(labels, accuracy, _flip_seed(seed, copy, accuracy)) for copy in range(queries)]
    return np.stack(copies, axis=1) * 0.5 + 0.5


def _flipped(labels: IntArray, accuracy: float, seed: int) -> NDArray[np.float64]:
    wrong = np.random.default_rng(seed).random(len(labels)) >= accuracy
    return np.where(wrong, -labels, labels).astype(np.float64)


def _flip_seed(seed: int, copy: int, accuracy: float) -> int:
    """Copies and accuracies of one data set are flipped independently of each other."""
    return int(hashlib.sha256(f"{seed}|{copy}|{accuracy:g}".encode()).hexdigest()[:16], 16)


def agreement(preferred: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of pairs whose preference has the label's sign, where one of no preference (0) counts half.

    `preferred` [P]: above 0 for s', such as confidence − 0.5 or a change of the score. `labels` [P]: pairs without a
    preference (0), or that nobody judged, are left out; None where no other is left.
    """
    judged = (labels != 0) & (labels != NOT_JUDGED)
    if not judged.any():
        return None
    signs = np.sign(preferred[judged]) * np.sign(labels[judged])
    return float(0.5 + 0.5 * signs.mean())
