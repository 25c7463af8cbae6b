"""The checks that cost no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.shaping import freeze
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.task import TaskSpec

Record = Callable[..., TransitionSample]
PLAIN = Signal(scale=1.0)
NEAR = PotentialTerm(name="near", expression="-dist / 10")
FOUND = EventTerm(name="found", event="found", weight=0.1)
BOTH = Signal(version=3, scale=2.0, beta=0.5, terms=(NEAR, FOUND))


def signal(*terms: Any, **more: Any) -> Signal:
    return Signal(**{"beta": 0.5, "terms": terms, **more})


def problems(
    s: Signal, spec: TaskSpec, recorded: TransitionSample, in_force: Signal = PLAIN, rejected: set[str] | None = None
) -> str:
    return " | ".join(check_signal(s, spec, recorded, in_force, rejected or set()).problems)


@pytest.mark.parametrize("terms", [(NEAR,), (FOUND,), (NEAR, FOUND)])
def test_good_signals_pass(spec: TaskSpec, record: Record, terms: Any) -> None:
    assert problems(signal(*terms), spec, record()) == ""


def test_what_does_not_compile_is_the_only_problem(spec: TaskSpec, record: Record) -> None:
    report = check_signal(signal(PotentialTerm(name="a", expression="dits")), spec, record(), PLAIN, set())
    assert len(report.problems) == 1
    assert "did you mean 'dist'" in report.problems[0]


@pytest.mark.parametrize(
    "s",
    [
        signal(PotentialTerm(name="a", expression="4")),
        signal(PotentialTerm(name="a", expression="min(dist, 0)")),  # constant on everything recorded
        signal(PotentialTerm(name="a", expression="dist", weight=0)),
        signal(NEAR, beta=0.0),
    ],
)
def test_a_signal_that_shapes_nothing_is_refused(spec: TaskSpec, record: Record, s: Signal) -> None:
    """Whether the one in force shapes something or not."""
    for in_force in (PLAIN, signal(FOUND, scale=2.0)):
        assert "a signal must shape something, got a constant Φ in sum" in problems(s, spec, record(), in_force)


def test_one_constant_term_is_noted_and_no_problem(spec: TaskSpec, record: Record) -> None:
    """A part behind a gate that nobody has passed is constant today."""
    gated = PotentialTerm(name="gated", expression="(seen > 1) * (1 - dist / 10)", agents="scouts")
    for beside in (NEAR, FOUND):
        report = check_signal(signal(gated, beside), spec, record(), PLAIN, set())
        assert report.problems == []
        assert any("'gated' is constant on recorded states" in note for note in report.notes)
    assert "must shape something" in problems(signal(gated), spec, record())
    unseen = replace(record(), events=[np.zeros_like(x) for x in record().events])
    assert "no event that is paid" in problems(signal(gated, FOUND), spec, unseen)
    assert problems(signal(gated, FOUND), spec, record(0, ends=0)) == ""  # nothing is known yet
    # Another exploration is an idea of its own, where arms explore differently.
    explores = signal(gated, exploration=Exploration(kick=0.5))
    assert check_signal(explores, spec, record(), PLAIN, set(), taken=[Exploration()]).problems == []


def test_what_only_keeps_terms_may_shape_nothing(spec: TaskSpec, record: Record) -> None:
    """With a kick it is no removal."""
    flat = PotentialTerm(name="flat", expression="4")
    for terms in ((), (flat,)):
        kicked = signal(*terms, exploration=Exploration(kick=0.05))
        assert problems(kicked, spec, record(), signal(NEAR, flat, scale=2.0)) == ""


def test_where_arms_explore_differently_another_exploration_is_an_idea_of_its_own(
    spec: TaskSpec, record: Record
) -> None:
    """But for those under which the signal in force is tried anyway; a twin with other terms passes either way."""
    in_force = signal(NEAR, scale=4.0)
    taken = [Exploration(), Exploration(kick=0.05)]

    def lines(s: Signal, taken: list[Exploration] | None) -> list[str]:
        return check_signal(s, spec, record(), in_force, set(), taken=taken).problems

    for kick, passes in ((None, False), (0.05, False), (0.5, True)):
        explores = Exploration(kick=kick)
        again = signal(NEAR, exploration=explores)
        assert (lines(again, taken) == []) == passes
        assert lines(again, None)
        assert lines(signal(FOUND, exploration=explores), taken) == []


def test_trivial_against_the_signal_in_force(spec: TaskSpec, record: Record) -> None:
    in_force = signal(NEAR, scale=4.0)
    shifted = signal(PotentialTerm(name="b", expression="(20 - dist) / 10"))
    assert "must differ" in problems(shifted, spec, record(), in_force)
    assert problems(signal(NEAR, beta=0.8), spec, record(), in_force) == ""
    assert problems(signal(PotentialTerm(name="b", expression="dist")), spec, record(), in_force) == ""


def test_another_unit_is_the_same_signal_since_the_scale_is_frozen_anew(spec: TaskSpec, record: Record) -> None:
    in_force = freeze(signal(NEAR), PLAIN, spec, record(), spec.return_range)
    assert "must differ" in problems(signal(PotentialTerm(name="b", expression="-dist")), spec, record(), in_force)


def test_the_signal_in_force_itself_is_refused(spec: TaskSpec, record: Record) -> None:
    assert "is the one in force (version 3)" in problems(BOTH.model_copy(update={"version": 0}), spec, record(), BOTH)
    kicked = BOTH.model_copy(update={"exploration": Exploration(kick=0.05)})
    assert "but for exploration" in problems(kicked, spec, record(), BOTH)


def test_rejected_signals_are_not_tried_again(spec: TaskSpec, record: Record) -> None:
    rejected = {signal(NEAR, scale=7.0, version=2).proposal_hash()}
    assert "was rejected before" in problems(signal(NEAR), spec, record(), PLAIN, rejected)
    assert problems(signal(FOUND), spec, record(), PLAIN, rejected) == ""


def test_events_that_can_be_farmed_are_refused(spec: TaskSpec, record: Record) -> None:
    turned = EventTerm(name="t", event="turned", weight=0.005)
    assert "'turned' can be farmed" in problems(signal(NEAR, turned), spec, record())


def test_event_bonuses_are_bounded_with_their_scale(spec: TaskSpec, record: Record) -> None:
    """The return range is 4 wide: a bonus is at most 1."""
    flat = PotentialTerm(name="flat", expression="dist / 1000")  # makes the scale about 400
    found = problems(signal(flat, FOUND), spec, record())
    assert "beta · scale · weight must be at most 1, got 2" in found
    assert "lower its weight to 0.0" in found
    strong = EventTerm(name="found", event="found", weight=1.0)
    assert problems(signal(strong), spec, record()) == ""  # 0.5 · 1 · 1
    assert "at most 1, got 2" in problems(signal(strong, beta=2.0), spec, record())


def test_features_that_are_not_finite(spec: TaskSpec, record: Record) -> None:
    recorded = record()
    recorded.last_features[0][3, 1, 0] = np.inf
    assert "'dist' of group 'scouts' is not finite" in problems(signal(NEAR), spec, recorded)
    assert problems(signal(PotentialTerm(name="l", expression="load")), spec, recorded) == ""


def with_ends(recorded: TransitionSample, good: float, bad: float, noise: float = 0.5) -> TransitionSample:
    """Every agent's `dist` at the ends of episodes: about `good` where they succeeded and `bad` where not."""
    ends = [x.copy() for x in recorded.end_features]
    rng = np.random.default_rng(0)
    mean = np.where(recorded.end_success, good, bad)[:, None]
    for x, column in zip(ends, (0, 1), strict=True):
        x[:, :, column] = mean + noise * rng.standard_normal(x.shape[:2])
    return replace(recorded, end_features=ends)


