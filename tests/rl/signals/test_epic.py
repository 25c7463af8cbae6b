"""EPIC: 0 for a potential and a positive factor, 1 for the sign, and a metric in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.distance import SignalComparison
from cosignal.rl.signals.epic import UNCORRELATED, canonical
from cosignal.rl.signals.preview import preview_signal
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm, TableTerm, Term
from cosignal.rl.signals.terms.table import TableRow
from cosignal.rl.task import TaskSpec
from hypothesis import given, settings
from hypothesis import strategies as st

GAMMA = 0.9
FOUND = EventTerm(name="found", event="found", weight=0.5)
LIFTED = EventTerm(name="lifted", event="lifted", weight=0.5)
NEAR = PotentialTerm(name="near", expression="-dist / 10")
SEEN = PotentialTerm(name="seen", expression="exp(seen) - dist * seen / 5")


def signal(*terms: Term, beta: float = 0.5) -> Signal:
    return Signal(beta=beta, scale=1.0, terms=terms)


@pytest.fixture
def distance(spec: TaskSpec, record: Callable[..., TransitionSample]) -> Callable[..., float]:
    comparison = SignalComparison(spec, record(), Signal(), (-1.0, 3.0))

    def of(one: Signal, other: Signal) -> float:
        found = comparison.epic_distance(one, other, GAMMA)
        assert found is not None
        return found

    return of


def test_a_potential_and_a_positive_factor_are_nothing_and_the_sign_is_everything(
    distance: Callable[..., float],
) -> None:
    plain = signal(FOUND, LIFTED)
    assert distance(plain, plain) == 0
    assert distance(plain, signal(FOUND, LIFTED, NEAR, SEEN)) == pytest.approx(0, abs=1e-3)
    assert distance(plain, signal(FOUND, LIFTED, beta=1.5)) == pytest.approx(0, abs=1e-3)
    turned = [term.model_copy(update={"weight": -0.5}) for term in (FOUND, LIFTED)]
    assert distance(plain, signal(*turned)) == pytest.approx(1, abs=1e-3)
    # two potentials bend nothing, and no potential is like what does
    assert distance(signal(NEAR), signal(SEEN)) == 0
    assert distance(signal(NEAR), plain) == UNCORRELATED


def test_a_table_that_pays_for_ends_is_a_potential_at_gamma_1_only(
    spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    """Hand-computed: without discount its payments telescope, and C takes them out."""
    table = TableTerm(name="t", rows=(TableRow(when="dist < 5", worth=1.0),), agents="scouts")
    compiled = CompiledSignal(signal(table), spec)
    assert not canonical(compiled, record(), 1.0).any()
    assert canonical(compiled, record(), 0.5).any()


@settings(max_examples=25, deadline=None)
@given(weights=st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=3, max_size=3))
def test_the_triangle_inequality(
    spec: TaskSpec, record: Callable[..., TransitionSample], weights: list[tuple[float, float, float]]
) -> None:
    comparison = SignalComparison(spec, record(), Signal(), (-1.0, 3.0))
    signals = [
        signal(*(term.model_copy(update={"weight": w}) for term, w in zip((FOUND, LIFTED, NEAR), row, strict=True)))
        for row in weights
    ]
    (ab, bc, ac) = (comparison.epic_distance(signals[i], signals[j], GAMMA) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert ab is not None
    assert bc is not None
    assert ac is not None
    assert ac <= ab + bc + 1e-6
    assert 0 <= ac <= 1


def test_the_preview_has_the_nearest_first(spec: TaskSpec, record: Callable[..., TransitionSample]) -> None:
    comparison = SignalComparison(spec, record(), signal(NEAR), (-1.0, 3.0))
    wrong = NEAR.model_copy(update={"expression": "nothing"})
    earlier = [("a", signal(LIFTED)), ("b", signal(FOUND, SEEN)), ("wrong", signal(wrong))]
    preview = preview_signal(signal(FOUND), comparison, GAMMA, earlier)
    assert [key for key, _ in preview.epic_distances] == ["b", "a"]
    assert preview.epic_distances[0][1] == pytest.approx(0, abs=1e-3)
    assert preview.epic_in_force == UNCORRELATED
    nothing = record(n=0, ends=0)
    assert np.isnan(nothing.reward).sum() == 0
    assert SignalComparison(spec, nothing, Signal(), None).epic_distance(signal(FOUND), signal(LIFTED), GAMMA) is None
