"""What recorded ways to the sparse reward say about a potential, before any branch is paid for it.

A potential that helps rises on the way to a reward more than it does elsewhere. The recording holds pairs of states
`LAG` steps apart in one episode: some end where a positive team reward follows, others have no positive reward on their
way. Compared is Σ w_k Φ_k, meaned over the agents that have a potential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..experience.transition_sample import TransitionSample
from ..task import FloatArray, TaskSpec
from .scorer import NO_SCORERS, Scorers
from .shaping import CompiledSignal
from .signal import EventTerm, Signal

ENOUGH = 30  # pairs of either kind
CLEARLY_AGAINST = -3.0  # pooled standard errors
LEAST_SPREAD = 0.05  # of the range of all rises: the floor of their pooled standard deviation


@dataclass(frozen=True)
class Ways:
    """`rewarded`, `plain`: mean rise of the potential on pairs with and without a reward. `score`: their difference in
    pooled standard errors; `pairs`: how many of either kind."""

    score: float
    rewarded: float
    plain: float
    pairs: tuple[int, int]

    @property
    def against(self) -> bool:
        """Clearly falls, or rises less, on the way to the reward."""
        return self.score < CLEARLY_AGAINST

    def words(self) -> str:
        return (
            f"recorded ways to the reward: the potential changes by {self.rewarded:+.3g} on {self.pairs[0]} of them "
            f"and by {self.plain:+.3g} on {self.pairs[1]} others, {self.score:+.1f} standard errors"
        )


def ways_to_reward(
    signal: Signal, spec: TaskSpec, recorded: TransitionSample, scorers: Scorers = NO_SCORERS
) -> Ways | None:
    """None where nothing can be said: no potential, or too few pairs. Event terms are not looked at."""
    if all(isinstance(term, EventTerm) for term in signal.terms):
        return None
    compiled, r = CompiledSignal(signal, spec, scorers), recorded
    rewarded = _rises(compiled, (r.rewarded_from, r.rewarded_from_obs), (r.rewarded_to, r.rewarded_to_obs))
    plain = _rises(compiled, (r.plain_from, r.plain_from_obs), (r.plain_to, r.plain_to_obs))
    if min(len(rewarded), len(plain)) < ENOUGH:
        return None
    means = float(rewarded.mean()), float(plain.mean())
    return Ways(_score(rewarded, plain), *means, (len(rewarded), len(plain)))


States = tuple[list[FloatArray], list[FloatArray]]  # features, observations


def _rises(compiled: CompiledSignal, start: States, end: States) -> NDArray[np.float64]:
    """[P]: mean over the agents with a potential of its change."""
    if not start[0]:
        return np.zeros(0)
    before, after = compiled.heights(*start), compiled.heights(*end)
    masks = compiled.potential_agents()
    changes = [(b.astype(np.float64) - a)[:, mask] for a, b, mask in zip(before, after, masks, strict=True)]
    return np.asarray(np.concatenate(changes, axis=1).mean(axis=1))


def _score(rewarded: NDArray[np.float64], plain: NDArray[np.float64]) -> float:
    """Difference of means in pooled standard errors; 0 where nothing ever changes."""
    n, m = len(rewarded), len(plain)
    squares = np.sum((rewarded - rewarded.mean()) ** 2) + np.sum((plain - plain.mean()) ** 2)
    spread = float(np.ptp(np.concatenate([rewarded, plain])))
    if spread < 1e-9:
        return 0.0
    deviation = max(float(np.sqrt(squares / (n + m - 2))), LEAST_SPREAD * spread)
    return float((rewarded.mean() - plain.mean()) / (deviation * np.sqrt(1 / n + 1 / m)))