def test_potentials_that_are_lower_where_episodes_succeed(spec: TaskSpec, record: Record) -> None:
    far = with_ends(record(), good=8, bad=2)
    assert "mean -0.797 of 10 successful, -0.211 of 10 failed; it must not be clearly lower" in problems(
        signal(NEAR), spec, far
    )
    near = with_ends(record(), good=2, bad=8)
    report = check_signal(signal(NEAR), spec, near, PLAIN, set())
    assert report.problems == []
    assert any("of 10 successful" in note for note in report.notes)
    assert problems(signal(NEAR), spec, with_ends(record(), good=5.2, bad=5)) == ""  # within one standard deviation
    assert problems(signal(NEAR), spec, with_ends(record(ends=8), good=8, bad=2)) == ""  # four of each say too little


def test_without_successes_the_ends_are_not_applicable(spec: TaskSpec, record: Record) -> None:
    recorded = replace(record(), end_success=np.zeros(20, np.float32))
    report = check_signal(signal(NEAR), spec, recorded, PLAIN, set())
    assert report.problems == []
    assert any("not applicable (episodes of both outcomes" in note for note in report.notes)
    blind = spec.model_copy(update={"has_success": False})
    assert any("no success test" in note for note in check_signal(signal(NEAR), blind, recorded, PLAIN, set()).notes)


def test_notes_on_clipped_and_constant_potentials(spec: TaskSpec, record: Record) -> None:
    clipped = PotentialTerm(name="big", expression="dist * 20")
    report = check_signal(signal(clipped, PotentialTerm(name="flat", expression="1")), spec, record(), PLAIN, set())
    assert any("'big' is clipped at ±100" in note for note in report.notes)
    assert any("'flat' is constant" in note for note in report.notes)


def test_nothing_recorded_is_no_problem(spec: TaskSpec, record: Record) -> None:
    assert problems(signal(NEAR), spec, record(0, ends=0)) == ""


def changed(term: Any, **more: Any) -> Any:
    return term.model_copy(update=more)


def test_a_removal_is_not_asked_about_its_potentials(spec: TaskSpec, record: Record) -> None:
    far = with_ends(record(), good=8, bad=2)
    for s in (signal(), signal(changed(NEAR, weight=0.99), FOUND)):
        report = check_signal(s, spec, far, BOTH, set())
        assert report.problems == []
        assert any("judged by non-inferiority" in note for note in report.notes)
    assert "was rejected before" in problems(signal(), spec, far, BOTH, {signal().proposal_hash()})
