"""What leaves the potentials in force: by removal, by weakening and with age, in one arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.signals.critic_offset import (
    annealed_potential,
    at_age,
    carried_over,
    leaving_potentials,
    only_leaves_out,
    only_potentials_leave,
    potentials_that_stay,
    removed_potential,
)
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.task import TaskSpec
from hypothesis import given
from hypothesis import strategies as st

SCOUTS = np.array([[1.0, 0.0], [4.0, 1.0]], np.float32)  # [agent] (dist, seen)
LIFTER = np.array([[5.0, 7.0]], np.float32)  # (load, dist)


def potential(expression: str = "dist", **more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": expression, **more})


def signal(*terms: PotentialTerm | EventTerm, **more: Any) -> Signal:
    return Signal(**{"beta": 0.5, "scale": 2.0, "terms": terms, **more})


def value(spec: TaskSpec, *signals: Signal | None) -> float:
    """Σ beta · scale · w Φ of the second scout (dist 4, seen 1)."""
    compiled = [CompiledSignal(s, spec) for s in signals if s is not None]
    return float(sum(c.strength * c.potential([SCOUTS, LIFTER])[0][1] for c in compiled))


# ------------------------------------------------------------ removal


def test_what_goes_leaves_and_what_stays_or_enters_does_not(spec: TaskSpec) -> None:
    old = signal(potential(weight=3), potential("seen", name="b"), EventTerm(name="e", event="found"))
    left = removed_potential(old, signal(potential("seen", name="b"), potential("load", name="c")))
    assert left == Signal(beta=0.5, scale=2.0, terms=(potential(weight=3),))
    assert removed_potential(old, old) is None
    assert removed_potential(signal(), old) is None


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (signal(potential(weight=0.5)), 1.5),
        (signal(potential(weight=2), beta=0.25), 1.0),
        (signal(potential(weight=2), scale=0.5), 1.5),
        (signal(potential(weight=-1)), 2.0),  # all of it leaves, and another one enters
        (signal(potential(weight=5)), 0.0),
    ],
)
def test_what_weakens_leaves_with_the_difference(spec: TaskSpec, now: Signal, left: float) -> None:
    """Of beta · scale · w = 2 on dist."""
    assert value(spec, removed_potential(signal(potential(weight=2)), now)) == pytest.approx(left * 4)


def test_two_terms_of_one_potential_are_one_strength(spec: TaskSpec) -> None:
    one, other = potential(weight=0.5), potential(name="again", weight=1.0)
    old = signal(one, other)
    assert removed_potential(old, old) is None
    assert removed_potential(old, signal(potential(weight=1.5))) is None
    assert value(spec, removed_potential(old, signal(one))) == pytest.approx(1.0 * 4)
    assert value(spec, removed_potential(old, signal(other))) == pytest.approx(0.5 * 4)


def test_a_signal_without_a_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze it first"):
        removed_potential(signal(potential()), signal(potential(), scale=None))


# ------------------------------------------------------------ annealing


def test_annealing_takes_away_with_the_age(spec: TaskSpec) -> None:
    s = signal(potential(weight=2, anneal_steps=1000), potential("seen", name="stays", weight=3))
    assert annealed_potential(s, 0) is None
    left = annealed_potential(s, 250)
    assert left == Signal(beta=0.5, scale=2.0, terms=(potential(weight=0.5),))
    assert [term.weight for term in at_age(s, 250).terms] == [1.5, 3]
    assert value(spec, annealed_potential(s, 1000)) == value(spec, annealed_potential(s, 9999)) == 2 * 4


@given(
    st.floats(-10, 10, allow_subnormal=False), st.floats(-10, 10, allow_subnormal=False), st.integers(1000, 10**6),
    st.integers(0, 10**6), st.floats(0, 2), st.floats(1e-3, 1e3),
)  # fmt: skip
def test_what_left_and_what_remains_are_the_whole_at_every_age(
    spec: TaskSpec, one: float, other: float, over: int, age: int, beta: float, scale: float
) -> None:
    """Also for two terms of one potential, and whatever their signs."""
    terms = potential(weight=one, anneal_steps=over), potential(name="again", weight=other)
    s = signal(*terms, beta=beta, scale=scale)
    whole = value(spec, at_age(s, age), annealed_potential(s, age))
    assert whole == pytest.approx(value(spec, s), rel=1e-5, abs=1e-4 * max(1.0, beta * scale))


@given(st.integers(0, 2000), st.booleans(), st.floats(0, 1))
def test_a_replaced_signal_leaves_in_two_parts_that_are_one(
    spec: TaskSpec, age: int, stays: bool, weight: float
) -> None:
    """What had annealed, and of the rest what the new signal does not have: together all but what is still there."""
    old = signal(potential(weight=2, anneal_steps=1000), potential("seen", name="b", weight=3))
    asked = signal(*[potential(weight=2 * weight, anneal_steps=1000)] if stays else [])
    new = carried_over(asked, old, age)
    offsets = annealed_potential(old, age), removed_potential(at_age(old, age), new)
    assert value(spec, new, *offsets) == pytest.approx(value(spec, old), rel=1e-5)


def test_a_term_that_stays_goes_on_from_what_it_has_left() -> None:
    old = signal(potential(weight=2, anneal_steps=1000), EventTerm(name="e", event="found"))
    assert carried_over(old, old, 0) == old
    kept = carried_over(old, old, 600)
    fading = EventTerm(name="e", event="found", weight=0.0998)  # 600 of 300 000 steps have gone
    assert kept.terms == (potential(weight=0.8, anneal_steps=1000), fading)
    assert carried_over(kept, old, 600) == kept  # said again, as by a replayed log
    assert carried_over(old, old, 5000).terms[0].weight == 0


@pytest.mark.parametrize(
    "asked",
    [
        potential(weight=0.3, anneal_steps=1000),  # less than it has left
        potential(weight=4, anneal_steps=1000),  # more than it began with: it is meant to grow
        potential(weight=2),  # meant to stay for good
        potential("seen", weight=2, anneal_steps=1000),  # another one of that name
        potential(name="another", weight=2, anneal_steps=1000),
    ],
)
def test_what_is_not_that_term_is_as_it_was_asked_for(asked: PotentialTerm) -> None:
    old = signal(potential(weight=2, anneal_steps=1000))
    assert carried_over(signal(asked), old, 600) == signal(asked)


# ------------------------------------------------------------ leaving, and nothing else

STAYS, ANNEALS = potential(name="stays", weight=3), potential("seen", name="anneals", weight=2, anneal_steps=1000)
BONUS = EventTerm(name="e", event="found")
ALL = signal(STAYS, ANNEALS, BONUS)


@pytest.mark.parametrize(
    ("now", "left_out", "potentials"),
    [
        (signal(ANNEALS, BONUS), True, True),
        (signal(BONUS), True, True),
        (signal(BONUS, ANNEALS), True, True),
        (signal(STAYS, ANNEALS), True, False),  # the bonus was no potential
        (signal(beta=0.1), True, False),  # without terms beta says nothing
        (ALL, False, False),
        (signal(ANNEALS, BONUS, beta=0.4), False, False),
        (signal(ANNEALS, BONUS, scale=3.0), False, False),
        (signal(ANNEALS.model_copy(update={"weight": 1.0}), BONUS), False, False),
        (signal(ANNEALS, potential("load", name="new")), False, False),
    ],
)
def test_what_only_leaves_terms_out(now: Signal, left_out: bool, potentials: bool) -> None:
    assert (only_leaves_out(now, ALL), only_potentials_leave(now, ALL)) == (left_out, potentials)


def test_potentials_that_anneal_do_not_stay() -> None:
    assert list(potentials_that_stay(ALL)) == [STAYS]


@given(st.integers(0, 2000), st.integers(0, 2000), st.booleans())
def test_with_the_age_kept_reward_and_offset_are_the_whole_potential_at_every_later_age(
    spec: TaskSpec, left_at: int, later: int, goes_too: bool
) -> None:
    """Whatever had annealed by then: of what stays, the annealed part is counted under the new signal, and once."""
    new = signal(*[] if goes_too else [ANNEALS], BONUS)
    offsets = leaving_potentials(ALL, left_at, new, left_at)
    age = left_at + later
    assert value(spec, at_age(new, age), annealed_potential(new, age), *offsets) == pytest.approx(value(spec, ALL))


def test_begun_anew_at_the_old_age_it_would_be_counted_twice(spec: TaskSpec) -> None:
    new = signal(ANNEALS, BONUS)
    wrong = leaving_potentials(ALL, 600, new, 0)
    assert value(spec, at_age(new, 600), annealed_potential(new, 600), *wrong) == pytest.approx(14.0 + 0.6 * 2)
