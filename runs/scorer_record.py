"""What a run's scorers were worth: how well each finds the good end of an episode, against the gain of its branches.

A scorer that is right more often need not teach more. RewardMATH (Kim et al. 2024) found that one-to-many accuracy goes
with what a policy gains, and accuracy on single pairs does not; here both are held against what branches measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .run_view import RunView

ENOUGH = 10  # scorers, from which on a correlation says anything


@dataclass(frozen=True)
class ScorerRecord:
    """The scorers of a run that were tried.

    Attributes:
        number: of points at which a proposal with scorers was tried.
        one_to_many: rank correlation of the one-to-many accuracy with the gain; None below `ENOUGH`, or where one of
            them does not vary.
        accuracy: the same of the accuracy on votes kept apart.
    """

    number: int
    one_to_many: float | None
    accuracy: float | None


def scorer_record(view: RunView) -> ScorerRecord:
    """Read what the scorers of all points were worth."""
    gains = {arm.arm: arm.gain for decision in view.decisions() for arm in decision.detail.arms}
    for race in view.races():
        # the last look at each arm, against the control's at the same rung
        gains |= {x.arm: x.mean - rung.control.mean for rung in race.detail.rungs for x in rung.arms}
    rows = []
    for ranking in view.rankings():
        groups = ranking.detail.groups.values()
        names = {group.scorer for group in groups}
        for proposal in view.proposals():
            used = {name for term in proposal.signal.terms for name in term.scorers}
            gain = gains.get(proposal.id)
            if proposal.point == ranking.point and names & used and gain is not None:
                rows.append((_mean([x.one_to_many for x in groups]), _mean([x.accuracy for x in groups]), gain))
                break
    return ScorerRecord(
        number=len(rows),
        one_to_many=rank_correlation([(x, gain) for x, _, gain in rows if x is not None]),
        accuracy=rank_correlation([(x, gain) for _, x, gain in rows if x is not None]),
    )


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's correlation; None with too few pairs, or where a side does not vary."""
    if len(pairs) < ENOUGH or min(np.ptp(side) for side in zip(*pairs, strict=True)) == 0:
        return None
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
