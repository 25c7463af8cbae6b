"""Scorers against the gains of their branches: which gain is whose, and from how many on a correlation is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from cosignal.runs.run_view import RunView
from cosignal.runs.scorer_record import ENOUGH, rank_correlation, scorer_record


def named(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**values)


def view(number: int, raced: bool = False) -> RunView:
    """Of so many points; the better a scorer finds the good end, the more its proposal gains, the first one apart."""
    points = range(number)
    groups = [{"0": named(scorer=f"s{p}", one_to_many=p / number, accuracy=None if p % 2 else 0.5)} for p in points]
    term = [named(scorers=(f"s{p}",)) for p in points]
    proposals = [named(id=f"p{p}-r0-0", point=p, signal=named(terms=[term[p]])) for p in points]
    other = [named(id=f"p{p}-r0-1", point=p, signal=named(terms=[named(scorers=())])) for p in points]
    gain = [float(p or number) for p in points]
    arms = [
        named(detail=named(arms=[named(arm=f"p{p}-r0-0", gain=gain[p]), named(arm=f"p{p}-r0-1", gain=-9.0)]))
        for p in points
    ]
    rungs = [
        [named(control=named(mean=1.0), arms=[named(arm=f"p{p}-r0-0", mean=mean)]) for mean in (0.0, 1 + gain[p])]
        for p in points
    ]
    return cast(
        RunView,
        named(
            rankings=lambda: [named(point=p, detail=named(groups=groups[p])) for p in points],
            proposals=lambda: [*other, *proposals],
            decisions=lambda: [] if raced else arms,
            races=lambda: [named(detail=named(rungs=rungs[p])) for p in points] if raced else [],
        ),
    )


@pytest.mark.parametrize("raced", [False, True])
def test_the_gain_is_that_of_the_proposal_with_the_scorer(raced: bool) -> None:
    found = scorer_record(view(11, raced))
    # ranks 1 to 11 but for the first, which gains most: 1 − 6·(10² + 10·1²) / (11·120)
    assert found.number == 11
    assert found.one_to_many == pytest.approx(1 - 6 * (10**2 + 10) / (11 * 120))
    assert found.accuracy is None  # it does not vary


def test_with_fewer_than_ten_nothing_is_said() -> None:
    assert scorer_record(view(ENOUGH - 1)).one_to_many is None
    assert rank_correlation([(1.0, float(i)) for i in range(20)]) is None
