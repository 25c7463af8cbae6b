"""EPIC: how differently two signals would change what is optimal (Gleave et al., ICLR 2021, Definition 4.6).

    C(F)(s, e, s′) = F(s, e, s′) + E[γ F(s′, E, S′) − F(s, E, S′) − γ F(S, E, S′)]        d = √((1 − ρ) / 2)

ρ is the Pearson correlation of C(F) of both signals. C takes all potential-based shaping out, so that d is 0 for
signals that differ by a potential and a positive factor, and 1 for a signal and its reverse. What `distance` compares
is what signals pay; this says how far they bend the task: two potentials have EPIC distance 0, however differently
they teach.

States S, S′ and events E of the expectation are drawn each for itself from what the run has recorded, which is EPIC's
coverage distribution here; so are the pairs that are compared. The ends of episodes count for nothing, as in the
authors' code. The sparse reward, which all signals have in common, is left out: what an action does to it is not known
for states that it was not taken in. A signal whose C(F) is the same everywhere bends nothing; two of them have distance
0, and one of them has no correlation with any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..experience.transition_sample import TransitionSample
from .shaping import CompiledSignal
from .state_pairs import StatePairs, pearson_distance
from .terms.base import SMALLEST_SPREAD

PAIRS, COVERAGE = 128, 32  # pairs that are compared, and draws of the expectation
UNCORRELATED = float(np.sqrt(0.5))


def epic_distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the distance of two canonical forms [n], 0..1."""
    moves = [float(x.std()) > SMALLEST_SPREAD for x in (one, other)]
    if not any(moves):
        return 0.0
    distance = pearson_distance(one, other) if all(moves) else None
    return UNCORRELATED if distance is None else distance


def canonical(signal: CompiledSignal, recorded: TransitionSample, gamma: float) -> NDArray[np.float64]:
    """Return C(F) of `PAIRS` recorded transitions, flat over transitions and agents; always of the same ones.

    Args:
        signal: with a frozen scale.
        recorded: of the run.
        gamma: the discount factor of the learner, in 0..1.
    """
    if not len(recorded.terminated):
        return np.zeros(0)
    rng = np.random.default_rng(0)
    # S and S′ are of the same states, so that a potential drops out to the last
    pairs, coverage, events = (rng.integers(0, len(recorded.terminated), n) for n in (PAIRS, COVERAGE, COVERAGE))

    def paid(s: tuple[str, NDArray[Any]], e: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
        """Return F(s, e, s′) [n, A], of recorded states and events by index [n]."""
        prefix, index = s
        chosen = StatePairs(
            features=[x[index] for x in getattr(recorded, f"{prefix}features")],
            last_features=[x[after] for x in recorded.last_features],
            events=[x[e] for x in recorded.events],
            obs=[x[index] for x in getattr(recorded, f"{prefix}obs")],
            last_obs=[x[after] for x in recorded.last_obs],
            terminated=np.zeros(len(index), np.float32),
        )
        return np.concatenate(signal.shape(chosen, gamma).total, axis=-1, dtype=np.float64)

    def expected(prefix: str, states: NDArray[Any]) -> NDArray[np.float64]:
        """Return E[F(s, E, S′)] [n, A] for each of these states."""
        n = len(states)
        rows = paid((prefix, np.repeat(states, COVERAGE)), np.tile(events, n), np.tile(coverage, n))
        return np.asarray(rows.reshape(n, COVERAGE, -1).mean(axis=1))

    everywhere = expected("last_", coverage).mean(axis=0)
    form = paid(("", pairs), pairs, pairs) + gamma * expected("last_", pairs) - expected("", pairs) - gamma * everywhere
    # rounding is no signal
    size = max(float(np.abs(form).max(initial=0.0)), 1.0)
    return np.where(np.abs(form) < 1e-5 * size, 0.0, form).ravel()
