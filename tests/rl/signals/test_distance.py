"""The distance of two signals: its laws on arrays and on signals, and numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.distance import SignalComparison
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.state_pairs import pearson_distance
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.task import TaskSpec
from hypothesis import assume, given
from hypothesis import strategies as st

Record = Callable[..., TransitionSample]
PLAIN = Signal(scale=1.0)


def arrays(count: int) -> st.SearchStrategy[list[np.ndarray]]:
    one = st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6).map(np.array)
    return st.lists(one, min_size=count, max_size=count)


@given(arrays(2), st.floats(0.01, 100), st.floats(-100, 100))
def test_the_laws_of_the_distance(both: list[np.ndarray], scale: float, constant: float) -> None:
    a, b = both
    assume(min(a.std(), b.std()) > 1e-3)
    d = pearson_distance(a, b)
    assert d is not None
    assert 0.0 <= d <= 1.0
    assert d == pearson_distance(b, a)
    assert pearson_distance(a, a) == 0.0
    assert pearson_distance(a, -a) == pytest.approx(1.0)
    assert pearson_distance(scale * a + constant, b) == pytest.approx(d, abs=1e-6)
    assert 1 - 2 * d**2 == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    assert pearson_distance(np.full(6, constant), a) is None


@given(arrays(3))
def test_no_way_is_shorter_than_the_straight_one(three: list[np.ndarray]) -> None:
    assume(min(x.std() for x in three) > 1e-3)
    ab, bc, ac = (pearson_distance(three[i], three[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert ac <= ab + bc + 1e-9


# ------------------------------------------------------------ of signals


def potential(weights: tuple[float, float, float], constant: float = 0.0, factor: float = 1.0) -> Signal:
    """Φ is a mixture of what scouts have and one condition, times `factor` and plus a constant."""
    dist, seen, near = (factor * weight for weight in weights)
    text = f"{dist:.6f} * dist + {seen:.6f} * seen + {near:.6f} * (dist < 3) + {constant:.6f}"
    return Signal(terms=(PotentialTerm(name="phi", expression=text, agents="scouts"),))


WEIGHTS = st.tuples(*[st.floats(-1, 1).map(lambda x: round(x, 2))] * 3).filter(lambda w: max(map(abs, w)) >= 0.1)


@given(WEIGHTS, WEIGHTS, st.floats(0.1, 5), st.floats(-20, 20))
def test_scale_and_constants_of_a_potential_do_not_count(
    spec: TaskSpec, record: Record, one: Any, other: Any, factor: float, constant: float
) -> None:
    compare = SignalComparison(spec, record(60), PLAIN, spec.return_range)
    a, b = potential(one), potential(other)
    d = compare.distance(a, b)
    assert d is not None and 0.0 <= d <= 1.0
    assert d == compare.distance(b, a)
    assert compare.distance(a, a) == 0.0
    assert compare.distance(potential(one, constant, factor), b) == pytest.approx(d, abs=1e-4)


def test_what_is_compared_is_what_is_paid_by_hand(spec: TaskSpec, record: Record) -> None:
    """The first scout's `dist` goes from 5 to 4, from 5 to 6, and stays; everybody else stays.

    The potential pays it (−1, 1, 0) and the event (1, 0, 0), in some unit. Over three agents and three steps, centred,
    ρ = −1 / √(2 · (1 − 1/9)) = −0.75.
    """
    recorded = record(3)
    features = [np.zeros_like(x) for x in recorded.features]
    features[0][..., 0] = 5
    after = [x.copy() for x in features]
    after[0][:, 0, 0] = [4, 6, 5]
    events = [np.zeros_like(x) for x in recorded.events]
    events[0][0, 0, 0] = 1
    sample = replace(recorded, features=features, last_features=after, events=events, terminated=np.ones(3, bool))
    near = Signal(terms=(PotentialTerm(name="phi", expression="dist + 40"),))
    found = Signal(terms=(EventTerm(name="found", event="found"),))
    compare = SignalComparison(spec, sample, PLAIN, spec.return_range)
    assert compare.distance(near, found) == pytest.approx(np.sqrt((1 + 0.75) / 2))
    assert compare.distance(near, PLAIN) is None


def test_agents_in_another_order_are_as_far_apart(spec: TaskSpec, record: Record) -> None:
    recorded = record()
    turned = {
        name: [x[:, ::-1] for x in getattr(recorded, name)]
        for name in ("features", "last_features", "events", "end_features")
    }
    scouts, lifters = spec.groups
    other_spec = spec.model_copy(
        update={"groups": (scouts.model_copy(update={"agents": scouts.agents[::-1]}), lifters)}
    )
    own = PotentialTerm(name="phi", expression="min_mates(dist) - dist / 2", agents=["scout_0", "lifter_0"])
    signals = (
        Signal(terms=(own,)),
        Signal(terms=(EventTerm(name="e", event="found", weight=1, agents=["scout_1"]), own)),
    )
    one = SignalComparison(spec, recorded, PLAIN, spec.return_range).distance(*signals)
    other = SignalComparison(other_spec, replace(recorded, **turned), PLAIN, spec.return_range).distance(*signals)
    assert one == pytest.approx(other, rel=1e-9)
    assert one > 0.01


# ------------------------------------------------------------ twins, one difference at a time

NEAR = PotentialTerm(name="near", expression="-dist / 10")
FOUND = EventTerm(name="found", event="found", weight=0.1)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"expression": "-0.1 * dist"}, True),
        ({"expression": "1 - dist / 10"}, True),  # a constant of Φ
        ({"weight": 3.0}, True),  # the scale is frozen so that it pays the same
        ({"weight": -1.0}, False),
        ({"expression": "-dist / 10 - seen / 1000"}, False),
        ({"agents": "scouts"}, False),
        ({"agents": ["scout_0", "scout_1", "lifter_0"]}, True),
        ({"anneal_steps": 50_000}, False),
    ],
)
def test_twins_pay_the_same(spec: TaskSpec, record: Record, other: dict[str, Any], same: bool) -> None:
    one, another = (Signal(terms=(term,)) for term in (NEAR, NEAR.model_copy(update={"name": "b", **other})))
    scouts_and_lifter = SignalComparison(spec, record(), PLAIN, spec.return_range)
    assert scouts_and_lifter.twins(one, another) == same
    assert scouts_and_lifter.twins(another, one) == same


@pytest.mark.parametrize(
    ("changes", "same", "at_any_strength"),
    [
        ({"beta": 0.7}, False, True),
        ({"exploration": Exploration(kick=0.1)}, False, True),
        ({"terms": (NEAR, FOUND.model_copy(update={"weight": 0.2}))}, False, False),
        ({"terms": (NEAR, FOUND.model_copy(update={"decay_steps": 50_000}))}, False, False),
        ({"terms": (FOUND.model_copy(update={"name": "x"}), NEAR)}, True, True),
        ({"terms": (NEAR, *(FOUND.model_copy(update={"name": x, "weight": 0.05}) for x in ("a", "b")))}, True, True),
        ({"scale": 40.0}, False, True),
    ],
)
def test_twins_are_as_strong_and_explore_alike_unless_neither_is_asked(
    spec: TaskSpec, record: Record, changes: dict[str, Any], same: bool, at_any_strength: bool
) -> None:
    one = Signal(terms=(NEAR, FOUND))
    other = one.model_copy(update=changes)
    compare = SignalComparison(spec, record(), PLAIN, spec.return_range)
    assert compare.twins(one, other) == compare.twins(other, one) == same
    assert compare.twins(one, other, at_any_strength=True) == at_any_strength


def test_what_pays_nothing_on_recorded_transitions_is_not_known_to_be_a_twin(spec: TaskSpec, record: Record) -> None:
    """Nor are two signals that differ behind a condition that never held in the run."""
    recorded = record()
    for states in (*recorded.features[:1], *recorded.last_features[:1]):
        states[..., 1] = 0  # nothing was ever seen
    compare = SignalComparison(spec, recorded, PLAIN, spec.return_range)

    def signal(*texts: str) -> Signal:
        terms = (PotentialTerm(name=f"t{i}", expression=text, agents="scouts") for i, text in enumerate(texts))
        return Signal(terms=tuple(terms))

    assert not compare.twins(signal("seen"), signal("seen * 1"))
    closer, farther = signal("-dist", "seen * (10 - dist)"), signal("-dist", "seen * dist")
    assert compare.distance(closer, farther) == 0.0
    assert not compare.twins(closer, farther)
    assert not compare.twins(signal("-dist", "seen * (dist == 4)"), signal("-dist", "seen * (dist == 7)"))
    assert compare.twins(closer, signal("seen * (10 - dist) - dist"))


def test_with_nothing_recorded_there_is_no_distance_and_no_twin(spec: TaskSpec, record: Record) -> None:
    compare = SignalComparison(spec, record(0, ends=0), PLAIN, spec.return_range)
    one = Signal(terms=(NEAR,))
    assert compare.distance(one, one) is None
    assert not compare.twins(one, one)


def test_a_signal_that_does_not_fit_the_task_has_no_distance_and_no_twin(spec: TaskSpec, record: Record) -> None:
    compare = SignalComparison(spec, record(), PLAIN, spec.return_range)
    wrong = Signal(terms=(PotentialTerm(name="a", expression="dits"),))
    assert compare.distance(wrong, Signal(terms=(NEAR,))) is None
    assert not compare.twins(wrong, wrong)
